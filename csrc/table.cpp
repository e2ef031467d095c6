// The table of one instruction set, and what needs no cell: the input's product of a single step, the activations.

#include "cells.h"

namespace tidegate {

#if defined(TIDEGATE_LOW_PRECISION)
namespace TIDEGATE_LOW_PRECISION {
extern const Kernels kernels;
}
namespace TIDEGATE_WHOLE {
extern const CrfKernels crf_kernels;
extern const ScanKernels scan_kernels;
}
#endif

namespace TIDEGATE_ISA {

namespace {

bool served_here(Type type) {
#if defined(TIDEGATE_AMX)
  return type == Type::bfloat16;
#elif defined(TIDEGATE_LOW_PRECISION)
  return type == Type::bfloat16 || type == Type::int8;
#else
  return static_cast<int>(type) >= 0;
#endif
}

#if defined(TIDEGATE_LOW_PRECISION)
const Kernels& elsewhere() { return TIDEGATE_LOW_PRECISION::kernels; }
#else
const Kernels& elsewhere();
#endif

template <class Rnn, class Lstm, class Gru>
auto by_cell(Cell cell, const Rnn& rnn, const Lstm& lstm, const Gru& gru) {
  return cell == Cell::lstm ? lstm() : cell == Cell::gru || cell == Cell::gru_reset_before ? gru() : rnn();
}

void forward(const Forward& a) {
  if (!served_here(a.layout.type)) return elsewhere().forward(a);
  by_cell(a.layout.cell, [&] { rnn_forward(a); }, [&] { lstm_forward(a); }, [&] { gru_forward(a); });
}

void backward(const Backward& a) {
  if (!served_here(a.layout.type)) return elsewhere().backward(a);
  by_cell(a.layout.cell, [&] { rnn_backward(a); }, [&] { lstm_backward(a); }, [&] { gru_backward(a); });
}

std::size_t packed_bytes(const Layout& l) {
  if (!served_here(l.type)) return elsewhere().packed_bytes(l);
  return by_cell(l.cell, [&] { return rnn_packed_bytes(l); }, [&] { return lstm_packed_bytes(l); },
                 [&] { return gru_packed_bytes(l); });
}

void pack(const Forward& a, char* to) {
  if (!served_here(a.layout.type)) return elsewhere().pack(a, to);
  by_cell(a.layout.cell, [&] { rnn_pack(a, to); }, [&] { lstm_pack(a, to); }, [&] { gru_pack(a, to); });
}

std::size_t packed_projection_bytes(const Projection& a) {
  if (!served_here(a.type)) return elsewhere().packed_projection_bytes(a);
  return with_type(a.type, [&](auto type) {
    using T = decltype(type);
    return static_cast<std::size_t>(unit_blocks<typename T::Real>(a.outputs)) * T::Product::panel_bytes(a.inputs);
  });
}

void pack_projection(const Projection& a, const void* weights, const float* scales, char* to) {
  if (!served_here(a.type)) return elsewhere().pack_projection(a, weights, scales, to);
  with_type(a.type, [&](auto type) {
    using T = decltype(type);
    for (int block = 0; block < unit_blocks<typename T::Real>(a.outputs); ++block)
      pack_gates<T>(static_cast<const typename T::Product::Source*>(weights), scales, 1, a.outputs, a.inputs, block, to);
  });
}

template <class T> void project_rows(const Projection& a) {
  using Product = typename T::Product;
  constexpr int width = kLanes<float>;
  const ThreadScope scope;
  Barrier alone;
  alone.reset(1);
  const Share share{0, 1, 0, 1, Product::kBlockRows, &alone};
  const int stride = Product::input_stride(a.inputs);
  const int buffered = round_up(a.rows, Product::kBlockRows);
  auto* inputs = static_cast<typename Product::Input*>(
      workspace(static_cast<std::size_t>(buffered) * stride * sizeof(typename Product::Input)));
  Inputs<Product> in{inputs, stride};
  if constexpr (Product::kConverts)
    for (int row = 0; row < a.rows; ++row)
      Product::convert(a.x + static_cast<std::int64_t>(row) * a.inputs, nullptr, a.inputs, inputs + row * stride);
  else
    in = {a.x, a.inputs};
  products<1, Product>(share, 0, a.rows, unit_blocks<float>(a.outputs), in, a.packed, a.inputs,
                       [&](int row, int rows, int block, int blocks, const float* tile) {
                         for (int m = 0; m < rows; ++m)
                           for (int b = 0; b < blocks; ++b, tile += width) {
                             const int unit = (block + b) * width;
                             const int lanes = a.outputs - unit < width ? a.outputs - unit : width;
                             store_lanes(a.gates + static_cast<std::int64_t>(row + m) * a.outputs + unit,
                                         load<float>(tile) + load_lanes(a.bias + unit, lanes), lanes);
                           }
                       },
                       no_prefetch);
}

void project(const Projection& a) {
  if (!served_here(a.type)) return elsewhere().project(a);
#if !defined(TIDEGATE_LOW_PRECISION)
  if (a.type == Type::float32) return project_rows<Float32>(a);
#endif
#if !defined(TIDEGATE_AMX)
  if (a.type == Type::int8) return project_rows<Int8>(a);
#endif
  project_rows<Bfloat16>(a);
}

void activate(Activation activation, const float* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes<float>) {
    const int lanes = count - i < kLanes<float> ? static_cast<int>(count - i) : kLanes<float>;
    const Vec<float> x = load_lanes(from + i, lanes);
    const Vec<float> y = activation == Activation::exp ? exp(x) : activation == Activation::sigmoid ? sigmoid(x) : tanh(x);
    store_lanes(to + i, y, lanes);
  }
}

#define TIDEGATE_STRING_OF(name) #name
#define TIDEGATE_STRING(name) TIDEGATE_STRING_OF(name)

}  // namespace

#if defined(TIDEGATE_LOW_PRECISION)
using TIDEGATE_WHOLE::crf_kernels;
using TIDEGATE_WHOLE::scan_kernels;
#else
extern const CrfKernels crf_kernels;  // crf.cpp
extern const ScanKernels scan_kernels;  // scan.cpp
#endif

extern const Kernels kernels;
const Kernels kernels{TIDEGATE_STRING(TIDEGATE_ISA),
                      forward,
                      backward,
                      packed_bytes,
                      pack,
                      packed_projection_bytes,
                      pack_projection,
                      project,
                      activate,
                      &crf_kernels,
                      &scan_kernels};

#if !defined(TIDEGATE_LOW_PRECISION)
namespace {
const Kernels& elsewhere() { return kernels; }
}  // namespace
#endif

}  // namespace TIDEGATE_ISA
}  // namespace tidegate
