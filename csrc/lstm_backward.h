// The backward pass of long short-term memory: see lstm.cpp.
#pragma once

#include "backward.h"
#include "run_pass.h"

namespace tidegate::TIDEGATE_ISA {

// Whether the output is a projection of the cells' (Sak et al. 2014).
inline bool projects(const Layout& l) { return l.states != l.units; }

template <class T> class LstmBackward : public BackwardPass<T> {
 public:
  using Base = BackwardPass<T>;
  using typename Base::Product;
  using typename Base::Real;
  using typename Base::Stored;
  using typename Base::V;
  using Base::a_;
  using Base::H_;
  using Base::Hs_;
  using Base::kWidth;
  using Base::l_;
  using Base::P_;
  using Base::p_;
  using Base::walk_;

  LstmBackward(const Backward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 4, 5, 4 * a.layout.units) {
    const std::size_t rows = l_.rows;
    if (projects(l_) || p_.norm_c != nullptr) of_exposed_ = arena.take<Real>(rows * Hs_);
    if (p_.norm_c != nullptr) {
      candidate_ = arena.take<Real>(rows * Hs_);
      of_normal_ = arena.take<Real>(rows * Hs_);
    }
  }

  static std::size_t packed_bytes(const Layout& l) {
    const std::size_t projection =
        projects(l) ? static_cast<std::size_t>(unit_blocks<Real>(l.units)) * Product::panel_bytes(l.states) : 0;
    return projection_offset(l) + projection;
  }

  static void pack(const Backward& a, int direction, int member, int members, char* packed) {
    const Layout& l = a.layout;
    const Stored* weights = static_cast<const Stored*>(a.parameters.weight_hh[direction]);
    for (int block = member; block < unit_blocks<Real>(l.states); block += members)
      pack_columns<T>([&](int k) { return weights + static_cast<std::size_t>(k) * l.states; }, 4 * l.units, l.states,
                      block, packed);
    if (!projects(l)) return;
    const Stored* project =
        static_cast<const Stored*>(a.parameters.weight_hr) + static_cast<std::size_t>(direction) * l.states * l.units;
    for (int block = member; block < unit_blocks<Real>(l.units); block += members)
      pack_columns<T>([&](int k) { return project + static_cast<std::size_t>(k) * l.units; }, l.states, l.units, block,
                      packed + projection_offset(l));
  }

  void run(const Share& share, const char* packed) const {
    enter_memory(share);
    this->enter(share);
    const bool normalises = p_.norm_hh != nullptr;
    for (std::int64_t step = l_.steps - 1; step >= 0; --step) {
      const Step s = walk_.step(step);
      const int alive = s.alive;
      if (projects(l_)) back_through_projection(share, s, alive, packed + projection_offset(l_));
      if (p_.norm_c != nullptr) {
        back_through_norm_c(share, s, alive);
      } else {
        const bool projected = projects(l_);
        share.for_each_row(alive, [&](int row) {
          const Row at = row_at(s, row);
          const Real* exposed = projected ? of_exposed(row) : nullptr;
          this->for_my_units(share, H_, [&](int unit) {
            derivative(at, s, row, unit, projected ? load<Real>(exposed + unit) : take_state(at, s, row, unit, H_));
          });
        });
      }
      share.meet();
      if (normalises) this->template through_norm<4>(share, s, alive, 0, 0, 4, [](int gate) { return gate; });
      this->multiply_to_carry(share, s, alive, normalises ? a_.grad_product : a_.grad_gates, 4 * H_, 4 * H_, packed);
    }
  }

 private:
  static std::size_t projection_offset(const Layout& l) {
    return static_cast<std::size_t>(unit_blocks<Real>(l.states)) * Product::panel_bytes(4 * l.units);
  }

  Real* memory_carry(int row) const { return this->row_of(static_cast<Real*>(a_.grad_c_0), row, H_); }
  Real* of_exposed(int row) const { return of_exposed_ + static_cast<std::int64_t>(row) * Hs_; }
  Real* candidate(int row) const { return candidate_ + static_cast<std::int64_t>(row) * Hs_; }
  Real* of_normal(int row) const { return of_normal_ + static_cast<std::int64_t>(row) * Hs_; }

  // What is summed over the steps of a row starts at zero.
  void enter_memory(const Share& share) const {
    this->for_my_units(share, H_, [&](int unit) {
      const int lanes = this->lanes_of(unit, H_);
      share.for_each_row(l_.rows, [&](int row) {
        store_lanes(memory_carry(row) + unit,
                    load_lanes(this->row_of(static_cast<const Real*>(a_.grad_c_n), row, H_) + unit, lanes), lanes);
        for (int which = 0; which < 3 && p_.peephole != nullptr; ++which)
          store_lanes(this->row_of(static_cast<Real*>(a_.grad_peephole), row, 3 * H_) + which * H_ + unit, V{}, lanes);
        for (int which = 0; which < 2 && p_.norm_c != nullptr; ++which)
          store_lanes(this->row_of(static_cast<Real*>(a_.grad_norm_c), row, 2 * H_) + which * H_ + unit, V{}, lanes);
      });
    });
  }

  // A row's cell states beside what every cell has.
  struct Row : Base::Row {
    const Stored* memory_before;  // c_{t-1}, or null at the row's first step,
    const Real* memory_initial;   // which begins from here
    Real* memory_carried;
    Stored* exposed;  // o * tanh(c), wanted where it was projected

    V previous_memory(int unit, int lanes) const {
      return memory_before != nullptr ? load_lanes(memory_before + unit, lanes) : load_lanes(memory_initial + unit, lanes);
    }
  };

  Row row_at(const Step& s, int row) const {
    const bool first = row >= s.alive_before;
    return {Base::row_at(s, row),
            first ? nullptr : this->template value_before<Stored>(a_.saved, s, row, 5 * H_) + 4 * H_,
            this->row_of(static_cast<const Real*>(a_.c_0), row, H_), memory_carry(row),
            projects(l_) ? this->template value<Stored>(a_.before_projection, s, row, H_) : nullptr};
  }

  V take_state(const Row& at, const Step& s, int row, int unit, int units) const {
    const int lanes = this->lanes_of(unit, units);
    at.keep_previous(unit, lanes);
    const auto of = this->of_state(at, s, row, unit, lanes);
    store_lanes(at.carried + unit, of.direct, lanes);
    return of.state;
  }

  // d(o * tanh(c)) = dh W_hr.
  void back_through_projection(const Share& share, const Step& s, int alive, const char* packed) const {
    share.for_each_row(alive, [&](int row) {
      const Row at = row_at(s, row);
      this->for_my_units(share, P_, [&](int unit) {
        const V of = take_state(at, s, row, unit, P_);
        store_lanes(this->template value<Stored>(a_.grad_projected, s, row, P_) + unit, of, this->lanes_of(unit, P_));
      });
    });
    share.meet();
    this->multiply(share, s, alive, a_.grad_projected, P_, 0, P_, packed, H_,
                   [&](int row, int rows, int block, int blocks, const Real* tile) {
                     for (int m = 0; m < rows; ++m)
                       for (int b = 0; b < blocks; ++b, tile += kWidth)
                         store<Real>(of_exposed(row + m) + (block + b) * kWidth, load<Real>(tile));
                   },
                   no_prefetch);
  }

  // h = o * tanh(y), y = LN(c): the gradients of o and c wait for the sums over the row, and for the other threads that
  // have units of it.
  void back_through_norm_c(const Share& share, const Step& s, int alive) const {
    const auto moments_of = [&](int row) { return moments<Real>(candidate(row), H_, static_cast<Real>(p_.eps)); };
    if (share.unit_parts == 1)
      return share.for_each_row(alive, [&](int row) {
        find_candidate(share, s, row);
        const Moments<Real> found = moments_of(row);
        back_to_normal(share, s, row, found);
        back_to_candidate(share, s, row, found);
      });
    share.for_each_row(alive, [&](int row) { find_candidate(share, s, row); });
    share.meet();
    share.for_each_row(alive, [&](int row) { back_to_normal(share, s, row, moments_of(row)); });
    share.meet();
    share.for_each_row(alive, [&](int row) { back_to_candidate(share, s, row, moments_of(row)); });
  }

  void find_candidate(const Share& share, const Step& s, int row) const {
    const Row at = row_at(s, row);
    Real *to = candidate(row), *of = of_exposed(row);
    const bool projected = projects(l_);
    this->for_my_units(share, H_, [&](int unit) {
      const int lanes = this->lanes_of(unit, at.units);
      store<Real>(to + unit, multiply_add(at.of(1, unit, lanes), at.previous_memory(unit, lanes),
                                          at.of(0, unit, lanes) * at.of(2, unit, lanes)));
      if (!projected) store<Real>(of + unit, take_state(at, s, row, unit, at.units));
    });
  }

  void back_to_normal(const Share& share, const Step& s, int row, Moments<Real> found) const {
    const Row at = row_at(s, row);
    const Real *c = candidate(row), *of_h = of_exposed(row);
    const Real *gains = this->parameters_of(p_.norm_c, 2), *biases = gains + H_;
    Real *to = of_normal(row), *of_gains = this->row_of(static_cast<Real*>(a_.grad_norm_c), row, 2 * H_);
    Real* of_biases = of_gains + H_;
    this->for_my_units(share, H_, [&](int unit) {
      const int lanes = this->lanes_of(unit, at.units);
      const V gain = load_lanes(gains + unit, lanes), x = (load<Real>(c + unit) - found.mean) * found.inverse_deviation;
      const V exposed = tanh(multiply_add(x, gain, load_lanes(biases + unit, lanes)));
      const V o = at.of(3, unit, lanes), dh = load<Real>(of_h + unit);
      const V dy = dh * o * (1 - exposed * exposed);
      store_lanes(of_gains + unit, load_lanes(of_gains + unit, lanes) + dy * x, lanes);
      store_lanes(of_biases + unit, load_lanes(of_biases + unit, lanes) + dy, lanes);
      store<Real>(to + unit, dy * gain);
      if (at.exposed != nullptr) store_lanes(at.exposed + unit, o * exposed, lanes);
      at.grad_gate(3, unit, dh * exposed * o * (1 - o), lanes);
    });
  }

  void back_to_candidate(const Share& share, const Step& s, int row, Moments<Real> found) const {
    const Row at = row_at(s, row);
    const Real *candidates = candidate(row), *of = of_normal(row);
    V sums{}, products{};
    for (int unit = 0; unit < H_; unit += kWidth) {
      const V dy = load_lanes(of + unit, this->lanes_of(unit, H_));
      sums += dy;
      products += dy * ((load<Real>(candidates + unit) - found.mean) * found.inverse_deviation);
    }
    const Real mean = sum_lanes<Real>(sums) / H_, along = sum_lanes<Real>(products) / H_;
    this->for_my_units(share, H_, [&](int unit) {
      const int lanes = this->lanes_of(unit, at.units);
      const V c = load<Real>(candidates + unit), x = (c - found.mean) * found.inverse_deviation;
      const V dc = found.inverse_deviation * (load<Real>(of + unit) - mean - x * along);
      back_to_gates(at, s, row, unit, c, at.previous_memory(unit, lanes), dc, load_lanes(at.grads + 3 * H_ + unit, lanes));
    });
  }

  // h = o * tanh(c).
  TIDEGATE_INLINE void derivative(const Row& at, const Step& s, int row, int unit, V dh) const {
    const int lanes = this->lanes_of(unit, at.units);
    const V o = at.of(3, unit, lanes), before = at.previous_memory(unit, lanes);
    const V c = multiply_add(at.of(1, unit, lanes), before, at.of(0, unit, lanes) * at.of(2, unit, lanes));
    const V exposed = tanh(c);
    if (at.exposed != nullptr) store_lanes(at.exposed + unit, o * exposed, lanes);
    const V of_o = dh * exposed * o * (1 - o);
    at.grad_gate(3, unit, of_o, lanes);
    back_to_gates(at, s, row, unit, c, before, dh * o * (1 - exposed * exposed), of_o);
  }

  // From the gradients of c (before zoneout) by way of h and of o's gate to i f g and the step before.
  TIDEGATE_INLINE void back_to_gates(const Row& at, const Step& s, int row, int unit, V c, V before, V dc, V of_o) const {
    const int lanes = this->lanes_of(unit, at.units);
    const V i = at.of(0, unit, lanes), f = at.of(1, unit, lanes), g = at.of(2, unit, lanes);
    V direct{}, carried = load_lanes(at.memory_carried + unit, lanes);
    if (this->zones_c()) {
      direct = carried * this->kept(p_.zoneout_c, p_.zoneout_rate_c, s, row, unit, H_);
      carried -= direct;
    }
    dc += carried;
    if (p_.peephole != nullptr) dc = multiply_add(this->parameter(p_.peephole, 2, 3, unit), of_o, dc);
    const V of_i = dc * g * i * (1 - i), of_f = dc * before * f * (1 - f);
    V back = multiply_add(dc, f, direct);
    if (p_.peephole != nullptr) {
      back = multiply_add(this->parameter(p_.peephole, 0, 3, unit), of_i, back);
      back = multiply_add(this->parameter(p_.peephole, 1, 3, unit), of_f, back);
      Real* sums = this->row_of(static_cast<Real*>(a_.grad_peephole), row, 3 * H_) + unit;
      store_lanes(sums, load_lanes(sums, lanes) + of_i * before, lanes);
      store_lanes(sums + H_, load_lanes(sums + H_, lanes) + of_f * before, lanes);
      store_lanes(sums + 2 * H_, load_lanes(sums + 2 * H_, lanes) + of_o * c, lanes);
    }
    store_lanes(at.memory_carried + unit, back, lanes);
    at.grad_gate(0, unit, of_i, lanes);
    at.grad_gate(1, unit, of_f, lanes);
    at.grad_gate(2, unit, dc * i * (1 - g * g), lanes);
  }

  Real* of_exposed_ = nullptr;  // gradient of o * tanh(c)
  Real* candidate_ = nullptr;   // c before zoneout
  Real* of_normal_ = nullptr;   // gradient of the normalised c
};

}  // namespace tidegate::TIDEGATE_ISA
