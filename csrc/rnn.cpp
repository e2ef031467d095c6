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
  using typename Base::Stored;
  using typename Base::V;
  using Base::a_;
  using Base::H_;
  using Base::kWidth;
  using Base::l_;
  using Base::p_;
  using Base::Ps_;
  using Base::walk_;

  RnnForward(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 1, 1) {}

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
          share, s.turn, alive, unit_blocks<Real>(H_), in, packed, H_,
          [&](int row, int rows, int block, int blocks, const Real* tile) {
            normalises ? this->keep(row, rows, block, blocks, 0, 1, tile) : cells(row, rows, block, blocks, tile);
          },
          [&](int row, int rows, int block, int blocks, Ahead& ahead) {
            this->prefetch(s, row, rows, 0, 1, block, blocks, ahead);
          });
      if (normalises) this->template normalise<1>(share, s, 0, 0, cells);
      share.meet();
    }
  }

 private:
  void cells(const Step& s, int row, int rows, int block, int blocks, const Real* tile, const Real* from, Real* to) const {
    const int H = H_, first = block * kWidth;
    const bool zones = this->zones_h(), relu = l_.cell != Cell::rnn_tanh;
    for (int m = row; m < row + rows; ++m) {
      const auto entering = this->entering_at(s, m, first);
      const auto out = this->out_of(s, m, first, to);
      Stored* saved = a_.saved == nullptr ? nullptr : this->template value<Stored>(a_.saved, s, m, H) + first;
      for (int b = 0; b < blocks; ++b, tile += kWidth) {
        const int unit = b * kWidth, lanes = this->lanes_of(first + unit, H);
        const V x = load<Real>(tile) + entering.of(0, unit, lanes);
        const V h = relu ? select<Real>(x <= V{}, V{}, x) : tanh(x);
        if (saved != nullptr) store_lanes(saved + unit, h, lanes);
        if (zones)
          this->emit(s, m, first + unit, h, from, to);
        else
          out.put(unit, h, lanes);
      }
    }
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
    const bool normalises = p_.norm_hh != nullptr, relu = l_.cell != Cell::rnn_tanh;
    // Without zoneout the new state is the output.
    const void* states = a_.saved != nullptr ? a_.saved : a_.output;
    this->enter(share);
    for (std::int64_t i = l_.steps - 1; i >= 0; --i) {
      const Step s = walk_.step(i);
      const int alive = s.alive;
      share.for_each_row(alive, [&](int row) {
        const auto at = this->row_at(s, row);
        const Stored* h_of = this->template value<Stored>(states, s, row, H_);
        this->for_my_units(share, H_, [&](int unit) {
          const int lanes = this->lanes_of(unit, H_);
          at.keep_previous(unit, lanes);
          const auto of = this->of_state(at, s, row, unit, lanes);
          const V h = load_lanes(h_of + unit, lanes);
          store_lanes(at.carried + unit, of.direct, lanes);
          at.grad_gate(0, unit, relu ? select<Real>(h > V{}, of.state, V{}) : of.state * (1 - h * h), lanes);
        });
      });
      share.meet();
      if (normalises) this->template through_norm<1>(share, s, alive, 0, 0, 1, [](int gate) { return gate; });
      this->multiply_to_carry(share, s, alive, normalises ? a_.grad_product : a_.grad_gates, H_, H_, packed);
    }
  }
};

}  // namespace

TIDEGATE_DEFINE_CELL(rnn, RnnForward, RnnBackward)

}  // namespace tidegate::TIDEGATE_ISA
