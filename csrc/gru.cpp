// The gated recurrent unit over ragged rows, forward and backward, its reset gate after the recurrent product (torch,
// cuDNN, Keras 3) or before it (Cho et al. 2014). Equations: kernels/__init__.py, gru().

#include "cells.h"
#include "run_pass.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

template <class T> class GruForward : public ForwardPass<T> {
 public:
  using Base = ForwardPass<T>;
  using typename Base::Input;
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

  GruForward(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 3, a.layout.cell == Cell::gru_reset_before ? 3 : 4),
        before_(a.layout.cell == Cell::gru_reset_before) {
    if (!before_) return;
    const std::size_t rows = l_.rows;
    reset_ = arena.take<Real>(rows * Ps_);
    update_ = arena.take<Real>(rows * Ps_);
    reset_inputs_ = arena.take<Input>(this->buffer_size(H_, false));
  }

  static std::size_t packed_bytes(const Layout& l) {
    return static_cast<std::size_t>(unit_blocks<Real>(l.units)) * 3 * Product::panel_bytes(l.units);
  }

  // Reset after: r z n of a unit side by side. Reset before: r z, and behind them all n.
  static void pack(const Forward& a, int direction, int member, int members, char* packed) {
    const int H = a.layout.units;
    const std::size_t square = static_cast<std::size_t>(H) * H;
    const auto* weights = static_cast<const typename Product::Source*>(a.parameters.weight_hh[direction]);
    const float* scales = a.parameters.scale_hh == nullptr ? nullptr : a.parameters.scale_hh + direction * 3 * H;
    for (int block = member; block < unit_blocks<Real>(H); block += members) {
      if (a.layout.cell != Cell::gru_reset_before) {
        pack_gates<T>(weights, scales, 3, H, H, block, packed);
      } else {
        pack_gates<T>(weights, scales, 2, H, H, block, packed);
        pack_gates<T>(weights + 2 * square, scales == nullptr ? nullptr : scales + 2 * H, 1, H, H, block,
                      packed + candidate_offset(H));
      }
    }
  }

  void run(const Share& share, const char* packed) const {
    this->enter(share);
    share.meet();
    for (std::int64_t i = 0; i < l_.steps; ++i) {
      const Step s = walk_.step(i);
      const Real* from = this->states_[i % 2];
      Real* to = this->states_[(i + 1) % 2];
      const int alive = s.alive;
      const auto in = this->inputs(share, alive, from, Ps_, H_, true, this->inputs_);
      before_ ? reset_before(share, s, alive, in, packed, from, to) : reset_after(share, s, alive, in, packed, from, to);
      share.meet();
    }
  }

 private:
  static std::size_t candidate_offset(int units) {
    return static_cast<std::size_t>(unit_blocks<Real>(units)) * 2 * Product::panel_bytes(units);
  }

  void reset_after(const Share& share, const Step& s, int alive, const Inputs<Product>& in, const char* packed,
                   const Real* from, Real* to) const {
    const bool normalises = p_.norm_hh != nullptr;
    const auto cells = [&](int row, int rows, int block, int blocks, Real* tile) {
      cells_after(s, row, rows, block, blocks, tile, from, to);
    };
    products<3, Product>(
        share, s.turn, alive, unit_blocks<Real>(H_), in, packed, H_,
        [&](int row, int rows, int block, int blocks, Real* tile) {
          normalises ? this->keep(row, rows, block, blocks, 0, 3, tile) : cells(row, rows, block, blocks, tile);
        },
        [&](int row, int rows, int block, int blocks, Ahead& ahead) {
          this->prefetch(s, row, rows, 0, 3, block, blocks, ahead);
        });
    if (normalises) this->template normalise<3>(share, s, 0, 0, cells);
  }

  // r and z in place in the tile, then n and the states: two loops of which the processor overlaps the turns.
  void cells_after(const Step& s, int row, int rows, int block, int blocks, Real* tile, const Real* from, Real* to) const {
    const int width = 3 * blocks * kWidth;
    for (int m = 0; m < rows; ++m) gates_after(s, row + m, block * kWidth, blocks, tile + m * width);
    for (int m = 0; m < rows; ++m) after(s, row + m, block * kWidth, blocks, tile + m * width, from, to);
  }

  void gates_after(const Step& s, int row, int first, int blocks, Real* tile) const {
    const int H = H_;
    const auto entering = this->entering_at(s, row, first);
    Stored* saved = a_.saved == nullptr ? nullptr : this->template value<Stored>(a_.saved, s, row, 4 * H) + first;
    for (int b = 0; b < blocks; ++b, tile += 3 * kWidth) {
      const int unit = b * kWidth, lanes = this->lanes_of(first + unit, H);
      for (int which = 0; which < 2; ++which) {
        const V opened = sigmoid(load<Real>(tile + which * kWidth) + entering.of(which, unit, lanes));
        store<Real>(tile + which * kWidth, opened);
        if (saved != nullptr) store_lanes(saved + which * H + unit, opened, lanes);
      }
    }
  }

  void after(const Step& s, int row, int first, int blocks, const Real* tile, const Real* from, Real* to) const {
    const int H = H_;
    const bool zones = this->zones_h();
    const auto entering = this->entering_at(s, row, first);
    // The recurrent bias of n, which the reset gate multiplies, stands behind the others.
    const Real* bias_n = this->biases_ == nullptr ? nullptr : this->biases_ + 3 * this->Hs_ + first;
    const Real* states = from + static_cast<std::int64_t>(row) * Ps_ + first;
    Stored* saved = a_.saved == nullptr ? nullptr : this->template value<Stored>(a_.saved, s, row, 4 * H) + first;
    const auto out = this->out_of(s, row, first, to);
    for (int b = 0; b < blocks; ++b, tile += 3 * kWidth) {
      const int unit = b * kWidth, lanes = this->lanes_of(first + unit, H);
      const V r = load<Real>(tile), z = load<Real>(tile + kWidth), sum = entering.of(2, unit, lanes);
      V of_n = load<Real>(tile + 2 * kWidth);
      if (bias_n != nullptr) of_n += load<Real>(bias_n + unit);
      const V n = tanh(multiply_add(r, of_n, sum)), h = load<Real>(states + unit);
      if (saved != nullptr) {
        store_lanes(saved + 2 * H + unit, n, lanes);
        store_lanes(saved + 3 * H + unit, of_n, lanes);
      }
      const V next = multiply_add(z, h - n, n);
      if (zones)
        this->emit(s, row, first + unit, next, from, to);
      else
        out.put(unit, next, lanes);
    }
  }

  void reset_before(const Share& share, const Step& s, int alive, const Inputs<Product>& in, const char* packed,
                    const Real* from, Real* to) const {
    const bool normalises = p_.norm_hh != nullptr;
    const auto gates = [&](int row, int rows, int block, int blocks, const Real* tile) {
      gates_before(s, row, rows, block, blocks, tile, from);
    };
    products<2, Product>(
        share, s.turn, alive, unit_blocks<Real>(H_), in, packed, H_,
        [&](int row, int rows, int block, int blocks, const Real* tile) {
          normalises ? this->keep(row, rows, block, blocks, 0, 2, tile) : gates(row, rows, block, blocks, tile);
        },
        [&](int row, int rows, int block, int blocks, Ahead& ahead) {
          this->prefetch(s, row, rows, 0, 2, block, blocks, ahead);
        });
    if (normalises) this->template normalise<2>(share, s, 0, 0, gates);
    share.meet();
    const auto reset = this->inputs(share, alive, reset_, Ps_, H_, false, reset_inputs_);
    const auto candidates = [&](int row, int rows, int block, int blocks, const Real* tile) {
      candidates_before(s, row, rows, block, blocks, tile, from, to);
    };
    products<1, Product>(
        share, s.turn, alive, unit_blocks<Real>(H_), reset, packed + candidate_offset(H_), H_,
        [&](int row, int rows, int block, int blocks, const Real* tile) {
          normalises ? this->keep(row, rows, block, blocks, 2, 1, tile) : candidates(row, rows, block, blocks, tile);
        },
        [&](int row, int rows, int block, int blocks, Ahead& ahead) {
          this->prefetch(s, row, rows, 2, 1, block, blocks, ahead);
        });
    if (normalises) this->template normalise<1>(share, s, 2, 1, candidates);
  }

  void gates_before(const Step& s, int row, int rows, int block, int blocks, const Real* tile, const Real* from) const {
    for (int m = 0; m < rows; ++m)
      for (int b = 0; b < blocks; ++b, tile += 2 * kWidth)
        gates(s, row + m, (block + b) * kWidth, load<Real>(tile), load<Real>(tile + kWidth), from);
  }

  void candidates_before(const Step& s, int row, int rows, int block, int blocks, const Real* tile, const Real* from,
                         Real* to) const {
    for (int m = 0; m < rows; ++m)
      for (int b = 0; b < blocks; ++b, tile += kWidth)
        candidate(s, row + m, (block + b) * kWidth, load<Real>(tile), from, to);
  }

  // r and z; r * h and z wait for the candidate.
  TIDEGATE_INLINE void gates(const Step& s, int row, int unit, V of_r, V of_z, const Real* from) const {
    const std::int64_t at = static_cast<std::int64_t>(row) * Ps_ + unit;
    const V r = sigmoid(this->gate(s, row, 0, unit) + of_r);
    const V z = sigmoid(this->gate(s, row, 1, unit) + of_z);
    V h = load<Real>(from + at);
    if (const Real* mask = this->dropout_mask(row)) h *= load_lanes(mask + unit, this->lanes_of(unit, H_));
    store<Real>(reset_ + at, r * h);
    store<Real>(update_ + at, z);
    if (a_.saved != nullptr) {
      this->save(s, row, 0, 3, unit, r);
      this->save(s, row, 1, 3, unit, z);
    }
  }

  TIDEGATE_INLINE void candidate(const Step& s, int row, int unit, V of_n, const Real* from, Real* to) const {
    const std::int64_t at = static_cast<std::int64_t>(row) * Ps_ + unit;
    const V n = tanh(this->gate(s, row, 2, unit) + of_n);
    const V h = load<Real>(from + at), z = load<Real>(update_ + at);
    if (a_.saved != nullptr) this->save(s, row, 2, 3, unit, n);
    this->emit(s, row, unit, multiply_add(z, h - n, n), from, to);
  }

  const bool before_;
  Real* reset_ = nullptr;
  Real* update_ = nullptr;
  Input* reset_inputs_ = nullptr;
};

template <class T> class GruBackward : public BackwardPass<T> {
 public:
  using Base = BackwardPass<T>;
  using typename Base::Product;
  using typename Base::Real;
  using typename Base::Stored;
  using typename Base::V;
  using Base::a_;
  using Base::H_;
  using Base::kWidth;
  using Base::l_;
  using Base::p_;
  using Base::walk_;

  GruBackward(const Backward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 3, a.layout.cell == Cell::gru_reset_before ? 3 : 4, 3 * a.layout.units),
        before_(a.layout.cell == Cell::gru_reset_before) {}

  static std::size_t packed_bytes(const Layout& l) {
    return static_cast<std::size_t>(unit_blocks<Real>(l.units)) *
           (l.cell == Cell::gru_reset_before ? Product::panel_bytes(l.units) + Product::panel_bytes(2 * l.units)
                                             : Product::panel_bytes(3 * l.units));
  }

  // In the order of the gradients: n r z after the product, r z n under a layer norm; before it, n alone and then r z.
  static void pack(const Backward& a, int direction, int member, int members, char* packed) {
    const int H = a.layout.units;
    const std::size_t square = static_cast<std::size_t>(H) * H;
    const Stored* weights = static_cast<const Stored*>(a.parameters.weight_hh[direction]);
    const Stored* candidate = weights + 2 * square;
    const auto plain = [&](int k) { return weights + static_cast<std::size_t>(k) * H; };
    for (int block = member; block < unit_blocks<Real>(H); block += members) {
      if (a.layout.cell == Cell::gru_reset_before) {
        pack_columns<T>([&](int k) { return candidate + static_cast<std::size_t>(k) * H; }, H, H, block, packed);
        pack_columns<T>(plain, 2 * H, H, block, packed + gates_offset(H));
      } else if (a.parameters.norm_hh != nullptr) {
        pack_columns<T>(plain, 3 * H, H, block, packed);
      } else {
        pack_columns<T>([&](int k) { return k < H ? plain(2 * H + k) : plain(k - H); }, 3 * H, H, block, packed);
      }
    }
  }

  void run(const Share& share, const char* packed) const {
    this->enter(share);
    for (std::int64_t i = l_.steps - 1; i >= 0; --i) {
      const Step s = walk_.step(i);
      const int alive = s.alive;
      share.for_each_row(alive, [&](int row) {
        const auto at = this->row_at(s, row);
        this->for_my_units(share, H_, [&](int unit) { derivative(at, s, row, unit); });
      });
      share.meet();
      before_ ? back_before(share, s, alive, packed) : back_after(share, s, alive, packed);
    }
  }

 private:
  static std::size_t gates_offset(int units) {
    return static_cast<std::size_t>(unit_blocks<Real>(units)) * Product::panel_bytes(units);
  }

  TIDEGATE_INLINE void derivative(const typename Base::Row& at, const Step& s, int row, int unit) const {
    const int lanes = this->lanes_of(unit, at.units);
    const V r = at.of(0, unit, lanes), z = at.of(1, unit, lanes), n = at.of(2, unit, lanes);
    const V h = at.keep_previous(unit, lanes);
    const auto of = this->of_state(at, s, row, unit, lanes);
    const V dz = of.state * (h - n) * z * (1 - z);
    const V dn = of.state * (1 - z) * (1 - n * n);
    store_lanes(at.carried + unit, of.direct + of.state * z, lanes);
    if (before_) {
      at.grad_gate(1, unit, dz, lanes);
      at.grad_gate(2, unit, dn, lanes);
    } else {
      const V product = at.of(3, unit, lanes);
      at.grad_gate(0, unit, dn * r, lanes);
      at.grad_gate(1, unit, dn * product * r * (1 - r), lanes);
      at.grad_gate(2, unit, dz, lanes);
      at.grad_gate(3, unit, dn, lanes);
    }
  }

  void back_after(const Share& share, const Step& s, int alive, const char* packed) const {
    const bool normalises = p_.norm_hh != nullptr;
    if (normalises)
      this->template through_norm<3>(share, s, alive, 0, 0, 4, [](int gate) { return gate == 2 ? 0 : gate + 1; });
    this->multiply_to_carry(share, s, alive, normalises ? a_.grad_product : a_.grad_gates, (normalises ? 3 : 4) * H_,
                            3 * H_, packed);
  }

  // d(r * h) = dn W_hn gives the reset gate's gradient; then r and z go back through theirs.
  void back_before(const Share& share, const Step& s, int alive, const char* packed) const {
    const auto same = [](int gate) { return gate; };
    const bool normalises = p_.norm_hh != nullptr;
    if (normalises) this->template through_norm<1>(share, s, alive, 2, 1, 3, same);
    void* grads = normalises ? a_.grad_product : a_.grad_gates;
    this->multiply(share, s, alive, grads, 3 * H_, 2 * H_, H_, packed, H_,
                   [&](int row, int rows, int block, int blocks, const Real* tile) {
                     for (int m = 0; m < rows; ++m, tile += blocks * kWidth)
                       through_reset(s, row + m, block * kWidth, blocks, tile);
                   },
                   no_prefetch);
    share.meet();
    if (normalises) this->template through_norm<2>(share, s, alive, 0, 0, 3, same);
    this->multiply_to_carry(share, s, alive, grads, 3 * H_, 2 * H_, packed + gates_offset(H_));
  }

  void through_reset(const Step& s, int row, int first, int blocks, const Real* tile) const {
    const auto at = this->row_at(s, row);
    for (int unit = first; unit < first + blocks * kWidth; unit += kWidth, tile += kWidth) {
      const int lanes = this->lanes_of(unit, at.units);
      const V v = load<Real>(tile), r = at.of(0, unit, lanes), h = load_lanes(at.previous + unit, lanes);
      at.grad_gate(0, unit, v * h * r * (1 - r), lanes);
      V back = v * r;
      if (at.mask != nullptr) back *= load_lanes(at.mask + unit, lanes);
      store_lanes(at.carried + unit, load_lanes(at.carried + unit, lanes) + back, lanes);
    }
  }

  const bool before_;
};

}  // namespace

TIDEGATE_DEFINE_CELL(gru, GruForward, GruBackward)

}  // namespace tidegate::TIDEGATE_ISA
