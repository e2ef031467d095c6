// Packed weights and the register-blocked product of a few rows with them.
#pragma once

#include "vector.h"

namespace tidegate::TIDEGATE_ISA {

// Rows of a block: as many as leave registers for the weights (three gates of eight rows fill 24 of 32 registers).
inline constexpr int kMaxRows = kVectorRegisters >= 32 ? 8 : 4;
inline constexpr int kMaxAccumulators = kVectorRegisters * 3 / 4;

template <class Real> constexpr int unit_blocks(int units) { return (units + kLanes<Real> - 1) / kLanes<Real>; }

// How many unit blocks one call of `multiply` takes at the most, for a block of `rows` rows and `gates` gates.
constexpr int max_unit_blocks(int rows, int gates) {
  constexpr int candidates[] = {8, 4, 3, 2};
  for (int blocks : candidates)
    if (rows * gates * blocks <= kMaxAccumulators) return blocks;
  return 1;
}

// The next group of unit blocks when `remaining` are left: never a single block after a group of three.
constexpr int next_group(int remaining, int most) {
  if (most == 3) return remaining == 4 || remaining == 2 ? 2 : (remaining >= 3 ? 3 : 1);
  constexpr int candidates[] = {8, 4, 2};
  for (int blocks : candidates)
    if (blocks <= most && blocks <= remaining) return blocks;
  return 1;
}

// packed[unit block][k][gate][lane] = weights[gate * units + unit][k], zeros beyond the last unit.
template <class Real>
inline void pack_gates(const Real* weights, int gates, int units, int depth, int unit_block, Real* packed) {
  constexpr int lanes = kLanes<Real>;
  Real* to = packed + static_cast<std::size_t>(unit_block) * depth * gates * lanes;
  for (int gate = 0; gate < gates; ++gate)
    for (int lane = 0; lane < lanes; ++lane) {
      const int unit = unit_block * lanes + lane;
      Real* column = to + gate * lanes + lane;
      if (unit < units) {
        const Real* row = weights + (static_cast<std::size_t>(gate) * units + unit) * depth;
        for (int k = 0; k < depth; ++k) column[static_cast<std::size_t>(k) * gates * lanes] = row[k];
      } else {
        for (int k = 0; k < depth; ++k) column[static_cast<std::size_t>(k) * gates * lanes] = 0;
      }
    }
}

// packed[unit block][k][lane] = weights[k][unit], for `depth` consecutive rows of a matrix [depth, units].
template <class Real>
inline void pack_columns(const Real* weights, int units, int depth, int unit_block, Real* to) {
  constexpr int lanes = kLanes<Real>;
  const int first = unit_block * lanes;
  const int valid = units - first < lanes ? units - first : lanes;
  for (int k = 0; k < depth; ++k)
    store<Real>(to + static_cast<std::size_t>(k) * lanes,
                load_lanes<Real>(weights + static_cast<std::size_t>(k) * units + first, valid));
}

// sums[row][block][gate] += inputs[row][0..depth) * packed. Every element is one chain over k in order, so its value
// does not depend on how rows and units are grouped.
template <class Real, int Rows, int Blocks, int Gates>
TIDEGATE_INLINE void multiply(const Real* const* inputs, const Real* packed, std::size_t block_stride, int depth,
                              Vec<Real> (&sums)[Rows][Blocks][Gates]) {
  constexpr int lanes = kLanes<Real>;
  const Real* rows[Rows];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) rows[m] = inputs[m];
  for (int k = 0; k < depth; ++k) {
    Vec<Real> weights[Blocks][Gates];
#pragma GCC unroll 8
    for (int b = 0; b < Blocks; ++b)
#pragma GCC unroll 4
      for (int g = 0; g < Gates; ++g)
        weights[b][g] = load<Real>(packed + b * block_stride + (static_cast<std::size_t>(k) * Gates + g) * lanes);
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      const Vec<Real> input = broadcast<Real>(rows[m][k]);
#pragma GCC unroll 8
      for (int b = 0; b < Blocks; ++b)
#pragma GCC unroll 4
        for (int g = 0; g < Gates; ++g) sums[m][b][g] = multiply_add(input, weights[b][g], sums[m][b][g]);
    }
  }
}

}  // namespace tidegate::TIDEGATE_ISA
