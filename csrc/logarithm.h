// The natural logarithm on lanes, for sums of probabilities: numbers that are not negative. 0 gives minus infinity,
// infinity and NaN give themselves. In float32 within 0.83 ulp for normal numbers (denormal ones come out too large);
// in float64 it is the C library's.
#pragma once

#include "activations.h"

namespace tidegate::TIDEGATE_ISA {

// x = m 2^n with m in [sqrt(1/2), sqrt(2)); the polynomial is that of Cephes' logf.
TIDEGATE_INLINE Vec<float> log(Vec<float> x) {
  const IntVec<float> bits = (IntVec<float>)x;
  const IntVec<float> power = (bits - 0x3f3504f3) >> 23;
  const Vec<float> f = (Vec<float>)(bits - (power << 23)) - 1.0f;
  const Vec<float> n = __builtin_convertvector(power, Vec<float>);
  Vec<float> p = broadcast<float>(7.0376836292e-2f);
  p = multiply_add(p, f, broadcast<float>(-1.1514610310e-1f));
  p = multiply_add(p, f, broadcast<float>(1.1676998740e-1f));
  p = multiply_add(p, f, broadcast<float>(-1.2420140846e-1f));
  p = multiply_add(p, f, broadcast<float>(1.4249322787e-1f));
  p = multiply_add(p, f, broadcast<float>(-1.6668057665e-1f));
  p = multiply_add(p, f, broadcast<float>(2.0000714765e-1f));
  p = multiply_add(p, f, broadcast<float>(-2.4999993993e-1f));
  p = multiply_add(p, f, broadcast<float>(3.3333331174e-1f));
  const Vec<float> square = f * f;
  Vec<float> y = multiply_add(n, broadcast<float>(-2.12194440e-4f), p * f * square);
  y = multiply_add(square, broadcast<float>(-0.5f), y);
  const Vec<float> result = multiply_add(n, broadcast<float>(0.693359375f), f + y);
  const Vec<float> infinity = broadcast<float>(__builtin_inff());
  return select<float>(x == 0.0f, -infinity, select<float>(x < infinity, result, x));
}

TIDEGATE_INLINE Vec<double> log(Vec<double> x) { return detail::each_lane<::log>(x); }

}  // namespace tidegate::TIDEGATE_ISA
