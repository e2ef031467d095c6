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
  using typename Base::V;
  using Base::a_;
  using Base::H_;
  using Base::kWidth;
  using Base::l_;
  using Base::p_;
  using Base::Ps_;
  using Base::walk_;

  GruForward(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 3), before_(a.layout.cell == Cell::gru_reset_before) {
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
    const auto cells = [&](int row, int rows, int block, int blocks, const Real* tile) {
      cells_after(s, row, rows, block, blocks, tile, from, to);
    };
    products<3, Product>(
        share, alive, unit_blocks<Real>(H_), in, packed, H_,
        [&](int row, int rows, int block, int blocks, const Real* tile) {
          normalises ? this->keep(row, rows, block, blocks, 0, 3, tile) : cells(row, rows, block, blocks, tile);
        },
        [&](int row, int rows, int block, int blocks) { this->prefetch(s, row, rows, 0, 3, block, blocks); });
    if (normalises) this->template normalise<3>(share, s, 0, 0, cells);
  }

  void cells_after(const Step& s, int row, int rows, int block, int blocks, const Real* tile, const Real* from,
                   Real* to) const {
    for (int m = 0; m < rows; ++m)
      for (int b = 0; b < blocks; ++b, tile += 3 * kWidth)
        after(s, row + m, (block + b) * kWidth, load<Real>(tile), load<Real>(tile + kWidth), load<Real>(tile + 2 * kWidth),
              from, to);
  }

  TIDEGATE_INLINE void after(const Step& s, int row, int unit, V of_r, V of_z, V of_n, const Real* from, Real* to) const {
    const V r = sigmoid(this->gate(s, row, 0, unit) + of_r);
    const V z = sigmoid(this->gate(s, row, 1, unit) + of_z);
    of_n += this->bias_n(unit);
    const V n = tanh(multiply_add(r, of_n, this->gate(s, row, 2, unit)));
    const V h = load<Real>(from + static_cast<std::int64_t>(row) * Ps_ + unit);
    if (a_.saved != nullptr) {
      this->save(s, row, 0, 4, unit, r);
      this->save(s, row, 1, 4, unit, z);
      this->save(s, row, 2, 4, unit, n);
      this->save(s, row, 3, 4, unit, of_n);
    }
    this->emit(s, row, unit, multiply_add(z, h - n, n), from, to);
  }

  void reset_before(const Share& share, const Step& s, int alive, const Inputs<Product>& in, const char* packed,
                    const Real* from, Real* to) const {
    const bool normalises = p_.norm_hh != nullptr;
    const auto gates = [&](int row, int rows, int block, int blocks, const Real* tile) {
      gates_before(s, row, rows, block, blocks, tile, from);
    };
    products<2, Product>(
        share, alive, unit_blocks<Real>(H_), in, packed, H_,
        [&](int row, int rows, int block, int blocks, const Real* tile) {
          normalises ? this->keep(row, rows, block, blocks, 0, 2, tile) : gates(row, rows, block, blocks, tile);
        },
        [&](int row, int rows, int block, int blocks) { this->prefetch(s, row, rows, 0, 2, block, blocks); });
    if (normalises) this->template normalise<2>(share, s, 0, 0, gates);
    share.meet();
    const auto reset = this->inputs(share, alive, reset_, Ps_, H_, false, reset_inputs_);
    const auto candidates = [&](int row, int rows, int block, int blocks, const Real* tile) {
      candidates_before(s, row, rows, block, blocks, tile, from, to);
    };
    products<1, Product>(
        share, alive, unit_blocks<Real>(H_), reset, packed + candidate_offset(H_), H_,
        [&](int row, int rows, int block, int blocks, const Real* tile) {
          normalises ? this->keep(row, rows, block, blocks, 2, 1, tile) : candidates(row, rows, block, blocks, tile);
        },
        [&](int row, int rows, int block, int blocks) { this->prefetch(s, row, rows, 2, 1, block, blocks); });
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
        this->for_my_units(share, H_, [&](int unit) { derivative(s, row, unit); });
      });
      share.meet();
      before_ ? back_before(share, s, alive, packed) : back_after(share, s, alive, packed);
    }
  }

 private:
  static std::size_t gates_offset(int units) {
    return static_cast<std::size_t>(unit_blocks<Real>(units)) * Product::panel_bytes(units);
  }

  TIDEGATE_INLINE void derivative(const Step& s, int row, int unit) const {
    const V r = this->saved(s, row, 0, unit), z = this->saved(s, row, 1, unit), n = this->saved(s, row, 2, unit);
    const V h = this->keep_previous(s, row, unit);
    const auto of = this->of_state(s, row, unit);
    const V dz = of.state * (h - n) * z * (1 - z);
    const V dn = of.state * (1 - z) * (1 - n * n);
    this->carry(row, unit, of.direct + of.state * z);
    if (before_) {
      this->grad_gate(s, row, 1, 3, unit, dz);
      this->grad_gate(s, row, 2, 3, unit, dn);
    } else {
      const V product = this->saved(s, row, 3, unit);
      this->grad_gate(s, row, 0, 4, unit, dn * r);
      this->grad_gate(s, row, 1, 4, unit, dn * product * r * (1 - r));
      this->grad_gate(s, row, 2, 4, unit, dz);
      this->grad_gate(s, row, 3, 4, unit, dn);
    }
  }

  void back_after(const Share& share, const Step& s, int alive, const char* packed) const {
    const bool normalises = p_.norm_hh != nullptr;
    if (normalises)
      this->template through_norm<3>(share, s, alive, 0, 0, 4, [](int gate) { return gate == 2 ? 0 : gate + 1; });
    this->multiply(share, s, alive, normalises ? a_.grad_product : a_.grad_gates, (normalises ? 3 : 4) * H_, 0, 3 * H_,
                   packed, H_, [&](int row, int unit, V v) { this->add_to_carry(row, unit, v, true); });
  }

  // d(r * h) = dn W_hn gives the reset gate's gradient; then r and z go back through theirs.
  void back_before(const Share& share, const Step& s, int alive, const char* packed) const {
    const auto same = [](int gate) { return gate; };
    const bool normalises = p_.norm_hh != nullptr;
    if (normalises) this->template through_norm<1>(share, s, alive, 2, 1, 3, same);
    void* grads = normalises ? a_.grad_product : a_.grad_gates;
    this->multiply(share, s, alive, grads, 3 * H_, 2 * H_, H_, packed, H_, [&](int row, int unit, V v) {
      const int lanes = this->lanes_of(unit, H_);
      const V r = this->saved(s, row, 0, unit);
      const V h = load_lanes(this->template value<Stored>(a_.previous, s, row, H_) + unit, lanes);
      this->grad_gate(s, row, 0, 3, unit, v * h * r * (1 - r));
      this->add_to_carry(row, unit, v * r, true);
    });
    share.meet();
    if (normalises) this->template through_norm<2>(share, s, alive, 0, 0, 3, same);
    this->multiply(share, s, alive, grads, 3 * H_, 0, 2 * H_, packed + gates_offset(H_), H_,
                   [&](int row, int unit, V v) { this->add_to_carry(row, unit, v, true); });
  }

  const bool before_;
};

}  // namespace

TIDEGATE_DEFINE_CELL(gru, GruForward, GruBackward)

}  // namespace tidegate::TIDEGATE_ISA
