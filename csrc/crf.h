// The kernels of the linear-chain conditional random field: plain structs of pointers and sizes.
#pragma once

#include <cstdint>

namespace tidegate {

// Arrays are row-major. N values lie in ragged order (see kernels/ragged.py): batch_sizes[t] rows are alive at step t,
// rows sorted by length. B rows; K tags. Scores may be minus infinity, which forbids.
template <class Real> struct CrfModel {
  const Real* emissions;    // [N, K]
  const Real* transitions;  // [K, K], from the row's tag to the column's
  const Real* start;        // [K]
  const Real* end;          // [K]
  const std::int64_t* batch_sizes;
  std::int64_t steps, values;
  int rows, num_tags;
  int threads;
};

template <class Real> struct CrfForward {
  CrfModel<Real> model;
  const std::int64_t* tags;  // [N]; may be null
  Real* value;               // [B]: log-likelihood of the tags, or log-partition without tags; 0 for an empty row
  Real* saved;               // [N, 2, K] for the backward pass: log alpha less its maximum, and the sums; may be null
};

template <class Real> struct CrfBackward {
  CrfModel<Real> model;
  const std::int64_t* tags;  // as in the forward pass
  const Real* grad_value;    // [B]
  const Real* value;         // as the forward pass left it
  const Real* saved;
  Real* grad_emissions;      // [N, K]
  Real* grad_transitions;    // [K, K]
  Real* grad_start;          // [K]
  Real* grad_end;            // [K]
};

template <class Real> struct CrfViterbi {
  CrfModel<Real> model;
  std::int64_t* tags;  // [N]: the best path; -1 in a row that no path may take
  Real* scores;        // [B]: its score; minus infinity where there is none, 0 for an empty row
};

template <class Real> struct CrfKBest {
  CrfModel<Real> model;
  int k;
  std::int64_t* tags;  // [N, k]: the best paths, best first; -1 beyond the last there is
  Real* scores;        // [B, k]
};

struct CrfKernels {
  void (*forward_float)(const CrfForward<float>&);
  void (*forward_double)(const CrfForward<double>&);
  void (*backward_float)(const CrfBackward<float>&);
  void (*backward_double)(const CrfBackward<double>&);
  void (*viterbi_float)(const CrfViterbi<float>&);
  void (*viterbi_double)(const CrfViterbi<double>&);
  void (*k_best_float)(const CrfKBest<float>&);
  void (*k_best_double)(const CrfKBest<double>&);
};

}  // namespace tidegate
