// What the passes of the CRF share: lanes reduced to one number, blocks of rows, and how they go round the threads.
// Lanes run over the tags, padded to whole vectors; a few rows go side by side, so that one's latency hides another's.
#pragma once

#include <omp.h>

#include "activations.h"
#include "crf.h"
#include "kernels.h"

namespace tidegate::TIDEGATE_ISA {

namespace crf {

inline constexpr int kBlockRows = kVectorRegisters >= 32 ? 8 : 4;

template <class Real> inline constexpr Real kInfinity = static_cast<Real>(__builtin_inf());
template <class Real>
inline constexpr Real kLargest = static_cast<Real>(sizeof(Real) == 4 ? __FLT_MAX__ : __DBL_MAX__);

template <class Real> constexpr int padded(int count) {
  return (count + kLanes<Real> - 1) / kLanes<Real> * kLanes<Real>;
}

constexpr std::size_t in_cache_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class Real> int lanes_left(int count, int first) {
  return count - first < kLanes<Real> ? count - first : kLanes<Real>;
}

// The first `lanes` lanes, zeros beyond, and the same back. With few tags every vector is a partial one, and a copy
// through memory, as load_lanes makes it, would take longer than the rest of the step.
TIDEGATE_INLINE Vec<float> load_part(const float* from, int lanes) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << lanes) - 1), from);
#elif defined(__AVX2__)
  const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (Vec<float>)_mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), place));
#else
  return load_lanes(from, lanes);
#endif
}

TIDEGATE_INLINE Vec<double> load_part(const double* from, int lanes) {
#if defined(__AVX512F__)
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << lanes) - 1), from);
#elif defined(__AVX2__)
  const __m256i place = _mm256_setr_epi64x(0, 1, 2, 3);
  return (Vec<double>)_mm256_maskload_pd(from, _mm256_cmpgt_epi64(_mm256_set1_epi64x(lanes), place));
#else
  return load_lanes(from, lanes);
#endif
}

TIDEGATE_INLINE void store_part(float* to, Vec<float> v, int lanes) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << lanes) - 1), (__m512)v);
#elif defined(__AVX2__)
  const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), place), (__m256)v);
#else
  store_lanes(to, v, lanes);
#endif
}

TIDEGATE_INLINE void store_part(double* to, Vec<double> v, int lanes) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << lanes) - 1), (__m512d)v);
#elif defined(__AVX2__)
  const __m256i place = _mm256_setr_epi64x(0, 1, 2, 3);
  _mm256_maskstore_pd(to, _mm256_cmpgt_epi64(_mm256_set1_epi64x(lanes), place), (__m256d)v);
#else
  store_lanes(to, v, lanes);
#endif
}

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

// Where the values of each step begin, and which rows of a block are alive.
struct Steps {
  const std::int64_t* batch_sizes;
  const std::int64_t* offsets;
  std::int64_t steps;

  int alive(std::int64_t t, int first_row, int rows) const {
    if (t < 0 || t >= steps) return 0;
    const std::int64_t left = batch_sizes[t] - first_row;
    return left < 0 ? 0 : left < rows ? static_cast<int>(left) : rows;
  }

  // The steps of the block's longest row, its first.
  std::int64_t longest(int first_row) const {
    std::int64_t low = 0, high = steps;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (batch_sizes[middle] > first_row) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  std::int64_t at(std::int64_t t, int row) const { return offsets[t] + row; }
};

inline void find_steps(const std::int64_t* batch_sizes, std::int64_t steps, std::int64_t* to) {
  to[0] = 0;
  for (std::int64_t t = 0; t < steps; ++t) to[t + 1] = to[t] + batch_sizes[t];
}

constexpr int count_blocks(int rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// Roughly what one pass costs: some 40 of these take a nanosecond.
template <class Real> double operations(const CrfModel<Real>& model) {
  return static_cast<double>(model.values) * model.num_tags * (padded<Real>(model.num_tags) + 8.0 * kLanes<Real>);
}

// A team is not worth its start, nor the wait for a thread that the machine gives to others, below some tenth of a
// millisecond.
inline int team_size(int threads, int parts, double operations) {
  constexpr double kOperationsWorthATeam = 4e6;
  if (forked() || operations < kOperationsWorthATeam) return 1;
  return threads < parts ? threads : parts;
}

// Calls `body(part, thread)` for every part, each by one thread of the team.
template <class Body> void for_parts(int team, int parts, const Body& body) {
  if (team <= 1) {
    for (int part = 0; part < parts; ++part) body(part, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
  for (int part = 0; part < parts; ++part) body(part, omp_get_thread_num());
}

// Hands out pieces of one block of memory, each on its own cache lines; without memory it only counts.
class Pieces {
 public:
  explicit Pieces(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <class T> T* take(std::size_t count) {
    T* piece = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += in_cache_lines(count * sizeof(T));
    return piece;
  }

  std::size_t bytes() const { return bytes_; }

 private:
  char* memory_;
  std::size_t bytes_ = 0;
};

// Room for what `Space` takes from Pieces: counted once, then taken.
template <class Space, class... Arguments> Space make_space(const Arguments&... arguments) {
  Pieces counting(nullptr);
  Space(counting, arguments...);
  Pieces pieces(workspace(counting.bytes()));
  return Space(pieces, arguments...);
}

}  // namespace crf

}  // namespace tidegate::TIDEGATE_ISA
