// The ground that every cell's passes stand on: the arrays of one direction, masks, and rows as products want them.
#pragma once

#include "activations.h"
#include "sequence.h"

namespace tidegate::TIDEGATE_ISA {

struct Float32 {
  using Real = float;
  using Stored = float;
  using Product = DirectProduct<float>;
};
struct Float64 {
  using Real = double;
  using Stored = double;
  using Product = DirectProduct<double>;
};
struct Bfloat16 {
  using Real = float;
  using Stored = bfloat16;
  using Product = Bfloat16Product;
};
struct Int8 {
  using Real = float;
  using Stored = float;
  using Product = Int8Product;
};

template <class Real> struct Moments {
  Real mean, inverse_deviation;
};

template <class Real> inline Real inverse_root(Real value) {
  return 1 / static_cast<Real>(__builtin_sqrt(static_cast<double>(value)));
}

// Mean and 1 / standard deviation of Gates times `units` numbers that stand as in a tile, [blocks][of][lanes], the gates
// side by side from the first of `values` on.
template <int Gates, class Real> inline Moments<Real> moments(const Real* values, int of, int units, Real eps) {
  constexpr int width = kLanes<Real>;
  const auto sum = [&](Real mean, bool squared) {
    Vec<Real> sums[Gates]{};
    for (int unit = 0; unit < units; unit += width)
#pragma GCC unroll 4
      for (int gate = 0; gate < Gates; ++gate) {
        Vec<Real> v = load<Real>(values + unit * of + gate * width) - mean;
        if (units - unit < width) {
          Real exact[width];
          store<Real>(exact, v);
          v = load_lanes(exact, units - unit);
        }
        sums[gate] += squared ? v * v : v;
      }
    for (int gate = 1; gate < Gates; ++gate) sums[0] += sums[gate];
    return sum_lanes<Real>(sums[0]) / static_cast<Real>(Gates * units);
  };
  const Real mean = sum(0, false);
  const Real variance = sum(mean, true);
  return {mean, inverse_root(variance + eps)};
}

// The same of `count` numbers side by side.
template <class Real, class Stored> inline Moments<Real> moments(const Stored* values, int count, Real eps) {
  constexpr int width = kLanes<Real>, chains = 4;
  const auto sum = [&](Real mean, bool squared) {
    Vec<Real> sums[chains]{};
    int at = 0;
    for (; at + chains * width <= count; at += chains * width)
#pragma GCC unroll 4
      for (int chain = 0; chain < chains; ++chain) {
        const Vec<Real> v = load_lanes(values + at + chain * width, width) - mean;
        sums[chain] += squared ? v * v : v;
      }
    for (; at < count; at += width) {
      const int lanes = count - at < width ? count - at : width;
      Real exact[width];
      store<Real>(exact, load_lanes(values + at, lanes) - mean);
      const Vec<Real> v = load_lanes(exact, lanes);
      sums[0] += squared ? v * v : v;
    }
    return sum_lanes<Real>((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<Real>(count);
  };
  const Real mean = sum(0, false);
  const Real variance = sum(mean, true);
  return {mean, inverse_root(variance + eps)};
}

template <class T> class Pass {
 public:
  using Real = typename T::Real;
  using Stored = typename T::Stored;
  using Product = typename T::Product;
  using Input = typename Product::Input;
  using V = Vec<Real>;
  static constexpr int kWidth = kLanes<Real>;

 protected:
  Pass(const Layout& layout, const Parameters& parameters, const std::int64_t* offsets, int direction)
      : l_(layout), p_(parameters), H_(layout.units), P_(layout.states), Hs_(padded<Real>(H_)), Ps_(padded<Real>(P_)),
        index_(direction), walk_{layout.batch_sizes, offsets, layout.steps, layout.directions, direction} {}

  int lanes_of(int unit, int units) const { return units - unit < kWidth ? units - unit : kWidth; }

  template <class Body> void for_my_units(const Share& share, int units, const Body& body) const {
    const Range blocks = share.of(unit_blocks<Real>(units));
    for (int block = blocks.first; block < blocks.last; ++block) body(block * kWidth);
  }

  // Row `row` of this direction in an array of Reals [D, B, width].
  template <class Pointer> Pointer row_of(Pointer base, int row, int width) const {
    return base + (static_cast<std::int64_t>(index_) * l_.rows + row) * width;
  }

  // The row-th value of a step in an array [N, D, width].
  template <class Element> static const Element* value(const void* base, const Step& s, int row, int width) {
    return static_cast<const Element*>(base) + (s.first + row * s.stride) * width;
  }
  template <class Element> static Element* value(void* base, const Step& s, int row, int width) {
    return static_cast<Element*>(base) + (s.first + row * s.stride) * width;
  }
  template <class Element> static const Element* value_before(const void* base, const Step& s, int row, int width) {
    return static_cast<const Element*>(base) + (s.first_before + row * s.stride) * width;
  }

  V parameter(const void* base, int which, int of, int unit) const {
    const Real* from = static_cast<const Real*>(base) + (static_cast<std::int64_t>(index_) * of + which) * H_;
    return load_lanes(from + unit, lanes_of(unit, H_));
  }

  // All gates' parameters of this direction, [G, H].
  const Real* parameters_of(const void* base, int of) const {
    return static_cast<const Real*>(base) + static_cast<std::int64_t>(index_) * of * H_;
  }

  const Real* dropout_mask(int row) const {
    return p_.dropout_mask == nullptr ? nullptr : row_of(static_cast<const Real*>(p_.dropout_mask), row, P_);
  }

  // Lanes of the coefficient of the previous value in zoneout.
  V kept(const std::uint8_t* mask, double rate, const Step& s, int row, int unit, int width) const {
    if (mask == nullptr) return broadcast<Real>(static_cast<Real>(rate));
    const IntVec<Real> keeps = load_mask<Real>(value<std::uint8_t>(mask, s, row, width) + unit, lanes_of(unit, width));
    return select<Real>(keeps, broadcast<Real>(1), V{});
  }
  bool zones_h() const { return p_.zoneout_h != nullptr || p_.zoneout_rate_h != 0; }
  bool zones_c() const { return p_.zoneout_c != nullptr || p_.zoneout_rate_c != 0; }

  // Rows as the product wants them. Threads that share rows convert them each for itself, which costs less than meeting.
  Inputs<Product> inputs(const Share& share, int alive, const Real* source, int stride, int depth, bool masked,
                         Input* buffer) const {
    if constexpr (!Product::kConverts)
      if (!masked || p_.dropout_mask == nullptr) return {source, stride};
    const int width = Product::input_stride(depth);
    Input* copies = buffer + static_cast<std::int64_t>(share.unit_part) * buffer_rows() * width;
    share.for_each_row(alive, [&](int row) {
      Product::convert(source + static_cast<std::int64_t>(row) * stride, masked ? dropout_mask(row) : nullptr, depth,
                       copies + static_cast<std::int64_t>(row) * width);
    });
    return {copies, width};
  }

  // The same for rows that are stored already, a stretch of `depth` of each value. The rows of the buffer are `width`
  // apart whatever the depth: threads with rows of their own may be at different products.
  Inputs<Product> stored_inputs(const Share& share, int alive, const Stored* source, std::ptrdiff_t stride, int depth,
                                int width, Input* buffer) const {
    if constexpr (!Product::kConverts) {
      return {source, stride};
    } else {
      Input* copies = buffer + static_cast<std::int64_t>(share.unit_part) * buffer_rows() * width;
      share.for_each_row(alive, [&](int row) {
        Product::convert(source + row * stride, depth, copies + static_cast<std::int64_t>(row) * width);
      });
      return {copies, width};
    }
  }

  // Whole blocks of rows, so that a product may read a block to its end.
  int buffer_rows() const { return round_up(l_.rows, Product::kBlockRows) + Product::kBlockRows; }

  std::size_t buffer_size(int depth, bool masked) const {
    const bool needed = Product::kConverts || (masked && p_.dropout_mask != nullptr);
    const int copies = l_.threads < unit_blocks<Real>(H_) ? l_.threads : unit_blocks<Real>(H_);
    return needed ? static_cast<std::size_t>(copies < 1 ? 1 : copies) * buffer_rows() * Product::input_stride(depth) : 0;
  }

  const Layout& l_;
  const Parameters& p_;
  const int H_, P_, Hs_, Ps_, index_;
  const Walk walk_;
};

}  // namespace tidegate::TIDEGATE_ISA
