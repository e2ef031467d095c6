// The kernels of linear recurrences, h_t = a_t h_{t-1} + b_t: plain structs of pointers and sizes.
#pragma once

#include <cstdint>

namespace tidegate {

// Arrays are row-major. N values lie in ragged order (see kernels/ragged.py): batch_sizes[t] rows are alive at step t,
// rows sorted by length. B rows; U numbers, real with P = 1 and complex with P = 2, where all real parts come before all
// imaginary ones.
struct ScanLayout {
  const std::int64_t* batch_sizes;
  std::int64_t steps, values;
  int rows, units;
  bool is_complex;
  bool is_fixed;  // a is [P, U], the same at every step
  int threads;
};

template <class Real> struct ScanForward {
  ScanLayout layout;
  const Real* a;    // [N, P, U], or [P, U]
  const Real* b;    // [N, P, U]
  const Real* h_0;  // [B, P, U]
  Real* h;          // [N, P, U]
  Real* h_n;        // [B, P, U]
};

template <class Real> struct ScanBackward {
  ScanLayout layout;
  const Real* grad_h;    // [N, P, U]
  const Real* grad_h_n;  // [B, P, U]
  const Real* a;         // as in the forward pass
  const Real* h;
  const Real* h_0;
  Real* grad_a;          // [N, P, U]; where it is fixed, the sums over each row's steps, [B, P, U]
  Real* grad_b;          // [N, P, U]
  Real* grad_h_0;        // [B, P, U]
};

struct ScanKernels {
  void (*forward_float)(const ScanForward<float>&);
  void (*forward_double)(const ScanForward<double>&);
  void (*backward_float)(const ScanBackward<float>&);
  void (*backward_double)(const ScanBackward<double>&);
};

}  // namespace tidegate
