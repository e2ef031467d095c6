// From a call to its passes: packed weights, workspace, the team of threads.
#pragma once

#include "backward.h"
#include "forward.h"

namespace tidegate::TIDEGATE_ISA {

// Panels of the weights' rows: packed[block][gate], for the product of states with all gates of a unit.
template <class T>
inline void pack_gates(const typename T::Product::Source* weights, const float* scales, int gates, int units, int depth,
                       int block, char* packed) {
  using Product = typename T::Product;
  constexpr int width = kLanes<typename T::Real>;
  for (int gate = 0; gate < gates; ++gate) {
    const auto row = [&](int lane) { return static_cast<std::int64_t>(gate) * units + block * width + lane; };
    Product::pack_rows(
        [&](int lane) { return block * width + lane < units ? weights + row(lane) * depth : nullptr; },
        [&](int lane) { return scales[row(lane)]; }, depth,
        packed + (static_cast<std::size_t>(block) * gates + gate) * Product::panel_bytes(depth));
  }
}

// A panel of the weights' columns, for the product of gradients with them: `row_of(k)` is the k-th row, `units` wide.
template <class T, class RowOf>
inline void pack_columns(const RowOf& row_of, int depth, int units, int block, char* packed) {
  using Product = typename T::Product;
  constexpr int width = kLanes<typename T::Real>;
  const int first = block * width;
  Product::pack_columns([&](int k) { return row_of(k) + first; }, depth, units - first < width ? units - first : width,
                        packed + static_cast<std::size_t>(block) * Product::panel_bytes(depth));
}

// Runs a pass: counts and takes the workspace, packs the weights, sends the team through the steps.
template <class PassType, class Arguments>
inline void run_pass(const Arguments& a, const char* packed, int block_rows) {
  const Layout& l = a.layout;
  std::size_t packed_bytes = (PassType::packed_bytes(l) + 63) / 64 * 64;
  const auto lay_out = [&](void* memory, const auto& use) {
    Arena arena(memory);
    std::int64_t* offsets = arena.take<std::int64_t>(l.steps + 1);
    char* own = arena.take<char>(packed == nullptr ? packed_bytes * l.directions : 0);
    if (memory != nullptr) {
      offsets[0] = 0;
      for (std::int64_t t = 0; t < l.steps; ++t) offsets[t + 1] = offsets[t] + l.batch_sizes[t];
    }
    const PassType first(a, offsets, 0, arena);
    Arena spare(nullptr);
    const PassType second(a, offsets, l.directions - 1, l.directions == 2 ? arena : spare);
    use(own, first, second);
    return arena.used();
  };
  const std::size_t bytes = lay_out(nullptr, [](char*, const PassType&, const PassType&) {});
  lay_out(workspace(bytes), [&](char* own, const PassType& first, const PassType& second) {
    run_directions(
        l, unit_blocks<typename PassType::Real>(l.units), block_rows, static_cast<double>(packed_bytes),
        [&](int direction, int member, int members) {
          if (packed == nullptr) PassType::pack(a, direction, member, members, own + direction * packed_bytes);
        },
        [&](int direction, const Share& share) {
          const PassType& pass = direction == 0 ? first : second;
          pass.run(share, (packed == nullptr ? own : packed) + direction * packed_bytes);
        });
  });
}

}  // namespace tidegate::TIDEGATE_ISA
