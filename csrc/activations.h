// exp, sigmoid and tanh on lanes. NaN in gives NaN out; infinities give the limits.
// Measured against the correctly rounded value (tests/kernels/test_activations.py), where the result is a normal number:
// float32 exp within 2 ulp, sigmoid and tanh within 3. In float64, which serves correctness, they are the C library's.
#pragma once

#include <math.h>

#include "vector.h"

namespace tidegate::TIDEGATE_ISA {

namespace detail {

// 2^n for whole n in [-252, 254] given as float, in two factors, so that results below the normal range come out right.
TIDEGATE_INLINE Vec<float> scale_by_power_of_two(Vec<float> v, IntVec<float> n) {
  const IntVec<float> half = n >> 1;
  const Vec<float> low = (Vec<float>)((half + 127) << 23);
  const Vec<float> high = (Vec<float>)((n - half + 127) << 23);
  return v * low * high;
}

struct Reduced {
  Vec<float> remainder;  // in [-ln 2 / 2, ln 2 / 2]
  IntVec<float> power;
};

// x = power * ln 2 + remainder. Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
TIDEGATE_INLINE Reduced reduce(Vec<float> x) {
  const Vec<float> magic = broadcast<float>(12582912.0f);
  const Vec<float> shifted = multiply_add(x, broadcast<float>(1.44269504088896341f), magic);
  const Vec<float> whole = shifted - magic;
  Vec<float> remainder = multiply_add(whole, broadcast<float>(-0.693145751953125f), x);
  remainder = multiply_add(whole, broadcast<float>(-1.42860682030941723e-6f), remainder);
  return {remainder, (IntVec<float>)shifted - (IntVec<float>)magic};
}

// (exp(r) - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2].
TIDEGATE_INLINE Vec<float> exp_tail(Vec<float> r) {
  Vec<float> p = broadcast<float>(1.9875691500e-4f);
  p = multiply_add(p, r, broadcast<float>(1.3981999507e-3f));
  p = multiply_add(p, r, broadcast<float>(8.3334519073e-3f));
  p = multiply_add(p, r, broadcast<float>(4.1665795894e-2f));
  p = multiply_add(p, r, broadcast<float>(1.6666665459e-1f));
  return multiply_add(p, r, broadcast<float>(5.0000001201e-1f));
}

TIDEGATE_INLINE Vec<float> clamp(Vec<float> x, float low, float high) {
  x = select<float>(x < low, broadcast<float>(low), x);
  return select<float>(x > high, broadcast<float>(high), x);
}

template <double (*function)(double)> TIDEGATE_INLINE Vec<double> each_lane(Vec<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = function(x[lane]);
  return x;
}

}  // namespace detail

#if defined(__AVX512F__)

namespace detail {

// The order of the operands lets NaN through.
TIDEGATE_INLINE Vec<float> at_least(float low, Vec<float> x) {
  return (Vec<float>)_mm512_max_ps(_mm512_set1_ps(low), (__m512)x);
}
TIDEGATE_INLINE Vec<float> at_most(float high, Vec<float> x) {
  return (Vec<float>)_mm512_min_ps(_mm512_set1_ps(high), (__m512)x);
}

// 1 / x for finite x from 1 up: an estimate of 14 bits and a step of Newton's, several times faster than the division.
TIDEGATE_INLINE Vec<float> reciprocal(Vec<float> x) {
  const Vec<float> estimate = (Vec<float>)_mm512_rcp14_ps((__m512)x);
  const Vec<float> error = (Vec<float>)_mm512_fnmadd_ps((__m512)x, (__m512)estimate, _mm512_set1_ps(1.0f));
  return multiply_add(estimate, error, estimate);
}

// x = power * ln 2 + remainder, the power as a float.
TIDEGATE_INLINE Vec<float> reduce(Vec<float> x, Vec<float>& remainder) {
  const Vec<float> magic = broadcast<float>(12582912.0f);
  const Vec<float> power = multiply_add(x, broadcast<float>(1.44269504088896341f), magic) - magic;
  remainder = multiply_add(power, broadcast<float>(-0.693145751953125f), x);
  remainder = multiply_add(power, broadcast<float>(-1.42860682030941723e-6f), remainder);
  return power;
}

TIDEGATE_INLINE Vec<float> scale(Vec<float> x, Vec<float> power) {
  return (Vec<float>)_mm512_scalef_ps((__m512)x, (__m512)power);
}

}  // namespace detail

TIDEGATE_INLINE Vec<float> exp(Vec<float> x) {
  Vec<float> r;
  const Vec<float> power = detail::reduce(detail::at_most(89.0f, detail::at_least(-104.0f, x)), r);
  return detail::scale(multiply_add(detail::exp_tail(r), r * r, r) + 1.0f, power);
}

// 0 below -88, where the true value is below the normal range.
TIDEGATE_INLINE Vec<float> sigmoid(Vec<float> x) {
  Vec<float> r;
  const Vec<float> power = detail::reduce(detail::at_most(88.0f, detail::at_least(-104.0f, -x)), r);
  const Vec<float> e = detail::scale(multiply_add(detail::exp_tail(r), r * r, r) + 1.0f, power);
  const Vec<float> result = detail::reciprocal(1.0f + e);
  return (Vec<float>)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-88.0f), _CMP_NLT_UQ), (__m512)result);
}

// tanh(x) = e / (e + 2) with e = exp(2 |x|) - 1, computed without cancellation; beyond 10 it is 1 in float32.
TIDEGATE_INLINE Vec<float> tanh(Vec<float> x) {
  const IntVec<float> sign = (IntVec<float>)x & (std::int32_t)0x80000000;
  const Vec<float> magnitude = (Vec<float>)((IntVec<float>)x ^ sign);
  Vec<float> r;
  const Vec<float> power = detail::reduce(detail::at_most(20.0f, magnitude + magnitude), r);
  const Vec<float> factor = detail::scale(broadcast<float>(1.0f), power);
  const Vec<float> e = multiply_add(multiply_add(detail::exp_tail(r), r * r, r), factor, factor - 1.0f);
  const Vec<float> result = e * detail::reciprocal(e + 2.0f);
  return (Vec<float>)((IntVec<float>)result | sign);
}

#else

TIDEGATE_INLINE Vec<float> exp(Vec<float> x) {
  const detail::Reduced reduced = detail::reduce(detail::clamp(x, -104.0f, 89.0f));
  const Vec<float> r = reduced.remainder;
  const Vec<float> value = multiply_add(detail::exp_tail(r), r * r, r) + 1.0f;
  const Vec<float> result = detail::scale_by_power_of_two(value, reduced.power);
  return select<float>(x == x, result, x);
}

TIDEGATE_INLINE Vec<float> sigmoid(Vec<float> x) { return 1.0f / (1.0f + exp(-x)); }

// tanh(x) = e / (e + 2) with e = exp(2 |x|) - 1, computed without cancellation; beyond 10 it is 1 in float32.
TIDEGATE_INLINE Vec<float> tanh(Vec<float> x) {
  const IntVec<float> sign = (IntVec<float>)x & (std::int32_t)0x80000000;
  const Vec<float> magnitude = (Vec<float>)((IntVec<float>)x ^ sign);
  const Vec<float> twice = detail::clamp(magnitude + magnitude, 0.0f, 20.0f);
  const detail::Reduced reduced = detail::reduce(twice);
  const Vec<float> r = reduced.remainder;
  const Vec<float> power = (Vec<float>)((reduced.power + 127) << 23);
  const Vec<float> expm1_r = multiply_add(detail::exp_tail(r), r * r, r);
  const Vec<float> e = multiply_add(expm1_r, power, power - 1.0f);
  const Vec<float> result = e / (e + 2.0f);
  return select<float>(x == x, (Vec<float>)((IntVec<float>)result | sign), x);
}

#endif

TIDEGATE_INLINE Vec<double> exp(Vec<double> x) { return detail::each_lane<::exp>(x); }
TIDEGATE_INLINE Vec<double> sigmoid(Vec<double> x) { return 1.0 / (1.0 + exp(-x)); }
TIDEGATE_INLINE Vec<double> tanh(Vec<double> x) { return detail::each_lane<::tanh>(x); }

}  // namespace tidegate::TIDEGATE_ISA
