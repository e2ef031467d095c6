// What the kernels of every instruction set offer: plain structs of pointers and sizes, no Python and no torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crf.h"

namespace tidegate {

// Arrays are row-major. N values lie in ragged order (see kernels/ragged.py): batch_sizes[t] rows are alive at step t,
// rows sorted by length. D directions, the second walking each row from its own last step down; B rows; H units.
template <class Real> struct GruForward {
  const Real* gates;      // [N, D, 3, H]: projected inputs with their biases, gates r z n
  const Real* weight_hh;  // [D, 3, H, H]
  const Real* bias_n;     // [D, H]: the recurrent bias of n (reset after the product); may be null
  const Real* h_0;        // [D, B, H]
  Real* output;           // [N, D, H]
  Real* h_n;              // [D, B, H]
  Real* saved;            // [N, D, S, H] for the backward pass: r z n and, with reset_after, W_hn h + b_hn; may be null
  const std::int64_t* batch_sizes;
  std::int64_t steps, values;
  int directions, rows, units;
  bool reset_after;       // S is 4 with it, 3 without
  int threads;
};

template <class Real> struct GruBackward {
  const Real* grad_output;  // [N, D, H]
  const Real* grad_h_n;     // [D, B, H]
  const Real* saved;        // as the forward pass left it
  const Real* output;       // [N, D, H]
  const Real* weight_hh;    // [D, 3, H, H]
  const Real* h_0;          // [D, B, H]
  Real* grad_gates;         // [N, D, S, H]: with reset_after, n (recurrent) r z n (input); without, r z n
  Real* grad_h_0;           // [D, B, H]
  const std::int64_t* batch_sizes;
  std::int64_t steps, values;
  int directions, rows, units;
  bool reset_after;
  int threads;
};

enum class Activation { exp, sigmoid, tanh };

struct Kernels {
  const char* name;
  void (*gru_forward_float)(const GruForward<float>&);
  void (*gru_forward_double)(const GruForward<double>&);
  void (*gru_backward_float)(const GruBackward<float>&);
  void (*gru_backward_double)(const GruBackward<double>&);
  void (*activation_float)(Activation, const float* from, float* to, std::int64_t count);
  const CrfKernels* crf;
};

// The instruction sets of this build that the machine can run, best first.
int available(const Kernels** kernels, int most);

// The one in use: the best available, or the one named by the environment variable TIDEGATE_ISA or by set_isa().
const Kernels& kernels();

// False where no available instruction set has this name.
bool set_isa(const char* name);

// Memory that lasts from call to call of one thread, aligned to 64 bytes.
void* workspace(std::size_t bytes);

// In a forked child the OpenMP pool is gone, and a parallel region would hang.
bool forked();

}  // namespace tidegate
