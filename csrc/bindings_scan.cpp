// The border between Python and the kernels of linear recurrences. Tensors enter as addresses after one check in
// kernels/scan_ops.py; the GIL is released in every kernel.
#include <cstdint>

#include <nanobind/nanobind.h>

#include "bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Address = std::uintptr_t;
using Size = std::int64_t;

template <class T> T* pointer(Address address) { return reinterpret_cast<T*>(address); }

tidegate::ScanLayout layout_of(Address batch_sizes, Size steps, Size values, int rows, int units, bool is_complex,
                               bool is_fixed, int threads) {
  tidegate::bindings::check_batch_sizes(pointer<const Size>(batch_sizes), steps, rows, values);
  return {pointer<const Size>(batch_sizes), steps, values, rows, units, is_complex, is_fixed, threads};
}

}  // namespace

void tidegate::bindings::bind_scan(nb::module_& m) {
  m.def(
      "scan_forward",
      [](bool is_double, Address batch_sizes, Size steps, Size values, int rows, int units, bool is_complex,
         bool is_fixed, int threads, Address a, Address b, Address h_0, Address h, Address h_n) {
        nb::gil_scoped_release release;
        const auto layout = layout_of(batch_sizes, steps, values, rows, units, is_complex, is_fixed, threads);
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({layout, pointer<const Real>(a), pointer<const Real>(b), pointer<const Real>(h_0), pointer<Real>(h),
                  pointer<Real>(h_n)});
        };
        const tidegate::ScanKernels& kernels = *tidegate::kernels().scan;
        is_double ? run(double{}, kernels.forward_double) : run(float{}, kernels.forward_float);
      },
      "is_double"_a, "batch_sizes"_a, "steps"_a, "values"_a, "rows"_a, "units"_a, "is_complex"_a, "is_fixed"_a,
      "threads"_a, "a"_a, "b"_a, "h_0"_a, "h"_a, "h_n"_a, "Addresses and sizes as struct ScanForward of scan.h has them.");

  m.def(
      "scan_backward",
      [](bool is_double, Address batch_sizes, Size steps, Size values, int rows, int units, bool is_complex,
         bool is_fixed, int threads, Address grad_h, Address grad_h_n, Address a, Address h, Address h_0, Address grad_a,
         Address grad_b, Address grad_h_0) {
        nb::gil_scoped_release release;
        const auto layout = layout_of(batch_sizes, steps, values, rows, units, is_complex, is_fixed, threads);
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({layout, pointer<const Real>(grad_h), pointer<const Real>(grad_h_n), pointer<const Real>(a),
                  pointer<const Real>(h), pointer<const Real>(h_0), pointer<Real>(grad_a), pointer<Real>(grad_b),
                  pointer<Real>(grad_h_0)});
        };
        const tidegate::ScanKernels& kernels = *tidegate::kernels().scan;
        is_double ? run(double{}, kernels.backward_double) : run(float{}, kernels.backward_float);
      },
      "is_double"_a, "batch_sizes"_a, "steps"_a, "values"_a, "rows"_a, "units"_a, "is_complex"_a, "is_fixed"_a,
      "threads"_a, "grad_h"_a, "grad_h_n"_a, "a"_a, "h"_a, "h_0"_a, "grad_a"_a, "grad_b"_a, "grad_h_0"_a,
      "Addresses and sizes as struct ScanBackward of scan.h has them.");

  m.def(
      "minimal_forward",
      [](bool is_double, Address batch_sizes, Size steps, Size values, int rows, int units, int threads, bool is_lstm,
         bool is_positive, Address projected, Address h_0, Address h, Address h_n) {
        nb::gil_scoped_release release;
        const auto layout = layout_of(batch_sizes, steps, values, rows, units, false, false, threads);
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({layout, is_lstm, is_positive, pointer<const Real>(projected), pointer<const Real>(h_0),
                  pointer<Real>(h), pointer<Real>(h_n)});
        };
        const tidegate::ScanKernels& kernels = *tidegate::kernels().scan;
        is_double ? run(double{}, kernels.minimal_forward_double) : run(float{}, kernels.minimal_forward_float);
      },
      "is_double"_a, "batch_sizes"_a, "steps"_a, "values"_a, "rows"_a, "units"_a, "threads"_a, "is_lstm"_a,
      "is_positive"_a, "projected"_a, "h_0"_a, "h"_a, "h_n"_a,
      "Addresses and sizes as struct MinimalForward of scan.h has them.");

  m.def(
      "minimal_backward",
      [](bool is_double, Address batch_sizes, Size steps, Size values, int rows, int units, int threads, bool is_lstm,
         bool is_positive, Address grad_h, Address grad_h_n, Address projected, Address h, Address h_0,
         Address grad_projected, Address grad_h_0) {
        nb::gil_scoped_release release;
        const auto layout = layout_of(batch_sizes, steps, values, rows, units, false, false, threads);
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({layout, is_lstm, is_positive, pointer<const Real>(grad_h), pointer<const Real>(grad_h_n),
                  pointer<const Real>(projected), pointer<const Real>(h), pointer<const Real>(h_0),
                  pointer<Real>(grad_projected), pointer<Real>(grad_h_0)});
        };
        const tidegate::ScanKernels& kernels = *tidegate::kernels().scan;
        is_double ? run(double{}, kernels.minimal_backward_double) : run(float{}, kernels.minimal_backward_float);
      },
      "is_double"_a, "batch_sizes"_a, "steps"_a, "values"_a, "rows"_a, "units"_a, "threads"_a, "is_lstm"_a,
      "is_positive"_a, "grad_h"_a, "grad_h_n"_a, "projected"_a, "h"_a, "h_0"_a, "grad_projected"_a, "grad_h_0"_a,
      "Addresses and sizes as struct MinimalBackward of scan.h has them.");
}
