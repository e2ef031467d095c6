// Tensors of torch on memory of the pool.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace tidegate::bindings {

namespace {

nb::ndarray<nb::pytorch> pooled(const std::vector<std::size_t>& shape, const std::string& type) {
  nb::dlpack::dtype element{static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float), 32, 1};
  if (type == "float64") element.bits = 64;
  if (type == "bfloat16") element = {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
  std::size_t bytes = element.bits / 8;
  for (const std::size_t size : shape) bytes *= size;
  auto* block = new pool::Block(pool::take(bytes));
  const nb::capsule owner(block, [](void* taken) noexcept {
    auto* block = static_cast<pool::Block*>(taken);
    pool::give(*block);
    delete block;
  });
  return nb::ndarray<nb::pytorch>(block->start, shape.size(), shape.data(), owner, nullptr, element,
                                  nb::device::cpu::value, 0);
}

}  // namespace

void bind_pool(nb::module_& m) {
  m.def("pooled", &pooled, "shape"_a, "type"_a,
        "An uninitialised tensor of torch, of float32, float64 or bfloat16, on memory that is kept for the next one.");
  m.def("pool_kept_bytes", &pool::kept_bytes, "Bytes kept for the next tensors.");
  m.def("pool_release", &pool::release, "Give all kept memory back to the system.");
  m.def("pool_set_limit", &pool::set_limit, "bytes"_a, "Keep no more than this; 0 keeps nothing.");
}

}  // namespace tidegate::bindings
