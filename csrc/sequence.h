// What every recurrent cell's sequence loop shares: where rows and states lie, and how a team goes through the steps.
#pragma once

#include "gemm.h"
#include "kernels.h"
#include "threads.h"

namespace tidegate::TIDEGATE_ISA {

template <int N> struct Count {
  static constexpr int value = N;
};

// Calls `body(Count<rows>, Count<blocks>)` for run-time counts that `max_unit_blocks` allows.
template <int Gates, int Rows, class Body> TIDEGATE_INLINE void with_blocks(int blocks, const Body& body) {
  constexpr int room = kMaxAccumulators / (Rows * Gates);
  if constexpr (room >= 8)
    if (blocks == 8) return body(Count<Rows>{}, Count<8>{});
  if constexpr (room >= 4)
    if (blocks == 4) return body(Count<Rows>{}, Count<4>{});
  if constexpr (room >= 3)
    if (blocks == 3) return body(Count<Rows>{}, Count<3>{});
  if constexpr (room >= 2)
    if (blocks == 2) return body(Count<Rows>{}, Count<2>{});
  return body(Count<Rows>{}, Count<1>{});
}

template <int Gates, class Body> TIDEGATE_INLINE void with_counts(int rows, int blocks, const Body& body) {
  switch (rows) {
    case 1: return with_blocks<Gates, 1>(blocks, body);
    case 2: return with_blocks<Gates, 2>(blocks, body);
    case 3: return with_blocks<Gates, 3>(blocks, body);
    case 4: return with_blocks<Gates, 4>(blocks, body);
  }
  if constexpr (kMaxRows == 8) switch (rows) {
      case 5: return with_blocks<Gates, 5>(blocks, body);
      case 6: return with_blocks<Gates, 6>(blocks, body);
      case 7: return with_blocks<Gates, 7>(blocks, body);
      case 8: return with_blocks<Gates, 8>(blocks, body);
    }
}

// One direction of one layer over ragged rows.
template <class Real> struct Direction {
  const std::int64_t* batch_sizes;
  const std::int64_t* offsets;  // offsets[t]: where step t begins among the N values
  std::int64_t steps;
  int directions, rows, units;
  int index;  // 0 forward, 1 reverse
  const Real* h_0;
  const Real* output;

  int alive(std::int64_t t) const { return t >= 0 && t < steps ? static_cast<int>(batch_sizes[t]) : 0; }

  // The row-th value of step t in an array [N, D, width].
  template <class Pointer> Pointer at(Pointer base, std::int64_t t, int row, int width) const {
    return base + ((offsets[t] + row) * directions + index) * width;
  }

  // The state of a row before step t.
  const Real* previous(std::int64_t t, int row) const {
    const std::int64_t before = index == 0 ? t - 1 : t + 1;
    if (row < alive(before)) return at(output, before, row, units);
    return h_0 + (static_cast<std::int64_t>(index) * rows + row) * units;
  }
};

// The part of one direction's work that one thread of the team does.
struct Share {
  int row_part, row_parts;
  int first_block, last_block;  // unit blocks [first, last)
  int block_rows;
  Barrier* barrier;  // of the threads that share these rows, one a unit part

  // Calls `body(first row, rows)` for this share's blocks of the first `alive` rows. Blocks go round the row parts in
  // turn, so that the parts stay even as rows end.
  template <class Body> TIDEGATE_INLINE void for_rows(int alive, const Body& body) const {
    for (int first = row_part * block_rows; first < alive; first += row_parts * block_rows)
      body(first, alive - first < block_rows ? alive - first : block_rows);
  }

  // Calls `body(first unit block, unit blocks)` in groups that one product takes.
  template <int Gates, class Body> TIDEGATE_INLINE void for_units(const Body& body) const {
    const int most = max_unit_blocks(block_rows, Gates);
    for (int block = first_block; block < last_block;) {
      const int group = next_group(last_block - block, most);
      body(block, group);
      block += group;
    }
  }

  // Calls `body(Count<rows>, Count<blocks>, first row, first unit block)` for every product of this share.
  template <int Gates, class Body> TIDEGATE_INLINE void for_products(int alive, const Body& body) const {
    for_units<Gates>([&](int block, int blocks) {
      for_rows(alive, [&](int row, int rows) {
        with_counts<Gates>(rows, blocks, [&](auto r, auto b) { body(r, b, row, block); });
      });
    });
  }
};

inline constexpr int kMaxTeam = 256;

// Starts a team and gives each thread its direction and share: `prepare(direction, unit block)` once for every unit
// block, then, all of them done, `work(direction, share)`.
template <class Prepare, class Work>
inline void run_directions(int threads, int directions, int unit_blocks, int rows, std::int64_t values,
                           std::int64_t steps, double weight_bytes, const Prepare& prepare, const Work& work) {
  Barrier prepared[2];
  Barrier meeting[kMaxTeam];
  const int mean_rows = steps > 0 ? static_cast<int>((values + steps - 1) / steps) : rows;
  const auto member = [&](int thread, int team) {
    const int side_by_side = team < directions ? 1 : directions;
    const int per_direction = team / side_by_side;
    const int which = thread / per_direction, place = thread % per_direction;
    if (which >= side_by_side) return;
    const Division division = divide(per_direction, mean_rows < 1 ? 1 : mean_rows, unit_blocks, weight_bytes);
    const int members = division.row_parts * division.unit_parts;
    if (place >= members) return;
    const int row_part = place / division.unit_parts, unit_part = place % division.unit_parts;
    Share share;
    share.row_part = row_part;
    share.row_parts = division.row_parts;
    share.first_block = unit_blocks * unit_part / division.unit_parts;
    share.last_block = unit_blocks * (unit_part + 1) / division.unit_parts;
    share.block_rows = (mean_rows + division.row_parts - 1) / division.row_parts;
    share.block_rows = share.block_rows < 1 ? 1 : share.block_rows > kMaxRows ? kMaxRows : share.block_rows;
    for (int direction = which; direction < directions; direction += side_by_side) {
      for (int block = place; block < unit_blocks; block += members) prepare(direction, block);
      prepared[which].wait();
      share.barrier = &meeting[which * per_direction + row_part];
      work(direction, share);
    }
  };
  const auto set_up = [&](int team) {
    const int per_direction = team / (team < directions ? 1 : directions);
    const Division division = divide(per_direction, mean_rows < 1 ? 1 : mean_rows, unit_blocks, weight_bytes);
    for (Barrier& barrier : prepared) barrier.reset(division.row_parts * division.unit_parts);
    for (Barrier& barrier : meeting) barrier.reset(division.unit_parts);
  };
  if (threads <= 1 || forked()) {
    set_up(1);
    member(0, 1);
    return;
  }
#pragma omp parallel num_threads(threads < kMaxTeam ? threads : kMaxTeam)
  {
    const int team = omp_get_num_threads();
#pragma omp single
    set_up(team);
    member(omp_get_thread_num(), team);
  }
}

// offsets[0..steps] of the steps among the values, written to `to`.
inline void find_offsets(const std::int64_t* batch_sizes, std::int64_t steps, std::int64_t* to) {
  to[0] = 0;
  for (std::int64_t t = 0; t < steps; ++t) to[t + 1] = to[t] + batch_sizes[t];
}

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace tidegate::TIDEGATE_ISA
