// What every recurrent cell's sequence loop shares: where rows and states lie, and how a team goes through the steps.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "kernels.h"
#include "product_low.h"
#include "threads.h"

namespace tidegate::TIDEGATE_ISA {

// One turn of a pass: step t of the sequences.
struct Step {
  std::int64_t turn, t;
  std::int64_t first;  // where the first row's value stands in an array [N, D, ...], the others `stride` apart
  std::int64_t stride;
  std::int64_t first_before;  // the same of the step that comes before in this direction
  int alive, alive_before, alive_after;
};

// One direction of one layer over ragged rows.
struct Walk {
  const std::int64_t* batch_sizes;
  const std::int64_t* offsets;  // offsets[t]: where step t begins among the N values
  std::int64_t steps;
  int directions;
  int index;  // 0 forward, 1 reverse

  int alive(std::int64_t t) const { return t >= 0 && t < steps ? static_cast<int>(batch_sizes[t]) : 0; }

  // The i-th turn of the forward pass.
  Step step(std::int64_t i) const {
    const std::int64_t t = index == 0 ? i : steps - 1 - i, before = index == 0 ? t - 1 : t + 1;
    const int alive_before = alive(before);
    return {i, t, offsets[t] * directions + index, directions,
            alive_before == 0 ? 0 : offsets[before] * directions + index, alive(t), alive_before,
            alive(index == 0 ? t + 1 : t - 1)};
  }
};

struct Range {
  int first, last;
};

// The part of one direction's work that one thread of the team does.
struct Share {
  int row_part, row_parts;
  int unit_part, unit_parts;
  int block_rows;
  Barrier* barrier;  // of the threads that share these rows, one a unit part

  void meet() const { barrier->wait(); }

  Range of(int count) const { return {count * unit_part / unit_parts, count * (unit_part + 1) / unit_parts}; }

  // Calls `body(first row, rows)` for this share's blocks of the first `alive` rows. Blocks go round the row parts in
  // turn, so that the parts stay even as rows end.
  template <class Body> TIDEGATE_INLINE void for_rows(int alive, const Body& body) const {
    for (int first = row_part * block_rows; first < alive; first += row_parts * block_rows)
      body(first, alive - first < block_rows ? alive - first : block_rows);
  }

  template <class Body> TIDEGATE_INLINE void for_each_row(int alive, const Body& body) const {
    for_rows(alive, [&](int first, int rows) {
      for (int row = first; row < first + rows; ++row) body(row);
    });
  }
};

// Weights that stay in a core's second cache beside what streams past them.
inline constexpr std::size_t kNearBytes = 1200 << 10;

// Rows that enter a product.
template <class Product> struct Inputs {
  const typename Product::Input* base;
  std::ptrdiff_t stride;
};

// The products of this share's rows and units, tile by tile: `sink(first row, rows, first unit block, unit blocks,
// tile)`, the tile being [rows][unit blocks][Gates][lanes]. What is wanted after the product, which
// fetches it on its way, is named by `prefetch(first row, rows, first unit block, unit blocks, ahead)`.
//
// Where the weights stay in the near cache, a few rows meet all of them, and what the sinks read and write comes in
// order; few rows have wide tiles, since the more units meet in a sink, the more of their chains overlap. Otherwise a few
// weights meet all rows, and every other turn goes through them from the end: what the turn before used last is still in
// the cache, of which a turn from the beginning would find nothing.
template <int Gates, class Product, class Sink, class Prefetch>
inline void products(const Share& share, std::int64_t turn, int alive, int blocks, const Inputs<Product>& inputs,
                     const char* packed, int depth, const Sink& sink, const Prefetch& prefetch) {
  alignas(64) typename Product::Real tile[Product::kBlockRows * kTilePanels * kLanes<typename Product::Real>];
  const Range range = share.of(blocks);
  const std::size_t unit_bytes = Gates * Product::panel_bytes(depth);
  const bool near = (range.last - range.first) * unit_bytes <= kNearBytes;
  const int most = kTilePanels / Gates * (near ? Product::kBlockRows / share.block_rows : 1);
  const int groups = (range.last - range.first + most - 1) / most;
  const auto multiply = [&](int group, int row, int rows) {
    const int first = range.first + (range.last - range.first) * group / groups;
    const int count = range.first + (range.last - range.first) * (group + 1) / groups - first;
    Ahead ahead;
    prefetch(row, rows, first, count, ahead);
    Product::run(rows, count * Gates, inputs.base + row * inputs.stride, inputs.stride, packed + first * unit_bytes, depth,
                 tile, ahead);
    sink(row, rows, first, count, tile);
  };
  if (near)
    share.for_rows(alive, [&](int row, int rows) {
      for (int group = 0; group < groups; ++group) multiply(group, row, rows);
    });
  else
    for (int group = 0; group < groups; ++group)
      share.for_rows(alive, [&](int row, int rows) { multiply(turn % 2 == 0 ? group : groups - 1 - group, row, rows); });
}

inline constexpr auto no_prefetch = [](int, int, int, int, Ahead&) {};

inline constexpr int kMaxTeam = 256;

// Starts a team and gives each thread its direction and share: `prepare(direction, member, members)` by each member,
// then, all of them done, `work(direction, share)`.
template <class Prepare, class Work>
inline void run_directions(const Layout& layout, int unit_blocks, int most_block_rows, double weight_bytes,
                           const Prepare& prepare, const Work& work) {
  Barrier prepared[2];
  Barrier meeting[kMaxTeam];
  const int directions = layout.directions;
  int mean_rows = layout.rows;
  if (layout.steps > 0) mean_rows = static_cast<int>((layout.values + layout.steps - 1) / layout.steps);
  if (mean_rows < 1) mean_rows = 1;
  const auto member = [&](int thread, int team) {
    const int side_by_side = directions_at_once(team, directions, mean_rows, unit_blocks, weight_bytes);
    const int per_direction = team / side_by_side;
    const int which = thread / per_direction, place = thread % per_direction;
    if (which >= side_by_side) return;
    const Division division = divide(per_direction, mean_rows, unit_blocks, weight_bytes);
    const int members = division.row_parts * division.unit_parts;
    if (place >= members) return;
    const ThreadScope scope;
    int block_rows = (mean_rows + division.row_parts - 1) / division.row_parts;
    if (block_rows > most_block_rows) block_rows = most_block_rows;
    const int row_part = place / division.unit_parts;
    const Share share{row_part, division.row_parts, place % division.unit_parts, division.unit_parts, block_rows,
                      &meeting[which * per_direction + row_part]};
    for (int direction = which; direction < directions; direction += side_by_side) {
      prepare(direction, place, members);
      prepared[which].wait();
      work(direction, share);
    }
  };
  const auto set_up = [&](int team) {
    const int per_direction = team / directions_at_once(team, directions, mean_rows, unit_blocks, weight_bytes);
    const Division division = divide(per_direction, mean_rows, unit_blocks, weight_bytes);
    for (Barrier& barrier : prepared) barrier.reset(division.row_parts * division.unit_parts);
    for (Barrier& barrier : meeting) barrier.reset(division.unit_parts);
  };
  if (layout.threads <= 1 || forked()) {
    set_up(1);
    member(0, 1);
    return;
  }
#pragma omp parallel num_threads(layout.threads < kMaxTeam ? layout.threads : kMaxTeam)
  {
    const int team = omp_get_num_threads();
#pragma omp single
    set_up(team);
    member(omp_get_thread_num(), team);
  }
}

// Hands out memory from one block, each piece aligned to 64 bytes; without a block it only counts. Under AddressSanitizer
// a piece ends at its last byte and begins as NaNs, so that tests see what reads beyond it or before it was written.
class Arena {
 public:
  explicit Arena(void* start) : start_(static_cast<char*>(start)) {}

  template <class T> T* take(std::size_t count) {
    T* piece = start_ == nullptr ? nullptr : reinterpret_cast<T*>(start_ + used_);
    const std::size_t bytes = count * sizeof(T);
#if defined(__SANITIZE_ADDRESS__)
    const std::size_t taken = (bytes + 63) / 64 * 64 + 64;
    if (piece != nullptr) {
      __asan_unpoison_memory_region(piece, bytes);
      std::memset(static_cast<void*>(piece), 0xff, bytes);
      __asan_poison_memory_region(start_ + used_ + bytes, taken - bytes);
    }
#else
    const std::size_t taken = (bytes + 63) / 64 * 64;
#endif
    used_ += taken;
    return piece;
  }

  std::size_t used() const { return used_; }

 private:
  char* start_;
  std::size_t used_ = 0;
};

}  // namespace tidegate::TIDEGATE_ISA
