// The border between Python and the kernels of the CRF. Tensors enter as addresses after one check in
// kernels/crf_cpu.py; the GIL is released in every kernel. What an address points at is checked here where a wrong
// value would have a kernel read outside its arrays: the layout, and the tags.
#include <cstdint>
#include <stdexcept>
#include <string>

#include <nanobind/nanobind.h>

#include "bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Address = std::uintptr_t;
using Size = std::int64_t;

template <class T> T* pointer(Address address) { return reinterpret_cast<T*>(address); }

// The model's part of every signature.
struct Model {
  Address emissions, transitions, start, end, batch_sizes;
  Size steps, values;
  int rows, num_tags, threads;

  template <class Real> tidegate::CrfModel<Real> of() const {
    return {pointer<const Real>(emissions), pointer<const Real>(transitions), pointer<const Real>(start),
            pointer<const Real>(end), pointer<const Size>(batch_sizes), steps, values, rows, num_tags, threads};
  }

  void check_layout() const {
    tidegate::bindings::check_batch_sizes(pointer<const Size>(batch_sizes), steps, rows, values);
  }

  void check_tags(Address tags) const {
    const Size* found = pointer<const Size>(tags);
    if (found == nullptr) return;
    for (Size n = 0; n < values; ++n)
      if (found[n] < 0 || found[n] >= num_tags)
        throw std::invalid_argument("expected tags from 0 to " + std::to_string(num_tags - 1) + "; found " +
                                    std::to_string(found[n]) + " at value " + std::to_string(n) +
                                    " of the ragged values");
  }
};

}  // namespace

void tidegate::bindings::bind_crf(nb::module_& m) {
  m.def(
      "crf_forward",
      [](bool is_double, Address emissions, Address transitions, Address start, Address end, Address batch_sizes,
         Size steps, Size values, int rows, int num_tags, int threads, Address tags, Address value, Address saved) {
        const Model model{emissions, transitions, start, end, batch_sizes, steps, values, rows, num_tags, threads};
        nb::gil_scoped_release release;
        model.check_layout();
        model.check_tags(tags);
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({model.of<Real>(), pointer<const Size>(tags), pointer<Real>(value), pointer<Real>(saved)});
        };
        const tidegate::CrfKernels& kernels = *tidegate::kernels().crf;
        is_double ? run(double{}, kernels.forward_double) : run(float{}, kernels.forward_float);
      },
      "is_double"_a, "emissions"_a, "transitions"_a, "start"_a, "end"_a, "batch_sizes"_a, "steps"_a, "values"_a,
      "rows"_a, "num_tags"_a, "threads"_a, "tags"_a, "value"_a, "saved"_a,
      "Addresses and sizes as struct CrfForward of crf.h has them.");

  m.def(
      "crf_backward",
      [](bool is_double, Address emissions, Address transitions, Address start, Address end, Address batch_sizes,
         Size steps, Size values, int rows, int num_tags, int threads, Address tags, Address grad_value, Address value,
         Address saved, Address grad_emissions, Address grad_transitions, Address grad_start, Address grad_end) {
        const Model model{emissions, transitions, start, end, batch_sizes, steps, values, rows, num_tags, threads};
        nb::gil_scoped_release release;
        model.check_layout();
        model.check_tags(tags);
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({model.of<Real>(), pointer<const Size>(tags), pointer<const Real>(grad_value),
                  pointer<const Real>(value), pointer<const Real>(saved), pointer<Real>(grad_emissions),
                  pointer<Real>(grad_transitions), pointer<Real>(grad_start), pointer<Real>(grad_end)});
        };
        const tidegate::CrfKernels& kernels = *tidegate::kernels().crf;
        is_double ? run(double{}, kernels.backward_double) : run(float{}, kernels.backward_float);
      },
      "is_double"_a, "emissions"_a, "transitions"_a, "start"_a, "end"_a, "batch_sizes"_a, "steps"_a, "values"_a,
      "rows"_a, "num_tags"_a, "threads"_a, "tags"_a, "grad_value"_a, "value"_a, "saved"_a, "grad_emissions"_a,
      "grad_transitions"_a, "grad_start"_a, "grad_end"_a,
      "Addresses and sizes as struct CrfBackward of crf.h has them.");

  m.def(
      "crf_viterbi",
      [](bool is_double, Address emissions, Address transitions, Address start, Address end, Address batch_sizes,
         Size steps, Size values, int rows, int num_tags, int threads, Address tags, Address scores) {
        const Model model{emissions, transitions, start, end, batch_sizes, steps, values, rows, num_tags, threads};
        nb::gil_scoped_release release;
        model.check_layout();
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({model.of<Real>(), pointer<Size>(tags), pointer<Real>(scores)});
        };
        const tidegate::CrfKernels& kernels = *tidegate::kernels().crf;
        is_double ? run(double{}, kernels.viterbi_double) : run(float{}, kernels.viterbi_float);
      },
      "is_double"_a, "emissions"_a, "transitions"_a, "start"_a, "end"_a, "batch_sizes"_a, "steps"_a, "values"_a,
      "rows"_a, "num_tags"_a, "threads"_a, "tags"_a, "scores"_a,
      "Addresses and sizes as struct CrfViterbi of crf.h has them.");

  m.def(
      "crf_k_best",
      [](bool is_double, Address emissions, Address transitions, Address start, Address end, Address batch_sizes,
         Size steps, Size values, int rows, int num_tags, int threads, int k, Address tags, Address scores) {
        const Model model{emissions, transitions, start, end, batch_sizes, steps, values, rows, num_tags, threads};
        nb::gil_scoped_release release;
        model.check_layout();
        const auto run = [&](auto real, auto kernel) {
          using Real = decltype(real);
          kernel({model.of<Real>(), k, pointer<Size>(tags), pointer<Real>(scores)});
        };
        const tidegate::CrfKernels& kernels = *tidegate::kernels().crf;
        is_double ? run(double{}, kernels.k_best_double) : run(float{}, kernels.k_best_float);
      },
      "is_double"_a, "emissions"_a, "transitions"_a, "start"_a, "end"_a, "batch_sizes"_a, "steps"_a, "values"_a,
      "rows"_a, "num_tags"_a, "threads"_a, "k"_a, "tags"_a, "scores"_a,
      "Addresses and sizes as struct CrfKBest of crf.h has them.");
}
