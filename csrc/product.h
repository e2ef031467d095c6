// Packed weights and the register-blocked product of a few rows with them. A panel holds the weights of as many units
// of one gate as a vector has lanes, k after k. What a product computes goes to a tile, which stays in the nearest
// cache, and the cell goes on from there; so no product knows of cells, nor a cell of rows and registers.
//
// Every element of a product is one chain over k in order: its value does not depend on how rows, panels and threads
// are grouped.
#pragma once

#include "vector.h"

namespace tidegate::TIDEGATE_ISA {

#if defined(TIDEGATE_FEW_PRODUCTS)
// For builds that only check, which would compile the unrolled products of every size for many minutes.
inline constexpr int kMaxRows = 3, kMaxAccumulators = 6;
#else
inline constexpr int kMaxRows = kVectorRegisters >= 32 ? 8 : 4;
inline constexpr int kMaxAccumulators = kVectorRegisters * 3 / 4;
#endif
inline constexpr int kTilePanels = 12;  // panels of a tile: whole units of 1, 2, 3 or 4 gates

constexpr int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
template <class Real> constexpr int unit_blocks(int units) { return (units + kLanes<Real> - 1) / kLanes<Real>; }
template <class Real> constexpr int padded(int units) { return round_up(units, kLanes<Real>); }

// Memory that is wanted after a product, for it to fetch little by little: all at once it would fill the queue of the
// near cache, and the product's own loads would wait. What is named beyond its room is fetched when it is read.
class Ahead {
 public:
  void add(const void* first, std::size_t bytes) {
    if (count_ == kMost) return;
    stretches_[count_++] = {static_cast<const char*>(first), static_cast<const char*>(first) + bytes};
  }

  // Fetches one line before each call of `work(k)`, k by `every` from `from` on, while there are lines and `work` stays
  // below `end`; returns where it stopped.
  template <class Work> TIDEGATE_INLINE int fetch_while(int from, int every, int end, const Work& work) {
    for (; next_ < count_; ++next_) {
      const char *line = stretches_[next_].from, *last = stretches_[next_].to;
      for (; line < last && from + every <= end; line += kLine, from += every) {
        __builtin_prefetch(line, 0, 2);
        work(from);
      }
      if (line < last) {
        stretches_[next_].from = line;
        return from;
      }
    }
    return from;
  }

 private:
  static constexpr int kMost = 8 * 16, kLine = 64;
  struct Stretch {
    const char *from, *to;
  };
  Stretch stretches_[kMost];
  int count_ = 0, next_ = 0;
};

// The kernels of one type of product for every count of rows and panels that the registers hold.
template <class Kernel> struct ProductTable {
  using Function = typename Kernel::Function;
  Function functions[kMaxRows + 1][kTilePanels + 1];

  constexpr ProductTable() : functions{} { fill<1, 1>(); }

  template <int Rows, int Panels> constexpr void fill() {
    if constexpr (Rows * Panels <= kMaxAccumulators) functions[Rows][Panels] = &Kernel::template multiply<Rows, Panels>;
    if constexpr (Panels < kTilePanels)
      fill<Rows, Panels + 1>();
    else if constexpr (Rows < kMaxRows)
      fill<Rows + 1, 1>();
  }
};

// tile[row][panel][lane] = inputs[row] . panels[panel], the rows of the tile `panels` panels wide.
template <class Kernel>
inline void multiply_tile(int rows, int panels, const typename Kernel::Input* inputs, std::ptrdiff_t stride,
                          const char* packed, std::size_t panel_bytes, int depth, typename Kernel::Real* tile, Ahead& ahead) {
  static constexpr ProductTable<Kernel> table;
  constexpr int lanes = kLanes<typename Kernel::Real>;
  const int most = kMaxAccumulators / rows < kTilePanels ? kMaxAccumulators / rows : kTilePanels;
  const int calls = (panels + most - 1) / most;
  for (int call = 0; call < calls; ++call) {
    const int first = panels * call / calls, count = panels * (call + 1) / calls - first;
    table.functions[rows][count](inputs, stride, packed + first * panel_bytes, panel_bytes, depth, tile + first * lanes,
                                 static_cast<std::ptrdiff_t>(panels) * lanes, ahead);
  }
}

// Whole squares of rows that are all there, turned: panel[k][lane] = rows[lane][k], numbers of Real's size wherever they
// stand. Returns the first k not done.
template <class Real> inline int pack_squares(const void* const (&rows)[kLanes<Real>], int depth, Real* panel) {
  int k = 0;
  if (rows[kLanes<Real> - 1] == nullptr) return k;
  for (; k + kLanes<Real> <= depth; k += kLanes<Real>) {
    Vec<Real> square[kLanes<Real>];
    for (int lane = 0; lane < kLanes<Real>; ++lane)
      std::memcpy(&square[lane], static_cast<const char*>(rows[lane]) + k * sizeof(Real), sizeof square[lane]);
    transpose<Real>(square);
    for (int lane = 0; lane < kLanes<Real>; ++lane) store<Real>(panel + (k + lane) * kLanes<Real>, square[lane]);
  }
  return k;
}

// float32 and float64: inputs as they are.
template <class RealType> struct DirectProduct {
  using Real = RealType;
  using Input = Real;
  using Source = Real;
  using Function = void (*)(const Input*, std::ptrdiff_t, const char*, std::size_t, int, Real*, std::ptrdiff_t, Ahead&);
  static constexpr bool kConverts = false;
  static constexpr int kBlockRows = kMaxRows;
  static constexpr int input_stride(int depth) { return padded<Real>(depth); }
  static constexpr std::size_t panel_bytes(int depth) {
    return static_cast<std::size_t>(depth) * kLanes<Real> * sizeof(Real);
  }

  // A panel whose lane l is the row `row_of(l)` of a matrix, null beyond the last unit.
  template <class RowOf, class ScaleOf>
  static void pack_rows(const RowOf& row_of, const ScaleOf&, int depth, char* to) {
    Real* panel = reinterpret_cast<Real*>(to);
    const void* rows[kLanes<Real>];
    for (int lane = 0; lane < kLanes<Real>; ++lane) rows[lane] = row_of(lane);
    for (int k = pack_squares(rows, depth, panel); k < depth; ++k)
      for (int lane = 0; lane < kLanes<Real>; ++lane)
        panel[k * kLanes<Real> + lane] = rows[lane] == nullptr ? Real{0} : static_cast<const Real*>(rows[lane])[k];
  }

  // A panel whose k-th vector is `valid` numbers from row_of(k) on, zeros beyond.
  template <class RowOf> static void pack_columns(const RowOf& row_of, int depth, int valid, char* to) {
    Real* panel = reinterpret_cast<Real*>(to);
    for (int k = 0; k < depth; ++k) store<Real>(panel + k * kLanes<Real>, load_lanes(row_of(k), valid));
  }

  static void convert(const Real* from, const Real* mask, int depth, Input* to) {
    for (int k = 0; k < depth; ++k) to[k] = mask == nullptr ? from[k] : from[k] * mask[k];
  }

  // tile[row][panel][lane] = inputs[row] . panels[panel]; in product.cpp.
  static void run(int rows, int panels, const Input* inputs, std::ptrdiff_t stride, const char* packed, int depth,
                  Real* tile, Ahead& ahead);

  template <int Rows, int Panels>
  static void multiply(const Input* inputs, std::ptrdiff_t stride, const char* packed, std::size_t panel_stride,
                       int depth, Real* tile, std::ptrdiff_t tile_stride, Ahead& ahead) {
    Vec<Real> sums[Rows][Panels] = {};
    const Real* rows[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) rows[m] = inputs + m * stride;
    const auto add = [&](int k) __attribute__((always_inline)) {
      Vec<Real> weights[Panels];
#pragma GCC unroll 12
      for (int p = 0; p < Panels; ++p)
        weights[p] = load<Real>(reinterpret_cast<const Real*>(packed + p * panel_stride) + k * kLanes<Real>);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        const Vec<Real> input = broadcast<Real>(rows[m][k]);
#pragma GCC unroll 12
        for (int p = 0; p < Panels; ++p) sums[m][p] = multiply_add(input, weights[p], sums[m][p]);
      }
    };
    int k = ahead.fetch_while(0, 2, depth, [&](int at) __attribute__((always_inline)) {
      add(at);
      add(at + 1);
    });
    for (; k < depth; ++k) add(k);
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 12
      for (int p = 0; p < Panels; ++p) store<Real>(tile + m * tile_stride + p * kLanes<Real>, sums[m][p]);
  }
};

#if !defined(TIDEGATE_LOW_PRECISION)
template <>
void DirectProduct<float>::run(int, int, const float*, std::ptrdiff_t, const char*, int, float*, Ahead&);
template <>
void DirectProduct<double>::run(int, int, const double*, std::ptrdiff_t, const char*, int, double*, Ahead&);
#endif

}  // namespace tidegate::TIDEGATE_ISA
