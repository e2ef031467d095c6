// What the passes of the CRF share: lanes reduced to one number, blocks of rows, and the tables that every row reads.
// Lanes run over the tags, padded to whole vectors; a few rows go side by side, so that one's latency hides another's.
#pragma once

#include "activations.h"
#include "rows.h"

namespace tidegate::TIDEGATE_ISA {

namespace crf {

inline constexpr int kBlockRows = kVectorRegisters >= 32 ? 8 : 4;

template <class Real> inline constexpr Real kInfinity = static_cast<Real>(__builtin_inf());
template <class Real>
inline constexpr Real kLargest = static_cast<Real>(sizeof(Real) == 4 ? __FLT_MAX__ : __DBL_MAX__);

// a > b ? a : b in each lane. (The forms with a mask that is all ones: GCC 12 warns of the others' undefined lanes.)
TIDEGATE_INLINE Vec<float> larger(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return select<float>(a > b, a, b);
#endif
}

TIDEGATE_INLINE Vec<double> larger(Vec<double> a, Vec<double> b) {
#if defined(__AVX512F__)
  return (Vec<double>)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
  return (Vec<double>)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return select<double>(a > b, a, b);
#endif
}

// Folds the lanes of `v` by `combine`, halves upon halves; every lane then holds the result.
template <class V, int lanes, class Combine> TIDEGATE_INLINE V fold(V v, const Combine& combine) {
  if constexpr (lanes == 16) {
    v = combine(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = combine(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
    return combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  } else if constexpr (lanes == 8) {
    v = combine(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
    return combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6));
  } else if constexpr (lanes == 4) {
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
    return combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2));
  } else {
    static_assert(lanes == 2);
    return combine(v, __builtin_shufflevector(v, v, 1, 0));
  }
}

template <class Real> TIDEGATE_INLINE Vec<Real> highest(Vec<Real> v) {
  return fold<Vec<Real>, kLanes<Real>>(v, [](Vec<Real> a, Vec<Real> b) { return larger(a, b); });
}

template <class Real> TIDEGATE_INLINE Vec<Real> total(Vec<Real> v) {
  return fold<Vec<Real>, kLanes<Real>>(v, [](Vec<Real> a, Vec<Real> b) { return a + b; });
}

template <class Real> TIDEGATE_INLINE bool any(IntVec<Real> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
  typedef std::int64_t Words __attribute__((vector_size(kVectorBytes)));
  return fold<Words, kVectorBytes / 8>((Words)mask, [](Words a, Words b) { return a | b; })[0] != 0;
#endif
}

// A maximum from which others may be subtracted: minus infinity less itself would be no number.
template <class Real> TIDEGATE_INLINE Vec<Real> finite(Vec<Real> maximum) {
  return larger(maximum, broadcast<Real>(-kLargest<Real>));
}

template <int N> struct Rows {
  static constexpr int count = N;
};

// Calls `body(Rows<n>, first)` over `rows` rows in groups of 8 (where registers allow), 4, 2 and 1. A row's values do
// not depend on the group it is in.
template <class Body> TIDEGATE_INLINE void in_groups(int rows, const Body& body) {
  int first = 0;
  if constexpr (kBlockRows >= 8)
    for (; rows - first >= 8; first += 8) body(Rows<8>{}, first);
  for (; rows - first >= 4; first += 4) body(Rows<4>{}, first);
  if (rows - first >= 2) {
    body(Rows<2>{}, first);
    first += 2;
  }
  if (rows > first) body(Rows<1>{}, first);
}

constexpr int count_blocks(int rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// Roughly what one pass costs, in the operations of team_size().
template <class Real> double operations(const CrfModel<Real>& model) {
  return static_cast<double>(model.values) * model.num_tags * (padded<Real>(model.num_tags) + 8.0 * kLanes<Real>);
}

// What every row reads, in both directions. Rows of matrices are padded to whole vectors.
template <class Real> struct Tables {
  std::int64_t* offsets;
  Real* scores;       // [K, width]: T_ij at [j][i], minus infinity beyond K
  Real *start, *end;  // [width], minus infinity beyond K
  int width;

  Tables(Arena& arena, const CrfModel<Real>& model) : width(padded<Real>(model.num_tags)) {
    offsets = arena.take<std::int64_t>(static_cast<std::size_t>(model.steps) + 1);
    scores = take_square(arena, model);
    start = arena.take<Real>(width);
    end = arena.take<Real>(width);
  }

  Real* take_square(Arena& arena, const CrfModel<Real>& model) const {
    return arena.take<Real>(static_cast<std::size_t>(model.num_tags) * width);
  }

  void fill(const CrfModel<Real>& model) const {
    const int K = model.num_tags;
    find_steps(model.batch_sizes, model.steps, offsets);
    for (int j = 0; j < width; ++j) {
      start[j] = j < K ? model.start[j] : -kInfinity<Real>;
      end[j] = j < K ? model.end[j] : -kInfinity<Real>;
    }
    for (int j = 0; j < K; ++j)
      for (int i = 0; i < width; ++i)
        scores[static_cast<std::size_t>(j) * width + i] =
            i < K ? model.transitions[static_cast<std::size_t>(i) * K + j] : -kInfinity<Real>;
  }
};

}  // namespace crf

}  // namespace tidegate::TIDEGATE_ISA
