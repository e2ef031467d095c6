// What the kernels of every instruction set offer: plain structs of pointers and sizes, no Python and no torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crf.h"
#include "scan.h"

namespace tidegate {

// G gates: 1 for the RNNs; 4 for the LSTM, i f g o; 3 for the GRU, r z n, its reset gate after the product or before.
enum class Cell { rnn_tanh, rnn_relu, lstm, gru, gru_reset_before };

// What weights and sequences are stored in. The state is float64 with float64 and else float32, and so is everything
// said to be of type Real below. With int8 the weights are 8-bit integers with a scale a row, the sequences float32.
enum class Type { float32, float64, bfloat16, int8 };

// Arrays are row-major. N values lie in ragged order (see kernels/ragged.py): batch_sizes[t] rows are alive at step t,
// rows sorted by length. D directions, the second walking each row from its own last step down; B rows; H units;
// P states, the outputs of a unit's step: H but in an LSTM with projection.
struct Layout {
  Cell cell;
  Type type;
  const std::int64_t* batch_sizes;
  std::int64_t steps, values;
  int directions, rows, units, states;
  int threads;
};

// What both passes read, every pointer null where the option is off.
struct Parameters {
  const void* weight_hh[2];  // [G, H, P] of each direction
  const float* scale_hh;     // [D, G, H] with int8
  const void* weight_hr;     // [D, P, H]: the LSTM's projection
  const float* scale_hr;     // [D, P] with int8
  const void* bias_ih[2];    // Real [G, H] of each direction
  const void* bias_hh[2];    // Real [G, H]: the reset gate multiplies n's where it stands after the product
  const void* peephole;      // Real [D, 3, H]: i f o of the LSTM
  const void* norm_ih;       // Real [D, G, H]: gain of the layer norm of the projected inputs; only with norm_hh
  const void* norm_hh;       // Real [D, G, H]: gain of the layer norm of the recurrent product
  const void* norm_c;        // Real [D, 2, H]: gain and bias of the layer norm of c
  const void* dropout_mask;  // Real [D, B, P]: what h_{t-1} is multiplied by where it enters W_hh
  const std::uint8_t* zoneout_h;  // bool [N, D, P]: where the previous h is kept; null takes the rate
  const std::uint8_t* zoneout_c;  // bool [N, D, H]
  double zoneout_rate_h, zoneout_rate_c;
  double eps;
};

struct Forward {
  Layout layout;
  Parameters parameters;
  const char* packed;  // the weights as `pack` left them; null packs them in the call
  const void* gates;   // [N, D, G, H]: projected inputs before their layer norm, if any, and without their biases
  const void* h_0;     // Real [D, B, P]
  const void* c_0;     // Real [D, B, H]: the LSTM's
  void* output;        // [N, D, P]
  void* h_n;           // Real [D, B, P]
  void* c_n;           // Real [D, B, H]
  // For the backward pass, [N, D, S, H]; null in inference. RNN: the new state before zoneout, S is 1. LSTM: i f g o
  // and c_t, 5. GRU: r z n and, reset after the product, W_hn h + b_hn, 4 or 3.
  void* saved;
  void* normalized;    // [N, D, G, H]: the recurrent product, normalised, before its gain; with norm_hh
  void* deviation;     // Real [N, D, 2]: 1 / standard deviation of the product (r and z, then n, reset before)
  void* input_moments; // Real [N, D, 2]: mean and 1 / standard deviation of the projected inputs; with norm_ih
};

struct Backward {
  Layout layout;
  Parameters parameters;
  const void* grad_output;  // [N, D, P]
  const void* grad_h_n;     // Real [D, B, P]
  const void* grad_c_n;     // Real [D, B, H]
  const void* saved;        // these as the forward pass left them
  const void* normalized;
  const void* deviation;
  const void* input_moments;
  const void* gates;        // as the forward pass took them; with norm_ih
  const void* output;
  const void* h_0;
  const void* c_0;
  // Gradients of the gates before their activations: [N, D, G, H]; [N, D, 4, H] for the GRU with the reset gate after
  // the product: n (recurrent) r z n (input).
  void* grad_gates;
  void* grad_product;       // [N, D, G, H]: of the recurrent product before its layer norm; with norm_hh
  void* grad_inputs;        // [N, D, G, H]: of the projected inputs before their layer norm; with norm_ih
  void* grad_projected;     // [N, D, P]: of the projection's result; with weight_hr
  void* previous;           // [N, D, P]: h_{t-1} as it entered W_hh
  void* before_projection;  // [N, D, H]: o * tanh(c); with weight_hr
  void* grad_h_0;           // Real [D, B, P]
  void* grad_c_0;           // Real [D, B, H]
  void* grad_peephole;      // Real [D, B, 3, H], row by row; with peephole
  void* grad_norm_ih;       // Real [D, B, G, H], row by row; with norm_ih
  void* grad_norm_hh;       // Real [D, B, G, H], row by row; with norm_hh
  void* grad_norm_c;        // Real [D, B, 2, H], row by row; with norm_c
};

// gates[row] = x[row] . W_ih + bias for a few rows: the input's product of a single step.
struct Projection {
  Type type;
  const char* packed;
  const float* bias;  // [outputs]
  const float* x;     // [rows, inputs]
  float* gates;       // [rows, outputs]
  int rows, inputs, outputs;
};

enum class Activation { exp, sigmoid, tanh };

struct Kernels {
  const char* name;
  void (*forward)(const Forward&);
  void (*backward)(const Backward&);
  // Bytes of the packed weights of a layer, and the packing of what `layout` and `parameters` say of `call`.
  std::size_t (*packed_bytes)(const Layout&);
  void (*pack)(const Forward& call, char* to);
  std::size_t (*packed_projection_bytes)(const Projection&);
  void (*pack_projection)(const Projection&, const void* weights, const float* scales, char* to);
  void (*project)(const Projection&);
  void (*activation_float)(Activation, const float* from, float* to, std::int64_t count);
  const CrfKernels* crf;
  const ScanKernels* scan;
};

// The instruction sets of this build that the machine can run, best first.
int available(const Kernels** kernels, int most);

// The one in use: the best available, or the one named by the environment variable TIDEGATE_ISA or by set_isa().
const Kernels& kernels();

// False where no available instruction set has this name.
bool set_isa(const char* name);

// Whether some threads may idle where fewer take a small layer's steps sooner, which is the default. Tests of what threads
// share forbid it.
bool threads_may_idle();
void let_threads_idle(bool may);

// Memory that lasts from call to call of one thread, aligned to 64 bytes.
void* workspace(std::size_t bytes);

// In a forked child the OpenMP pool is gone, and a parallel region would hang.
bool forked();

}  // namespace tidegate
