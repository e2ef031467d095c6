// Rows of different lengths in the ragged layout: where the values of each step stand, who is alive, and how blocks of
// rows go round the threads. For kernels whose rows do not wait for each other.
#pragma once

#include <omp.h>

#include "kernels.h"
#include "sequence.h"

namespace tidegate::TIDEGATE_ISA {

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

// The lanes of a vector that stand before the end of a row of `count` numbers.
template <class Real> TIDEGATE_INLINE int lanes_left(int count, int first) {
  return count - first < kLanes<Real> ? count - first : kLanes<Real>;
}

// A team is not worth its start, nor the wait for a thread that the machine gives to others, below some tenth of a
// millisecond; some 40 operations take a nanosecond.
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

// Room for what `Space` takes from an arena: counted once, then taken.
template <class Space, class... Arguments> Space make_space(const Arguments&... arguments) {
  Arena counting(nullptr);
  Space(counting, arguments...);
  Arena arena(workspace(counting.used()));
  return Space(arena, arguments...);
}

}  // namespace tidegate::TIDEGATE_ISA
