// The ground that every cell's passes stand on: the arrays of one direction, its scratch memory, and the steps that all
// cells share: entering states, zoneout, layer norm, packing.
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

// Mean and 1 / standard deviation of `gates` times `units` numbers that stand as in a tile, [blocks][of][lanes], the
// gates side by side from the first of `values` on.
template <class Real> inline Moments<Real> moments(const Real* values, int gates, int of, int units, Real eps) {
  constexpr int width = kLanes<Real>;
  const auto sum = [&](Real mean, bool squared) {
    Vec<Real> sums{};
    for (int unit = 0; unit < units; unit += width)
      for (int gate = 0; gate < gates; ++gate) {
        Vec<Real> v = load<Real>(values + unit * of + gate * width) - mean;
        if (units - unit < width) {
          Real exact[width];
          store<Real>(exact, v);
          v = load_lanes(exact, units - unit);
        }
        sums += squared ? v * v : v;
      }
    return sum_lanes<Real>(sums) / static_cast<Real>(gates * units);
  };
  const Real mean = sum(0, false);
  const Real variance = sum(mean, true);
  return {mean, 1 / static_cast<Real>(__builtin_sqrt(static_cast<double>(variance + eps)))};
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

// One direction of a forward pass. States stand twice, before and after a step, so that threads that share rows may
// read the one while they write the other.
template <class T> class ForwardPass : public Pass<T> {
 public:
  using Base = Pass<T>;
  using typename Base::Input;
  using typename Base::Product;
  using typename Base::Real;
  using typename Base::Stored;
  using typename Base::V;
  using Base::H_;
  using Base::index_;
  using Base::kWidth;
  using Base::l_;
  using Base::P_;
  using Base::p_;
  using Base::Ps_;
  using Base::walk_;

  ForwardPass(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena, int gates)
      : Base(a.layout, a.parameters, offsets, direction), a_(a), G_(gates) {
    const std::size_t rows = l_.rows;
    for (Real*& states : states_) states = arena.take<Real>(rows * Ps_);
    inputs_ = arena.take<Input>(this->buffer_size(P_, true));
    if (p_.norm_hh != nullptr) raw_ = arena.take<Real>(rows * G_ * this->Hs_);
  }

 protected:
  // Both copies of the states begin with h_0, and so does h_n, which rows without a step keep.
  void enter(const Share& share) const {
    const Range blocks = share.of(unit_blocks<Real>(P_));
    share.for_each_row(l_.rows, [&](int row) {
      for (int block = blocks.first; block < blocks.last; ++block) {
        const int unit = block * kWidth, lanes = this->lanes_of(unit, P_);
        const V h = load_lanes(this->row_of(static_cast<const Real*>(a_.h_0), row, P_) + unit, lanes);
        for (Real* states : states_) store<Real>(states + static_cast<std::int64_t>(row) * Ps_ + unit, h);
        store_lanes(this->row_of(static_cast<Real*>(a_.h_n), row, P_) + unit, h, lanes);
      }
    });
  }

  V gate(const Step& s, int row, int gate, int unit) const {
    return load_lanes(this->template value<Stored>(a_.gates, s, row, G_ * H_) + gate * H_ + unit,
                      this->lanes_of(unit, H_));
  }

  void save(const Step& s, int row, int which, int of, int unit, V v) const {
    store_lanes(this->template value<Stored>(a_.saved, s, row, of * H_) + which * H_ + unit, v,
                this->lanes_of(unit, H_));
  }

  void prefetch(const Step& s, int row, int rows, int first, int gates, int block, int blocks) const {
    for (int m = 0; m < rows; ++m) {
      const Stored* from = this->template value<Stored>(a_.gates, s, row + m, G_ * H_) + block * kWidth;
      for (int g = first; g < first + gates; ++g)
        for (int b = 0; b < blocks; ++b) __builtin_prefetch(from + g * H_ + b * kWidth);
    }
  }

  // The new state of a row, after zoneout, to wherever it is wanted.
  void emit(const Step& s, int row, int unit, V h, const Real* from, Real* to) const {
    const int lanes = this->lanes_of(unit, P_);
    const std::int64_t at = static_cast<std::int64_t>(row) * Ps_ + unit;
    if (this->zones_h()) {
      const V kept = this->kept(p_.zoneout_h, p_.zoneout_rate_h, s, row, unit, P_);
      h = h + kept * (load<Real>(from + at) - h);
    }
    store<Real>(to + at, h);
    store_lanes(this->template value<Stored>(a_.output, s, row, P_) + unit, h, lanes);
    if (row >= s.alive_after) store_lanes(this->row_of(static_cast<Real*>(a_.h_n), row, P_) + unit, h, lanes);
  }

  // A row of the recurrent product, as in a tile: [blocks][gates][lanes].
  Real* raw(int row, int unit) const {
    return raw_ + static_cast<std::int64_t>(row) * G_ * this->Hs_ + static_cast<std::int64_t>(unit) * G_;
  }

  // Keeps a tile of the product, gates from `first` on, until the whole row is there for its layer norm.
  void keep(int row, int rows, int block, int blocks, int first, int gates, const Real* tile) const {
    for (int m = 0; m < rows; ++m)
      for (int b = 0; b < blocks; ++b)
        for (int g = 0; g < gates; ++g, tile += kWidth)
          store<Real>(raw(row + m, (block + b) * kWidth) + (first + g) * kWidth, load<Real>(tile));
  }

  // The layer norm of whole rows, then `sink(row, 1, block, 1, tile)` for this thread's units, as after a product.
  template <class Sink>
  void normalise(const Share& share, const Step& s, int first, int gates, int which, const Sink& sink) const {
    share.meet();
    share.for_each_row(s.alive, [&](int row) {
      const Moments<Real> found = moments<Real>(raw(row, 0) + first * kWidth, gates, G_, H_, static_cast<Real>(p_.eps));
      if (a_.deviation != nullptr) {
        Real* deviation = this->template value<Real>(a_.deviation, s, row, 2);
        for (int later = which; later < 2; ++later) deviation[later] = found.inverse_deviation;
      }
      for_my_units(share, H_, [&](int unit) {
        alignas(64) Real tile[4 * kWidth];
        for (int gate = first; gate < first + gates; ++gate) {
          const V x = (load<Real>(raw(row, unit) + gate * kWidth) - found.mean) * found.inverse_deviation;
          if (a_.normalized != nullptr)
            store_lanes(this->template value<Stored>(a_.normalized, s, row, G_ * H_) + gate * H_ + unit, x,
                        this->lanes_of(unit, H_));
          store<Real>(tile + (gate - first) * kWidth, x * this->parameter(p_.norm_hh, gate, G_, unit));
        }
        sink(row, 1, unit / kWidth, 1, tile);
      });
    });
  }

  template <class Body> void for_my_units(const Share& share, int units, const Body& body) const {
    const Range blocks = share.of(unit_blocks<Real>(units));
    for (int block = blocks.first; block < blocks.last; ++block) body(block * kWidth);
  }

  const Forward& a_;
  const int G_;
  Real* states_[2];
  Input* inputs_;
  Real* raw_ = nullptr;
};

// One direction of a backward pass. grad_h_0 carries the gradient of the state from step to step.
template <class T> class BackwardPass : public Pass<T> {
 public:
  using Base = Pass<T>;
  using typename Base::Input;
  using typename Base::Product;
  using typename Base::Real;
  using typename Base::Stored;
  using typename Base::V;
  using Base::H_;
  using Base::kWidth;
  using Base::l_;
  using Base::P_;
  using Base::p_;
  using Base::walk_;

  BackwardPass(const Backward& a, const std::int64_t* offsets, int direction, Arena& arena, int gates, int saved,
               int depth)
      : Base(a.layout, a.parameters, offsets, direction), a_(a), G_(gates), S_(saved), most_depth_(depth) {
    inputs_ = arena.take<Input>(this->buffer_size(depth, false));
  }

 protected:
  Real* carried(int row) const { return this->row_of(static_cast<Real*>(a_.grad_h_0), row, P_); }

  void enter(const Share& share) const {
    for_my_units(share, P_, [&](int unit) {
      share.for_each_row(l_.rows, [&](int row) {
        const int lanes = this->lanes_of(unit, P_);
        store_lanes(carried(row) + unit,
                    load_lanes(this->row_of(static_cast<const Real*>(a_.grad_h_n), row, P_) + unit, lanes), lanes);
      });
    });
  }

  V saved(const Step& s, int row, int which, int unit) const {
    return load_lanes(this->template value<Stored>(a_.saved, s, row, S_ * H_) + which * H_ + unit,
                      this->lanes_of(unit, H_));
  }

  V previous(const Step& s, int row, int unit) const {
    const int lanes = this->lanes_of(unit, P_);
    if (row < s.alive_before) return load_lanes(this->template value_before<Stored>(a_.output, s, row, P_) + unit, lanes);
    return load_lanes(this->row_of(static_cast<const Real*>(a_.h_0), row, P_) + unit, lanes);
  }

  // The gradient of h_t before its zoneout, and what zoneout sends on to h_{t-1}.
  struct OfState {
    V state, direct;
  };

  OfState of_state(const Step& s, int row, int unit) const {
    const int lanes = this->lanes_of(unit, P_);
    const V h = load_lanes(carried(row) + unit, lanes) +
                load_lanes(this->template value<Stored>(a_.grad_output, s, row, P_) + unit, lanes);
    if (!this->zones_h()) return {h, V{}};
    const V direct = h * this->kept(p_.zoneout_h, p_.zoneout_rate_h, s, row, unit, P_);
    return {h - direct, direct};
  }

  void carry(int row, int unit, V v) const { store_lanes(carried(row) + unit, v, this->lanes_of(unit, P_)); }

  // h_{t-1} as it entered the product, for the gradient of its weights.
  V keep_previous(const Step& s, int row, int unit) const {
    const int lanes = this->lanes_of(unit, P_);
    const V h = previous(s, row, unit);
    const Real* mask = this->dropout_mask(row);
    store_lanes(this->template value<Stored>(a_.previous, s, row, P_) + unit,
                mask == nullptr ? h : h * load_lanes(mask + unit, lanes), lanes);
    return h;
  }

  void add_to_carry(int row, int unit, V v, bool masked) const {
    const int lanes = this->lanes_of(unit, P_);
    Real* to = carried(row) + unit;
    const Real* mask = masked ? this->dropout_mask(row) : nullptr;
    if (mask != nullptr) v *= load_lanes(mask + unit, lanes);
    store_lanes(to, load_lanes(to, lanes) + v, lanes);
  }

  void grad_gate(const Step& s, int row, int which, int of, int unit, V v) const {
    store_lanes(this->template value<Stored>(a_.grad_gates, s, row, of * H_) + which * H_ + unit, v,
                this->lanes_of(unit, H_));
  }

  // The gradient of the recurrent product before its layer norm, of `gates` gates from `first` on, whose gradients
  // after it stand in the order that `place_of(gate)` tells among the `of` of grad_gates. Every thread adds up whole rows.
  template <class PlaceOf>
  void through_norm(const Share& share, const Step& s, int alive, int first, int gates, int which, int of,
                    const PlaceOf& place_of) const {
    share.for_each_row(alive, [&](int row) {
      const Stored* normal = this->template value<Stored>(a_.normalized, s, row, G_ * H_);
      const Stored* grads = this->template value<Stored>(a_.grad_gates, s, row, of * H_);
      const auto scaled = [&](int gate, int unit) {
        return load_lanes(grads + place_of(gate) * H_ + unit, this->lanes_of(unit, H_)) *
               this->parameter(p_.norm_hh, gate, G_, unit);
      };
      V sums{}, products{};
      for (int gate = first; gate < first + gates; ++gate)
        for (int unit = 0; unit < H_; unit += kWidth) {
          const V g = scaled(gate, unit);
          sums += g;
          products += g * load_lanes(normal + gate * H_ + unit, this->lanes_of(unit, H_));
        }
      const Real count = static_cast<Real>(gates * H_);
      const Real mean = sum_lanes<Real>(sums) / count, along = sum_lanes<Real>(products) / count;
      const Real inverse_deviation = this->template value<Real>(a_.deviation, s, row, 2)[which];
      for_my_units(share, H_, [&](int unit) {
        const int lanes = this->lanes_of(unit, H_);
        for (int gate = first; gate < first + gates; ++gate) {
          const V x = load_lanes(normal + gate * H_ + unit, lanes);
          store_lanes(this->template value<Stored>(a_.grad_product, s, row, G_ * H_) + gate * H_ + unit,
                      inverse_deviation * (scaled(gate, unit) - mean - x * along), lanes);
        }
      });
    });
    share.meet();
  }

  // Multiplies stored gradients, `depth` of each value from `offset` on, with packed weights: sink(row, unit, product).
  template <class Sink>
  void multiply(const Share& share, const Step& s, int alive, void* stored, int width, int offset, int depth,
                const char* packed, int units, const Sink& sink) const {
    const Stored* source = this->template value<Stored>(stored, s, 0, width) + offset;
    const auto in = this->stored_inputs(share, alive, source, static_cast<std::ptrdiff_t>(l_.directions) * width, depth,
                                        Product::input_stride(most_depth_), inputs_);
    products<1, Product>(share, alive, unit_blocks<Real>(units), in, packed, depth,
                         [&](int row, int rows, int block, int blocks, const Real* tile) {
                           for (int m = 0; m < rows; ++m)
                             for (int b = 0; b < blocks; ++b, tile += kWidth)
                               sink(row + m, (block + b) * kWidth, load<Real>(tile));
                         },
                         no_prefetch);
  }

  template <class Body> void for_my_units(const Share& share, int units, const Body& body) const {
    const Range blocks = share.of(unit_blocks<Real>(units));
    for (int block = blocks.first; block < blocks.last; ++block) body(block * kWidth);
  }

  const Backward& a_;
  const int G_, S_, most_depth_;
  Input* inputs_;
};

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
