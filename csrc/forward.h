// What the forward passes of all cells share: entering states, gates in, new states out, layer norm.
#pragma once

#include "pass.h"

namespace tidegate::TIDEGATE_ISA {

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

  ForwardPass(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena, int gates, int saved)
      : Base(a.layout, a.parameters, offsets, direction), a_(a), G_(gates), S_(saved) {
    const std::size_t rows = l_.rows;
    for (Real*& states : states_) states = arena.take<Real>(rows * Ps_);
    inputs_ = arena.take<Input>(this->buffer_size(P_, true));
    if (bias_ih() != nullptr || bias_hh() != nullptr) add_biases(arena.take<Real>((G_ + 1) * this->Hs_));
    if (p_.norm_hh != nullptr) raw_ = arena.take<Real>(rows * G_ * this->Hs_);
    if (p_.norm_ih != nullptr) entering_ = arena.take<Real>(rows * G_ * this->Hs_);
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

  // What enters a row's gates beside the recurrent product, from the unit `first` on: the projected inputs, which may have
  // gone through their layer norm, and the biases.
  struct Entering {
    const Stored* projected;
    const Real *normal, *biases;
    int units, padded_units;

    TIDEGATE_INLINE V of(int gate, int unit, int lanes) const {
      if (normal != nullptr) return load<Real>(normal + gate * padded_units + unit);
      const V v = load_lanes(projected + gate * units + unit, lanes);
      return biases == nullptr ? v : v + load<Real>(biases + gate * padded_units + unit);
    }
  };

  Entering entering_at(const Step& s, int row, int first) const {
    return {this->template value<Stored>(a_.gates, s, row, G_ * H_) + first,
            entering_ == nullptr ? nullptr : entering(row) + first, biases_ == nullptr ? nullptr : biases_ + first, H_,
            this->Hs_};
  }

  V gate(const Step& s, int row, int gate, int unit) const {
    return entering_at(s, row, unit).of(gate, 0, this->lanes_of(unit, H_));
  }

  void save(const Step& s, int row, int which, int of, int unit, V v) const {
    store_lanes(this->template value<Stored>(a_.saved, s, row, of * H_) + which * H_ + unit, v,
                this->lanes_of(unit, H_));
  }

  // What a tile's cells will read and write.
  void prefetch(const Step& s, int row, int rows, int first, int gates, int block, int blocks, Ahead& ahead) const {
    if (!far_) return;
    const int unit = block * kWidth, width = blocks * kWidth;
    for (int m = row; m < row + rows; ++m) {
      const Stored* from = this->template value<Stored>(a_.gates, s, m, G_ * H_) + unit;
      for (int g = first; g < first + gates; ++g) ahead.add(from + g * H_, width * sizeof(Stored));
      ahead.add(this->template value<Stored>(a_.output, s, m, P_) + unit, width * sizeof(Stored));
      if (a_.saved == nullptr) continue;
      const Stored* saved = this->template value<Stored>(a_.saved, s, m, S_ * H_) + unit;
      for (int which = 0; which < S_; ++which) ahead.add(saved + which * H_, width * sizeof(Stored));
    }
  }

  // Where a row's new states go, from the unit `first` on, when nothing stands between.
  struct Out {
    Real* state;
    Stored* output;
    Real* last;  // h_n, or null before the row's last step

    TIDEGATE_INLINE void put(int unit, V h, int lanes) const {
      store<Real>(state + unit, h);
      store_lanes(output + unit, h, lanes);
      if (last != nullptr) store_lanes(last + unit, h, lanes);
    }
  };

  Out out_of(const Step& s, int row, int first, Real* to) const {
    return {to + static_cast<std::int64_t>(row) * Ps_ + first, this->template value<Stored>(a_.output, s, row, P_) + first,
            row >= s.alive_after ? this->row_of(static_cast<Real*>(a_.h_n), row, P_) + first : nullptr};
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

  // The projected inputs of a row after their layer norm, with the biases: [G][units].
  Real* entering(int row) const { return entering_ + static_cast<std::int64_t>(row) * G_ * this->Hs_; }

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

  // The layer norm of whole rows, of Gates gates from `first` on, then `sink(row, 1, block, blocks, tile)` for this
  // thread's units, as after a product. With the first gates the projected inputs are normalised, too.
  template <int Gates, class Sink>
  void normalise(const Share& share, const Step& s, int first, int which, const Sink& sink) const {
    share.meet();
    const Range blocks = share.of(unit_blocks<Real>(H_));
    const int H = H_;
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(G_) * kWidth;
    const Real* gains = this->parameters_of(p_.norm_hh, G_) + static_cast<std::ptrdiff_t>(first) * H;
    share.for_each_row(s.alive, [&](int row) {
      if (first == 0 && entering_ != nullptr) normalise_inputs(s, row, blocks);
      const Real* product = raw(row, 0) + first * kWidth;
      const Moments<Real> found = moments<Gates>(product, G_, H, static_cast<Real>(p_.eps));
      if (a_.deviation != nullptr) {
        Real* deviation = this->template value<Real>(a_.deviation, s, row, 2);
        for (int later = which; later < 2; ++later) deviation[later] = found.inverse_deviation;
      }
      Stored* normalized = a_.normalized == nullptr
                               ? nullptr
                               : this->template value<Stored>(a_.normalized, s, row, G_ * H) + first * H;
      constexpr int most = 8;  // unit blocks of a tile
      alignas(64) Real tile[most * Gates * kWidth];
      for (int block = blocks.first; block < blocks.last; block += most) {
        const int count = blocks.last - block < most ? blocks.last - block : most;
        for (int b = 0; b < count; ++b) {
          const int unit = (block + b) * kWidth, lanes = this->lanes_of(unit, H);
#pragma GCC unroll 4
          for (int gate = 0; gate < Gates; ++gate) {
            const V x = (load<Real>(product + (block + b) * stride + gate * kWidth) - found.mean) * found.inverse_deviation;
            if (normalized != nullptr) store_lanes(normalized + gate * H + unit, x, lanes);
            store<Real>(tile + (b * Gates + gate) * kWidth, x * load_lanes(gains + gate * H + unit, lanes));
          }
        }
        sink(row, 1, block, count, tile);
      }
    });
  }

 private:
  const Real* bias_ih() const { return static_cast<const Real*>(p_.bias_ih[index_]); }
  const Real* bias_hh() const { return static_cast<const Real*>(p_.bias_hh[index_]); }

  void normalise_inputs(const Step& s, int row, Range blocks) const {
    const int H = H_, Hs = this->Hs_;
    const Stored* from = this->template value<Stored>(a_.gates, s, row, G_ * H);
    const Moments<Real> found = moments<Real>(from, G_ * H, static_cast<Real>(p_.eps));
    if (a_.input_moments != nullptr) {
      Real* kept = this->template value<Real>(a_.input_moments, s, row, 2);
      kept[0] = found.mean;
      kept[1] = found.inverse_deviation;
    }
    const Real* gains = this->parameters_of(p_.norm_ih, G_);
    const Real* biases = biases_;
    Real* to = entering(row);
    for (int gate = 0; gate < G_; ++gate, from += H, gains += H, to += Hs)
      for (int unit = blocks.first * kWidth; unit < blocks.last * kWidth; unit += kWidth) {
        const int lanes = this->lanes_of(unit, H);
        const V x = (load_lanes(from + unit, lanes) - found.mean) * found.inverse_deviation * load_lanes(gains + unit, lanes);
        store<Real>(to + unit, biases == nullptr ? x : x + load<Real>(biases + gate * Hs + unit));
      }
  }

  // `to` is null while memory is only counted.
  void add_biases(Real* to) {
    biases_ = to;
    if (to == nullptr) return;
    const auto of = [&](const Real* biases, int gate, int unit) {
      return biases == nullptr ? V{} : load_lanes(biases + gate * H_ + unit, this->lanes_of(unit, H_));
    };
    const bool apart = l_.cell == Cell::gru;
    for (int unit = 0; unit < H_; unit += kWidth) {
      Real* at = to + unit;
      for (int gate = 0; gate < G_; ++gate, at += this->Hs_)
        store<Real>(at, of(bias_ih(), gate, unit) + (apart && gate == 2 ? V{} : of(bias_hh(), gate, unit)));
      if (apart) store<Real>(at, of(bias_hh(), 2, unit));
    }
  }

 protected:
  const Forward& a_;
  const int G_, S_;  // gates, and values saved, of a unit
  // Whether what the steps read and write leaves the near cache before its turn comes.
  const bool far_ = static_cast<double>(l_.values) * l_.directions * (G_ + 1 + (a_.saved == nullptr ? 0 : S_)) * H_ *
                        sizeof(Stored) >
                    kNearBytes;
  Real* biases_ = nullptr;  // of the gates, and behind them that of n alone
  Real* states_[2];
  Input* inputs_;
  Real* raw_ = nullptr;
  Real* entering_ = nullptr;
};

}  // namespace tidegate::TIDEGATE_ISA
