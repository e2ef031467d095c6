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

// The minimal cells: h_t = k_t h_{t-1} + (1 - k_t) c_t with k and c of the projected inputs alone. GRU: z c, k = 1 -
// sigmoid(z). LSTM: f i c, k = sigmoid(f) / (sigmoid(f) + sigmoid(i)). A positive candidate is c + 1/2 where c is at least
// 0, sigmoid(c) else. Of the layout neither is_complex nor is_fixed is looked at.
template <class Real> struct MinimalForward {
  ScanLayout layout;
  bool is_lstm, is_positive;
  const Real* projected;  // [N, G, U], G 2 or, of the LSTM, 3
  const Real* h_0;        // [B, U]
  Real* h;                // [N, U]
  Real* h_n;              // [B, U]
};

template <class Real> struct MinimalBackward {
  ScanLayout layout;
  bool is_lstm, is_positive;
  const Real* grad_h;     // [N, U]
  const Real* grad_h_n;   // [B, U]
  const Real* projected;  // as in the forward pass
  const Real* h;
  const Real* h_0;
  Real* grad_projected;   // [N, G, U]
  Real* grad_h_0;         // [B, U]
};

struct ScanKernels {
  void (*forward_float)(const ScanForward<float>&);
  void (*forward_double)(const ScanForward<double>&);
  void (*backward_float)(const ScanBackward<float>&);
  void (*backward_double)(const ScanBackward<double>&);
  void (*minimal_forward_float)(const MinimalForward<float>&);
  void (*minimal_forward_double)(const MinimalForward<double>&);
  void (*minimal_backward_float)(const MinimalBackward<float>&);
  void (*minimal_backward_double)(const MinimalBackward<double>&);
};

}  // namespace tidegate
