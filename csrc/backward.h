// What the backward passes of all cells share: carried gradients, saved values, layer norm.
#pragma once

#include "pass.h"

namespace tidegate::TIDEGATE_ISA {

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
      : Base(a.layout, a.parameters, offsets, direction), a_(a), G_(gates), D_(a.layout.cell == Cell::gru ? 4 : gates),
        S_(a.saved == nullptr ? 0 : saved), most_depth_(depth) {
    inputs_ = arena.take<Input>(this->buffer_size(depth, false));
  }

 protected:
  Real* carried(int row) const { return this->row_of(static_cast<Real*>(a_.grad_h_0), row, P_); }

  void enter(const Share& share) const {
    enter_gains(share);
    this->for_my_units(share, P_, [&](int unit) {
      share.for_each_row(l_.rows, [&](int row) {
        const int lanes = this->lanes_of(unit, P_);
        store_lanes(carried(row) + unit,
                    load_lanes(this->row_of(static_cast<const Real*>(a_.grad_h_n), row, P_) + unit, lanes), lanes);
      });
    });
  }

  // What stands at a step of a row, looked up once: the compiler must take it that a store changes whatever is not in a
  // local variable.
  struct Row {
    const Stored* saved;
    const Stored* before;  // the state before, or null at the row's first step,
    const Real* initial;   // which begins from here
    const Stored* grad_output;
    const Real* mask;
    Real* carried;
    Stored *previous, *grads;
    int units;

    V of(int which, int unit, int lanes) const { return load_lanes(saved + which * units + unit, lanes); }

    // h_{t-1}, kept as it entered the product, for the gradient of its weights.
    V keep_previous(int unit, int lanes) const {
      const V h = before != nullptr ? load_lanes(before + unit, lanes) : load_lanes(initial + unit, lanes);
      store_lanes(previous + unit, mask == nullptr ? h : h * load_lanes(mask + unit, lanes), lanes);
      return h;
    }

    V gradient(int unit, int lanes) const {
      return load_lanes(carried + unit, lanes) + load_lanes(grad_output + unit, lanes);
    }

    void grad_gate(int which, int unit, V v, int lanes) const { store_lanes(grads + which * units + unit, v, lanes); }
  };

  Row row_at(const Step& s, int row) const {
    const bool first = row >= s.alive_before;
    return {S_ == 0 ? nullptr : this->template value<Stored>(a_.saved, s, row, S_ * H_),
            first ? nullptr : this->template value_before<Stored>(a_.output, s, row, P_),
            this->row_of(static_cast<const Real*>(a_.h_0), row, P_),
            this->template value<Stored>(a_.grad_output, s, row, P_),
            this->dropout_mask(row),
            carried(row),
            this->template value<Stored>(a_.previous, s, row, P_),
            this->template value<Stored>(a_.grad_gates, s, row, D_ * H_),
            H_};
  }

  // The gradient of h_t before its zoneout, and what zoneout sends on to h_{t-1}.
  struct OfState {
    V state, direct;
  };

  OfState of_state(const Row& at, const Step& s, int row, int unit, int lanes) const {
    const V h = at.gradient(unit, lanes);
    if (!this->zones_h()) return {h, V{}};
    const V direct = h * this->kept(p_.zoneout_h, p_.zoneout_rate_h, s, row, unit, P_);
    return {h - direct, direct};
  }

  // Adds what reaches h_{t-1} through the product.
  void add_to_carry(int row, int rows, int block, int blocks, const Real* tile) const {
    const int first = block * kWidth;
    for (int m = row; m < row + rows; ++m) {
      Real* to = carried(m) + first;
      const Real* mask = this->dropout_mask(m);
      for (int b = 0; b < blocks; ++b, tile += kWidth) {
        const int unit = b * kWidth, lanes = this->lanes_of(first + unit, P_);
        V v = load<Real>(tile);
        if (mask != nullptr) v *= load_lanes(mask + first + unit, lanes);
        store_lanes(to + unit, load_lanes(to + unit, lanes) + v, lanes);
      }
    }
  }

  // The gradient of the recurrent product before its layer norm, of Gates gates from `first` on, whose gradients after it
  // stand in the order that `place_of(gate)` tells among the `of` of grad_gates. Every thread adds up whole rows. With the
  // first gates, by when all have their gradients, goes the layer norm of the projected inputs.
  template <int Gates, class PlaceOf>
  void through_norm(const Share& share, const Step& s, int alive, int first, int which, int of,
                    const PlaceOf& place_of) const {
    const Real* gains = this->parameters_of(p_.norm_hh, G_) + first * H_;
    const Range blocks = share.of(unit_blocks<Real>(H_));
    share.for_each_row(alive, [&](int row) {
      const Stored* grads = this->template value<Stored>(a_.grad_gates, s, row, of * H_);
      const Stored* normal = this->template value<Stored>(a_.normalized, s, row, G_ * H_) + first * H_;
      back<Gates>(
          blocks, gains, this->template value<Real>(a_.deviation, s, row, 2)[which],
          [&](int gate) { return grads + place_of(first + gate) * H_; }, [&](int gate) { return normal + gate * H_; },
          [](V x) { return x; }, this->template value<Stored>(a_.grad_product, s, row, G_ * H_) + first * H_,
          this->row_of(static_cast<Real*>(a_.grad_norm_hh), row, G_ * H_) + first * H_);
      if (first == 0 && p_.norm_ih != nullptr) through_input_norm(s, row, of, blocks);
    });
    share.meet();
  }

  // Multiplies stored gradients, `depth` of each value from `offset` on, with packed weights: `sink(row, rows, block,
  // blocks, tile)`.
  template <class Sink, class Prefetch>
  void multiply(const Share& share, const Step& s, int alive, void* stored, int width, int offset, int depth,
                const char* packed, int units, const Sink& sink, const Prefetch& prefetch) const {
    const Stored* source = this->template value<Stored>(stored, s, 0, width) + offset;
    const auto in = this->stored_inputs(share, alive, source, static_cast<std::ptrdiff_t>(l_.directions) * width, depth,
                                        Product::input_stride(most_depth_), inputs_);
    products<1, Product>(share, s.turn, alive, unit_blocks<Real>(units), in, packed, depth, sink, prefetch);
  }

  // The last product of a step, with h_{t-1} as its result, which fetches what the next step's derivatives want.
  void multiply_to_carry(const Share& share, const Step& s, int alive, void* stored, int width, int depth,
                         const char* packed) const {
    const Step next = s.turn > 0 ? walk_.step(s.turn - 1) : s;
    multiply(
        share, s, alive, stored, width, 0, depth, packed, P_,
        [&](int row, int rows, int block, int blocks, const Real* tile) { add_to_carry(row, rows, block, blocks, tile); },
        [&](int row, int rows, int block, int blocks, Ahead& ahead) {
          if (s.turn > 0) prefetch(next, row, rows, block, blocks, ahead);
        });
  }

  // What the derivatives of a step will read and write.
  void prefetch(const Step& s, int row, int rows, int block, int blocks, Ahead& ahead) const {
    const int unit = block * kWidth;
    const std::size_t bytes = static_cast<std::size_t>(blocks) * kWidth * sizeof(Stored);
    for (int m = row; m < row + rows && m < s.alive; ++m) {
      for (int which = 0; which < S_; ++which)
        ahead.add(this->template value<Stored>(a_.saved, s, m, S_ * H_) + which * H_ + unit, bytes);
      ahead.add(this->template value<Stored>(a_.grad_output, s, m, P_) + unit, bytes);
      ahead.add(this->template value<Stored>(a_.previous, s, m, P_) + unit, bytes);
      for (int which = 0; which < D_; ++which)
        ahead.add(this->template value<Stored>(a_.grad_gates, s, m, D_ * H_) + which * H_ + unit, bytes);
    }
  }

 private:
  // What is summed over the steps of a row starts at zero.
  void enter_gains(const Share& share) const {
    void* const gains[] = {a_.grad_norm_ih, a_.grad_norm_hh};
    for (void* sums : gains) {
      if (sums == nullptr) continue;
      this->for_my_units(share, H_, [&](int unit) {
        share.for_each_row(l_.rows, [&](int row) {
          Real* to = this->row_of(static_cast<Real*>(sums), row, G_ * H_) + unit;
          for (int gate = 0; gate < G_; ++gate) store_lanes(to + gate * H_, V{}, this->lanes_of(unit, H_));
        });
      });
    }
  }

  void through_input_norm(const Step& s, int row, int of, Range blocks) const {
    const Stored* grads = this->template value<Stored>(a_.grad_gates, s, row, of * H_) + (of - G_) * H_;
    const Stored* gates = this->template value<Stored>(a_.gates, s, row, G_ * H_);
    const Real* found = this->template value<Real>(a_.input_moments, s, row, 2);
    const Real mean = found[0], inverse_deviation = found[1];
    const auto run = [&]<int Gates>() {
      back<Gates>(
          blocks, this->parameters_of(p_.norm_ih, G_), inverse_deviation, [&](int gate) { return grads + gate * H_; },
          [&](int gate) { return gates + gate * H_; }, [&](V x) { return (x - mean) * inverse_deviation; },
          this->template value<Stored>(a_.grad_inputs, s, row, G_ * H_),
          this->row_of(static_cast<Real*>(a_.grad_norm_ih), row, G_ * H_));
    };
    G_ == 4 ? run.template operator()<4>() : G_ == 3 ? run.template operator()<3>() : run.template operator()<1>();
  }

  // One row back through its layer norm, and to its gain. `normalised` makes the normalised numbers of those that stand
  // at `normal`.
  template <int Gates, class Grads, class Normal, class Normalised>
  TIDEGATE_INLINE void back(Range blocks, const Real* gains, Real inverse_deviation, const Grads& grads,
                            const Normal& normal, const Normalised& normalised, Stored* to, Real* of_gains) const {
    const int H = H_;
    V sums[Gates]{}, products[Gates]{};
    for (int unit = 0; unit < H; unit += kWidth) {
      const int lanes = this->lanes_of(unit, H);
#pragma GCC unroll 4
      for (int gate = 0; gate < Gates; ++gate) {
        const V g = load_lanes(grads(gate) + unit, lanes) * load_lanes(gains + gate * H + unit, lanes);
        sums[gate] += g;
        products[gate] = multiply_add(g, normalised(load_lanes(normal(gate) + unit, lanes)), products[gate]);
      }
    }
    for (int gate = 1; gate < Gates; ++gate) {
      sums[0] += sums[gate];
      products[0] += products[gate];
    }
    const Real count = static_cast<Real>(Gates * H);
    const Real mean = sum_lanes<Real>(sums[0]) / count, along = sum_lanes<Real>(products[0]) / count;
    for (int unit = blocks.first * kWidth; unit < blocks.last * kWidth; unit += kWidth) {
      const int lanes = this->lanes_of(unit, H);
#pragma GCC unroll 4
      for (int gate = 0; gate < Gates; ++gate) {
        const int at = gate * H + unit;
        const V g = load_lanes(grads(gate) + unit, lanes), x = normalised(load_lanes(normal(gate) + unit, lanes));
        store_lanes(to + at, inverse_deviation * (g * load_lanes(gains + at, lanes) - mean - x * along), lanes);
        store_lanes(of_gains + at, multiply_add(g, x, load_lanes(of_gains + at, lanes)), lanes);
      }
    }
  }

 protected:
  const Backward& a_;
  const int G_, D_, S_, most_depth_;  // gates of a unit, gradients of them, values saved
  Input* inputs_;
};

}  // namespace tidegate::TIDEGATE_ISA
