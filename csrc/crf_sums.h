// Sums of probabilities over the tags that come before a tag: the tables that every row reads, and the product.
#pragma once

#include "crf_rows.h"
#include "logarithm.h"

namespace tidegate::TIDEGATE_ISA {

namespace crf {

// Sums below `small_sum` are computed again in log space. Probabilities below `negligible` count as zero, which keeps
// denormal numbers, slow on many processors, out of exp and the products.
template <class Real> struct Limits;
template <> struct Limits<float> {
  static constexpr float small_sum = 1e-18f, negligible = 1e-34f, log_negligible = -78.2878f;
};
template <> struct Limits<double> {
  static constexpr double small_sum = 1e-150, negligible = 1e-290, log_negligible = -667.7496769682733;
};

template <class Real> TIDEGATE_INLINE Vec<Real> without_negligible(Vec<Real> p) {
  return select<Real>(p < broadcast<Real>(Limits<Real>::negligible), Vec<Real>{}, p);
}

template <class Real> TIDEGATE_INLINE Vec<Real> probability(Vec<Real> log_p) {
  const Vec<Real> least = broadcast<Real>(Limits<Real>::log_negligible);
  return select<Real>(log_p < least, Vec<Real>{}, exp(larger(least, log_p)));
}

template <class Real> struct SumTables : Tables<Real> {
  Real* from;  // [K, width]: exp(T_ij - peak_j) at [i][j], zeros beyond K
  Real* into;  // [K, width]: the same at [j][i]
  Real* peak;  // [width]: max_i T_ij, minus infinity beyond K

  SumTables(Arena& arena, const CrfModel<Real>& model) : Tables<Real>(arena, model) {
    from = this->take_square(arena, model);
    into = this->take_square(arena, model);
    peak = arena.take<Real>(this->width);
  }

  void fill(const CrfModel<Real>& model) const {
    Tables<Real>::fill(model);
    const int K = model.num_tags, width = this->width;
    for (int j = 0; j < width; ++j) peak[j] = -kInfinity<Real>;
    for (int j = 0; j < K; ++j)
      for (int i = K; i < width; ++i) into[static_cast<std::size_t>(j) * width + i] = 0;
    for (int i = 0; i < K; ++i) {
      const Real* row = model.transitions + static_cast<std::size_t>(i) * K;
      for (int j = 0; j < K; ++j) peak[j] = row[j] > peak[j] || row[j] != row[j] ? row[j] : peak[j];
    }
    for (int i = 0; i < K; ++i)
      for (int j = 0; j < width; j += kLanes<Real>) {
        const Vec<Real> best = load<Real>(peak + j);
        const Vec<Real> score =
            load_lanes(model.transitions + static_cast<std::size_t>(i) * K + j, lanes_left<Real>(K, j));
        const IntVec<Real> unreachable = best == broadcast<Real>(-kInfinity<Real>);
        const Vec<Real> p = select<Real>(unreachable, Vec<Real>{}, probability<Real>(score - best));
        store<Real>(from + static_cast<std::size_t>(i) * width + j, p);
        for (int lane = 0; lane < kLanes<Real> && j + lane < K; ++lane)
          into[static_cast<std::size_t>(j + lane) * width + i] = p[lane];
      }
  }
};

// products[m] = inputs[m] . matrix, [K] by [K, width]: every element one chain over k in order.
template <class Real, int R, int Blocks>
TIDEGATE_INLINE void product_of_blocks(const Real* inputs, const Real* matrix, int K, int width, Real* products) {
  Vec<Real> sums[R][Blocks] = {};
  for (int k = 0; k < K; ++k) {
    Vec<Real> row[Blocks];
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b)
      row[b] = load<Real>(matrix + static_cast<std::size_t>(k) * width + b * kLanes<Real>);
#pragma GCC unroll 8
    for (int m = 0; m < R; ++m) {
      const Vec<Real> input = broadcast<Real>(inputs[m * width + k]);
#pragma GCC unroll 4
      for (int b = 0; b < Blocks; ++b) sums[m][b] = multiply_add(input, row[b], sums[m][b]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
    for (int b = 0; b < Blocks; ++b) store<Real>(products + m * width + b * kLanes<Real>, sums[m][b]);
}

template <class Real, int R>
TIDEGATE_INLINE void product(const Real* inputs, const Real* matrix, int K, int width, Real* products) {
  constexpr int most = kVectorRegisters * 3 / 4 / R >= 4 ? 4 : kVectorRegisters * 3 / 4 / R >= 2 ? 2 : 1;
  int j = 0;
  for (; width - j >= most * kLanes<Real>; j += most * kLanes<Real>)
    product_of_blocks<Real, R, most>(inputs, matrix + j, K, width, products + j);
  if constexpr (most == 4)
    if (width - j >= 2 * kLanes<Real>) {
      product_of_blocks<Real, R, 2>(inputs, matrix + j, K, width, products + j);
      j += 2 * kLanes<Real>;
    }
  if constexpr (most > 1)
    if (j < width) product_of_blocks<Real, R, 1>(inputs, matrix + j, K, width, products + j);
}

// The maximum of alpha_i + scores_i and the sum of exp(alpha_i + scores_i - maximum), in every lane.
template <class Real> struct LogSum {
  Vec<Real> maximum, sum;

  LogSum(const Real* alpha, const Real* scores, int K) : maximum(broadcast<Real>(-kInfinity<Real>)), sum{} {
    for (int i = 0; i < K; i += kLanes<Real>)
      maximum = larger(load_lanes(alpha + i, lanes_left<Real>(K, i)) + load<Real>(scores + i), maximum);
    maximum = finite<Real>(highest<Real>(maximum));
    for (int i = 0; i < K; i += kLanes<Real>) sum = sum + term(alpha, scores, i, K);
    sum = total<Real>(sum);
  }

  Vec<Real> term(const Real* alpha, const Real* scores, int i, int K) const {
    return probability<Real>(load_lanes(alpha + i, lanes_left<Real>(K, i)) + load<Real>(scores + i) - maximum);
  }
};

}  // namespace crf

}  // namespace tidegate::TIDEGATE_ISA
