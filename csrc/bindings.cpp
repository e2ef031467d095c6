// The border between Python and the kernels. Tensors of torch enter as addresses after one check in kernels/cpu.py
// (nanobind takes microseconds to look at a tensor); NumPy arrays enter typed. The GIL is released in every kernel.
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

void bind_crf(nb::module_& m);  // bindings_crf.cpp

namespace {

using Address = std::uintptr_t;
using Size = std::int64_t;

template <class T> T* pointer(Address address) { return reinterpret_cast<T*>(address); }

template <class Real>
tidegate::GruForward<Real> forward_arguments(Address gates, Address weight_hh, Address bias_n, Address h_0,
                                             Address output, Address h_n, Address saved, Address batch_sizes,
                                             Size steps, Size values, int directions, int rows, int units,
                                             bool reset_after, int threads) {
  return {pointer<const Real>(gates), pointer<const Real>(weight_hh), pointer<const Real>(bias_n),
          pointer<const Real>(h_0), pointer<Real>(output), pointer<Real>(h_n), pointer<Real>(saved),
          pointer<const std::int64_t>(batch_sizes), steps, values, directions, rows, units, reset_after, threads};
}

template <class Real>
tidegate::GruBackward<Real> backward_arguments(Address grad_output, Address grad_h_n, Address saved, Address output,
                                               Address weight_hh, Address h_0, Address grad_gates, Address grad_h_0,
                                               Address batch_sizes, Size steps, Size values, int directions, int rows,
                                               int units, bool reset_after, int threads) {
  return {pointer<const Real>(grad_output), pointer<const Real>(grad_h_n), pointer<const Real>(saved),
          pointer<const Real>(output), pointer<const Real>(weight_hh), pointer<const Real>(h_0),
          pointer<Real>(grad_gates), pointer<Real>(grad_h_0), pointer<const std::int64_t>(batch_sizes),
          steps, values, directions, rows, units, reset_after, threads};
}

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using MutableFloats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void activate(const std::string& name, Floats from, MutableFloats to) {
  const tidegate::Activation activation = name == "exp"       ? tidegate::Activation::exp
                                          : name == "sigmoid" ? tidegate::Activation::sigmoid
                                          : name == "tanh"
                                              ? tidegate::Activation::tanh
                                              : throw std::invalid_argument("expected exp, sigmoid or tanh; found " + name);
  if (from.size() != to.size()) throw std::invalid_argument("expected two arrays of one size");
  const float* source = from.data();
  float* target = to.data();
  const auto count = static_cast<Size>(from.size());
  nb::gil_scoped_release release;
  tidegate::kernels().activation_float(activation, source, target, count);
}

std::vector<std::string> available_isas() {
  const tidegate::Kernels* found[8];
  const int count = tidegate::available(found, 8);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(found[i]->name);
  return names;
}

void set_isa(const std::string& name) {
  if (tidegate::set_isa(name.c_str())) return;
  std::string legal;
  for (const std::string& isa : available_isas()) legal += (legal.empty() ? "" : ", ") + isa;
  throw std::invalid_argument("this build has no instruction set '" + name + "' that this machine runs; expected one of " + legal);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native kernels of tidegate. Internal: call them through tidegate.kernels.";

  m.def("isa", [] { return std::string(tidegate::kernels().name); }, "The instruction set in use.");
  m.def("available_isas", &available_isas, "The instruction sets that this machine runs, best first.");
  m.def("set_isa", &set_isa, "name"_a, "Choose the instruction set for the whole process; an empty name is the best.");
  m.def("activate", &activate, "name"_a, "source"_a.noconvert(), "target"_a.noconvert(),
        "Apply exp, sigmoid or tanh as the kernels compute it.");

  m.def(
      "gru_forward",
      [](bool is_double, Address gates, Address weight_hh, Address bias_n, Address h_0, Address output, Address h_n,
         Address saved, Address batch_sizes, Size steps, Size values, int directions, int rows, int units,
         bool reset_after, int threads) {
        nb::gil_scoped_release release;
        const auto run = [&](auto real, auto kernel) {
          kernel(forward_arguments<decltype(real)>(gates, weight_hh, bias_n, h_0, output, h_n, saved, batch_sizes,
                                                   steps, values, directions, rows, units, reset_after, threads));
        };
        is_double ? run(double{}, tidegate::kernels().gru_forward_double)
                  : run(float{}, tidegate::kernels().gru_forward_float);
      },
      "is_double"_a, "gates"_a, "weight_hh"_a, "bias_n"_a, "h_0"_a, "output"_a, "h_n"_a, "saved"_a, "batch_sizes"_a,
      "steps"_a, "values"_a, "directions"_a, "rows"_a, "units"_a, "reset_after"_a, "threads"_a,
      "Addresses and sizes as struct GruForward of kernels.h has them.");

  m.def(
      "gru_backward",
      [](bool is_double, Address grad_output, Address grad_h_n, Address saved, Address output, Address weight_hh,
         Address h_0, Address grad_gates, Address grad_h_0, Address batch_sizes, Size steps, Size values,
         int directions, int rows, int units, bool reset_after, int threads) {
        nb::gil_scoped_release release;
        const auto run = [&](auto real, auto kernel) {
          kernel(backward_arguments<decltype(real)>(grad_output, grad_h_n, saved, output, weight_hh, h_0, grad_gates,
                                                    grad_h_0, batch_sizes, steps, values, directions, rows, units,
                                                    reset_after, threads));
        };
        is_double ? run(double{}, tidegate::kernels().gru_backward_double)
                  : run(float{}, tidegate::kernels().gru_backward_float);
      },
      "is_double"_a, "grad_output"_a, "grad_h_n"_a, "saved"_a, "output"_a, "weight_hh"_a, "h_0"_a, "grad_gates"_a,
      "grad_h_0"_a, "batch_sizes"_a, "steps"_a, "values"_a, "directions"_a, "rows"_a, "units"_a, "reset_after"_a,
      "threads"_a, "Addresses and sizes as struct GruBackward of kernels.h has them.");

  bind_crf(m);

  // The variable of the environment is read once, at import; a wrong name stops the import with its reason.
  if (const char* forced = std::getenv("TIDEGATE_ISA")) set_isa(forced);
}
