// The vanilla recurrent network (Elman 1990) over ragged rows, tanh or ReLU. Equations: kernels/__init__.py, rnn().

#include "cells.h"
#include "run_pass.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

template <class T> class RnnForward : public ForwardPass<T> {
 public:
  using Base = ForwardPass<T>;
  using typename Base::Product;
  using typename Base::Real;
  using typename Base::V;
  using Base::a_;
  using Base::H_;
  using Base::kWidth;
  using Base::l_;
  using Base::p_;
  using Base::Ps_;
  using Base::walk_;

  RnnForward(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 1) {}

  static std::size_t packed_bytes(const Layout& l) {
    return static_cast<std::size_t>(unit_blocks<Real>(l.units)) * Product::panel_bytes(l.units);
  }

  static void pack(const Forward& a, int direction, int member, int members, char* packed) {
    const int H = a.layout.units;
    const auto* weights = static_cast<const typename Product::Source*>(a.parameters.weight_hh[direction]);
    const float* scales = a.parameters.scale_hh == nullptr ? nullptr : a.parameters.scale_hh + direction * H;
    for (int block = member; block < unit_blocks<Real>(H); block += members)
      pack_gates<T>(weights, scales, 1, H, H, block, packed);
  }

  void run(const Share& share, const char* packed) const {
    const bool normalises = p_.norm_hh != nullptr;
    this->enter(share);
    share.meet();
    for (std::int64_t i = 0; i < l_.steps; ++i) {
      const Step s = walk_.step(i);
      const Real* from = this->states_[i % 2];
      Real* to = this->states_[(i + 1) % 2];
      const int alive = s.alive;
      const auto in = this->inputs(share, alive, from, Ps_, H_, true, this->inputs_);
      const auto cells = [&](int row, int rows, int block, int blocks, const Real* tile) {
        this->cells(s, row, rows, block, blocks, tile, from, to);
      };
      products<1, Product>(
          share, alive, unit_blocks<Real>(H_), in, packed, H_,
          [&](int row, int rows, int block, int blocks, const Real* tile) {
            normalises ? this->keep(row, rows, block, blocks, 0, 1, tile) : cells(row, rows, block, blocks, tile);
          },
          [&](int row, int rows, int block, int blocks) { this->prefetch(s, row, rows, 0, 1, block, blocks); });
      if (normalises) this->template normalise<1>(share, s, 0, 0, cells);
      share.meet();
    }
  }

 private:
  void cells(const Step& s, int row, int rows, int block, int blocks, const Real* tile, const Real* from, Real* to) const {
    for (int m = 0; m < rows; ++m)
      for (int b = 0; b < blocks; ++b, tile += kWidth)
        cell(s, row + m, (block + b) * kWidth, load<Real>(tile), from, to);
  }

  TIDEGATE_INLINE void cell(const Step& s, int row, int unit, V product, const Real* from, Real* to) const {
    const V x = this->gate(s, row, 0, unit) + product;
    const V h = l_.cell == Cell::rnn_tanh ? tanh(x) : select<Real>(x <= V{}, V{}, x);
    if (a_.saved != nullptr) this->save(s, row, 0, 1, unit, h);
    this->emit(s, row, unit, h, from, to);
  }
};

template <class T> class RnnBackward : public BackwardPass<T> {
 public:
  using Base = BackwardPass<T>;
  using typename Base::Product;
  using typename Base::Real;
  using typename Base::Stored;
  using typename Base::V;
  using Base::a_;
  using Base::H_;
  using Base::l_;
  using Base::p_;
  using Base::walk_;

  RnnBackward(const Backward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 1, 1, a.layout.units) {}

  static std::size_t packed_bytes(const Layout& l) {
    return static_cast<std::size_t>(unit_blocks<Real>(l.units)) * Product::panel_bytes(l.units);
  }

  static void pack(const Backward& a, int direction, int member, int members, char* packed) {
    const int H = a.layout.units;
    const Stored* weights = static_cast<const Stored*>(a.parameters.weight_hh[direction]);
    for (int block = member; block < unit_blocks<Real>(H); block += members)
      pack_columns<T>([&](int k) { return weights + static_cast<std::size_t>(k) * H; }, H, H, block, packed);
  }

  void run(const Share& share, const char* packed) const {
    const bool normalises = p_.norm_hh != nullptr;
    // Without zoneout the new state is the output.
    const void* states = a_.saved != nullptr ? a_.saved : a_.output;
    this->enter(share);
    for (std::int64_t i = l_.steps - 1; i >= 0; --i) {
      const Step s = walk_.step(i);
      const int alive = s.alive;
      share.for_each_row(alive, [&](int row) {
        this->for_my_units(share, H_, [&](int unit) {
          this->keep_previous(s, row, unit);
          const auto of = this->of_state(s, row, unit);
          const V h = load_lanes(this->template value<Stored>(states, s, row, H_) + unit, this->lanes_of(unit, H_));
          this->carry(row, unit, of.direct);
          this->grad_gate(s, row, 0, 1, unit,
                          l_.cell == Cell::rnn_tanh ? of.state * (1 - h * h) : select<Real>(h > V{}, of.state, V{}));
        });
      });
      share.meet();
      if (normalises) this->template through_norm<1>(share, s, alive, 0, 0, 1, [](int gate) { return gate; });
      this->multiply(share, s, alive, normalises ? a_.grad_product : a_.grad_gates, H_, 0, H_, packed, H_,
                     [&](int row, int unit, V v) { this->add_to_carry(row, unit, v, true); });
    }
  }
};

}  // namespace

TIDEGATE_DEFINE_CELL(rnn, RnnForward, RnnBackward)

}  // namespace tidegate::TIDEGATE_ISA
