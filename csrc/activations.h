// exp, sigmoid and tanh on lanes. NaN in gives NaN out; infinities give the limits.
// Measured against the correctly rounded value (tests/kernels/test_activations.py): float32 within 2 ulp where the
// result is a normal number. In float64, which serves correctness, they are the C library's.
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

TIDEGATE_INLINE Vec<double> exp(Vec<double> x) { return detail::each_lane<::exp>(x); }
TIDEGATE_INLINE Vec<double> sigmoid(Vec<double> x) { return 1.0 / (1.0 + exp(-x)); }
TIDEGATE_INLINE Vec<double> tanh(Vec<double> x) { return detail::each_lane<::tanh>(x); }

}  // namespace tidegate::TIDEGATE_ISA
