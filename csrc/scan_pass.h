// What passes over ragged rows share whose units do not see each other: how the work is cut, and where values stand.
//
// Little is computed a number, so what matters is that every array is read and written once, in order: a part of the
// work is a few rows side by side, or some units of them, from the first step to the last, and the state of the step
// before is read where it was just written.
#pragma once

#include "rows.h"
#include "scan.h"

namespace tidegate::TIDEGATE_ISA {

namespace scan {

inline constexpr int kRowsOfPart = 8;

// How the work is cut: blocks of rows, and where these are fewer than threads, ranges of units.
struct Parts {
  int row_parts, unit_parts;

  Parts(const ScanLayout& l, int lanes, int team) {
    row_parts = (l.rows + kRowsOfPart - 1) / kRowsOfPart;
    const int wanted = row_parts == 0 ? 1 : (team + row_parts - 1) / row_parts, most = (l.units + lanes - 1) / lanes;
    unit_parts = wanted < most ? wanted : most < 1 ? 1 : most;
  }

  int count() const { return row_parts * unit_parts; }
};

template <class Real> class Pass {
 protected:
  Pass(const ScanLayout& l, const std::int64_t* offsets, const Parts& parts, int part)
      : layout_(l), steps_{l.batch_sizes, offsets, l.steps}, units_(l.units) {
    first_row_ = part / parts.unit_parts * kRowsOfPart;
    rows_ = l.rows - first_row_ < kRowsOfPart ? l.rows - first_row_ : kRowsOfPart;
    const int blocks = (l.units + kLanes<Real> - 1) / kLanes<Real>, which = part % parts.unit_parts;
    first_unit_ = blocks * which / parts.unit_parts * kLanes<Real>;
    const int end = blocks * (which + 1) / parts.unit_parts * kLanes<Real>;
    last_unit_ = end < l.units ? end : l.units;
  }

  // Where an array [N, width] or [B, width] has what is of row m of this part.
  template <class R> R* value(R* array, std::int64_t t, int m, int width) const {
    return array + steps_.at(t, first_row_ + m) * width;
  }
  template <class R> R* row(R* array, int m, int width) const {
    return array + static_cast<std::int64_t>(first_row_ + m) * width;
  }

  int alive(std::int64_t t) const { return steps_.alive(t, first_row_, rows_); }
  std::int64_t longest() const { return steps_.longest(first_row_); }

  // Calls `body(unit, lanes)` for this part's units, a vector at a time.
  template <class Body> TIDEGATE_INLINE void for_units(const Body& body) const {
    for (int unit = first_unit_; unit < last_unit_; unit += kLanes<Real>) body(unit, lanes_left<Real>(last_unit_, unit));
  }

  const ScanLayout& layout_;
  const Steps steps_;
  const int units_;
  int first_row_, rows_, first_unit_, last_unit_;
};

struct Offsets {
  std::int64_t* of_steps;

  Offsets(Arena& arena, const ScanLayout& l) : of_steps(arena.take<std::int64_t>(static_cast<std::size_t>(l.steps) + 1)) {}
};

// Calls `body(offsets of the steps, parts, part)` for all parts, each by one thread of a team; `cost` in the operations
// of team_size() for one number.
template <class Real, class Body> void for_all_parts(const ScanLayout& l, double cost, const Body& body) {
  const auto offsets = make_space<Offsets>(l);
  find_steps(l.batch_sizes, l.steps, offsets.of_steps);
  const double operations = cost * static_cast<double>(l.values) * l.units;
  const Parts parts(l, kLanes<Real>, team_size(l.threads, l.threads, operations));
  for_parts(team_size(l.threads, parts.count(), operations), parts.count(),
            [&](int part, int) { body(offsets.of_steps, parts, part); });
}

}  // namespace scan

}  // namespace tidegate::TIDEGATE_ISA
