// One SIMD lane type over GCC/Clang vectors: as wide as the instruction set that this translation unit is built for.
// Everything here lives in a namespace of the instruction set, so that no linker mixes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef TIDEGATE_ISA
#error "TIDEGATE_ISA names the instruction set's namespace and is set by CMakeLists.txt"
#endif

#define TIDEGATE_INLINE inline __attribute__((always_inline))

namespace tidegate::TIDEGATE_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kVectorRegisters = 32;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32, kVectorRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kVectorBytes = 16, kVectorRegisters = 32;
#else
inline constexpr int kVectorBytes = 16, kVectorRegisters = 16;
#endif

template <class Real> struct LaneTypes;
template <> struct LaneTypes<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef float Anywhere __attribute__((vector_size(kVectorBytes), aligned(alignof(float))));
  typedef std::int32_t Integers __attribute__((vector_size(kVectorBytes)));
};
template <> struct LaneTypes<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef double Anywhere __attribute__((vector_size(kVectorBytes), aligned(alignof(double))));
  typedef std::int64_t Integers __attribute__((vector_size(kVectorBytes)));
};

template <class Real> using Vec = typename LaneTypes<Real>::Vector;
template <class Real> using IntVec = typename LaneTypes<Real>::Integers;
template <class Real> inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Real));

// The upper half of a float: 8 bits of exponent, 7 of fraction.
struct bfloat16 {
  std::uint16_t bits;
};

template <class Real> TIDEGATE_INLINE Vec<Real> broadcast(Real value) { return value - Vec<Real>{}; }

// Numbers are moved as numbers, not as bytes, so that the compiler knows that no store changes a pointer or a count.
template <class Real> TIDEGATE_INLINE Vec<Real> load(const Real* from) {
  return *reinterpret_cast<const typename LaneTypes<Real>::Anywhere*>(from);
}

template <class Real> TIDEGATE_INLINE void store(Real* to, Vec<Real> v) {
  *reinterpret_cast<typename LaneTypes<Real>::Anywhere*>(to) = v;
}

// The first `lanes` lanes, zeros beyond; `lanes` is kLanes but at the ragged end of a row.
#if defined(__AVX512F__)
TIDEGATE_INLINE __mmask16 first_lanes(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1u); }

TIDEGATE_INLINE Vec<float> load_lanes(const float* from, int lanes) {
  if (__builtin_expect(lanes == kLanes<float>, 1)) return load<float>(from);
  return (Vec<float>)_mm512_maskz_loadu_ps(first_lanes(lanes), from);
}
TIDEGATE_INLINE Vec<double> load_lanes(const double* from, int lanes) {
  if (__builtin_expect(lanes == kLanes<double>, 1)) return load<double>(from);
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(lanes)), from);
}
TIDEGATE_INLINE void store_lanes(float* to, Vec<float> v, int lanes) {
  if (__builtin_expect(lanes == kLanes<float>, 1)) return store<float>(to, v);
  _mm512_mask_storeu_ps(to, first_lanes(lanes), (__m512)v);
}
TIDEGATE_INLINE void store_lanes(double* to, Vec<double> v, int lanes) {
  if (__builtin_expect(lanes == kLanes<double>, 1)) return store<double>(to, v);
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>(first_lanes(lanes)), (__m512d)v);
}
#elif defined(__AVX2__)
// All lanes are moved plainly: masked stores are slow on some processors.
TIDEGATE_INLINE __m256i first_lanes(const float*, int lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TIDEGATE_INLINE __m256i first_lanes(const double*, int lanes) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(lanes), _mm256_setr_epi64x(0, 1, 2, 3));
}
TIDEGATE_INLINE Vec<float> load_lanes(const float* from, int lanes) {
  if (__builtin_expect(lanes == kLanes<float>, 1)) return load<float>(from);
  return (Vec<float>)_mm256_maskload_ps(from, first_lanes(from, lanes));
}
TIDEGATE_INLINE Vec<double> load_lanes(const double* from, int lanes) {
  if (__builtin_expect(lanes == kLanes<double>, 1)) return load<double>(from);
  return (Vec<double>)_mm256_maskload_pd(from, first_lanes(from, lanes));
}
TIDEGATE_INLINE void store_lanes(float* to, Vec<float> v, int lanes) {
  if (__builtin_expect(lanes == kLanes<float>, 1)) return store<float>(to, v);
  _mm256_maskstore_ps(to, first_lanes(to, lanes), (__m256)v);
}
TIDEGATE_INLINE void store_lanes(double* to, Vec<double> v, int lanes) {
  if (__builtin_expect(lanes == kLanes<double>, 1)) return store<double>(to, v);
  _mm256_maskstore_pd(to, first_lanes(to, lanes), (__m256d)v);
}
#else
template <class Real> TIDEGATE_INLINE Vec<Real> load_lanes(const Real* from, int lanes) {
  if (__builtin_expect(lanes == kLanes<Real>, 1)) return load<Real>(from);
  Vec<Real> v{};
  std::memcpy(&v, from, static_cast<std::size_t>(lanes) * sizeof(Real));
  return v;
}

template <class Real> TIDEGATE_INLINE void store_lanes(Real* to, Vec<Real> v, int lanes) {
  if (__builtin_expect(lanes == kLanes<Real>, 1)) return store<Real>(to, v);
  std::memcpy(to, &v, static_cast<std::size_t>(lanes) * sizeof(Real));
}
#endif

typedef std::uint16_t HalfWords __attribute__((vector_size(kVectorBytes / 2)));
typedef std::uint32_t Words __attribute__((vector_size(kVectorBytes)));

TIDEGATE_INLINE Vec<float> load_lanes(const bfloat16* from, int lanes) {
  HalfWords half{};
#if defined(__AVX512F__)
  half = (HalfWords)_mm256_maskz_loadu_epi16(first_lanes(lanes), from);
#else
  std::memcpy(&half, from, static_cast<std::size_t>(lanes) * sizeof(bfloat16));
#endif
  return (Vec<float>)(__builtin_convertvector(half, Words) << 16);
}

// Rounded to the nearest, ties to even; NaN stays NaN.
TIDEGATE_INLINE HalfWords round_to_bfloat16(Vec<float> v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words quiet = (bits >> 16) | 0x40u;
  const Words number = (Words)(v == v);
  return __builtin_convertvector((rounded & number) | (quiet & ~number), HalfWords);
}

TIDEGATE_INLINE void store_lanes(bfloat16* to, Vec<float> v, int lanes) {
  const HalfWords half = round_to_bfloat16(v);
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(to, first_lanes(lanes), (__m256i)half);
#else
  std::memcpy(to, &half, static_cast<std::size_t>(lanes) * sizeof(bfloat16));
#endif
}

// All bits set in the lanes whose byte is not zero.
template <class Real> TIDEGATE_INLINE IntVec<Real> load_mask(const std::uint8_t* from, int lanes) {
  typedef std::uint8_t Bytes __attribute__((vector_size(kLanes<Real>)));
  Bytes bytes{};
  std::memcpy(&bytes, from, static_cast<std::size_t>(lanes));
  return __builtin_convertvector(bytes, IntVec<Real>) != 0;
}

// a * b + c, fused where the instruction set has it. The build forbids the compiler to fuse on its own
// (-ffp-contract=off), so that a value never depends on which of several loops computed it.
TIDEGATE_INLINE Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

TIDEGATE_INLINE Vec<double> multiply_add(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__)
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

// Lanes of `yes` where the mask is set, of `no` elsewhere.
template <class Real> TIDEGATE_INLINE Vec<Real> select(IntVec<Real> mask, Vec<Real> yes, Vec<Real> no) {
  return (Vec<Real>)((mask & (IntVec<Real>)yes) | (~mask & (IntVec<Real>)no));
}

// Lane l is lane which[l] of the two vectors side by side.
template <class Real> TIDEGATE_INLINE Vec<Real> pick(Vec<Real> first, Vec<Real> second, IntVec<Real> which) {
#if defined(__clang__)
  Vec<Real> picked;
  for (int lane = 0; lane < kLanes<Real>; ++lane) {
    const int from = static_cast<int>(which[lane]);
    picked[lane] = from < kLanes<Real> ? first[from] : second[from - kLanes<Real>];
  }
  return picked;
#else
  return __builtin_shuffle(first, second, which);
#endif
}

// The lanes added up, always in the same order: halves onto halves.
template <class Real> TIDEGATE_INLINE Real sum_lanes(Vec<Real> v) {
#pragma GCC unroll 4
  for (int width = kLanes<Real> / 2; width > 0; width /= 2) {
    IntVec<Real> which;
    for (int lane = 0; lane < kLanes<Real>; ++lane) which[lane] = (lane + width) % kLanes<Real>;
    v += pick<Real>(v, v, which);
  }
  return v[0];
}

// Rows become columns, lane l of row m being lane m of row l: in each stage pairs of rows exchange the halves of
// stretches twice as long as before.
template <class Real> TIDEGATE_INLINE void transpose(Vec<Real> (&rows)[kLanes<Real>]) {
  constexpr int lanes = kLanes<Real>;
  const auto exchange = [&]<int Stretch>(auto&& self) {
    if constexpr (Stretch < lanes) {
      IntVec<Real> upper, lower;
      for (int lane = 0; lane < lanes; ++lane) {
        upper[lane] = (lane & Stretch) == 0 ? lane : lanes + lane - Stretch;
        lower[lane] = (lane & Stretch) == 0 ? lane + Stretch : lanes + lane;
      }
#pragma GCC unroll 16
      for (int row = 0; row < lanes; ++row)
        if ((row & Stretch) == 0) {
          const Vec<Real> first = rows[row], second = rows[row + Stretch];
          rows[row] = pick<Real>(first, second, upper);
          rows[row + Stretch] = pick<Real>(first, second, lower);
        }
      self.template operator()<2 * Stretch>(self);
    }
  };
  exchange.template operator()<1>(exchange);
}

}  // namespace tidegate::TIDEGATE_ISA
