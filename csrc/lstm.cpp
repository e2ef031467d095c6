// Long short-term memory over ragged rows, forward and backward, with peepholes (Gers & Schmidhuber 2000) and projection
// (Sak et al. 2014). Equations: kernels/__init__.py, lstm().

#include "cells.h"
#include "lstm_backward.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

template <class T> class LstmForward : public ForwardPass<T> {
 public:
  using Base = ForwardPass<T>;
  using typename Base::Input;
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
  using Base::Ps_;
  using Base::walk_;

  LstmForward(const Forward& a, const std::int64_t* offsets, int direction, Arena& arena)
      : Base(a, offsets, direction, arena, 4, 5),
        plain_(p_.peephole == nullptr && !this->zones_h() && !this->zones_c() && !projects(l_)) {
    const std::size_t rows = l_.rows;
    memory_ = arena.take<Real>(rows * Hs_);
    if (p_.norm_c != nullptr) {
      candidate_ = arena.take<Real>(rows * Hs_);
      open_ = arena.take<Real>(rows * Hs_);
    }
    if (projects(l_)) {
      exposed_ = arena.take<Real>(rows * Hs_);
      exposed_inputs_ = arena.take<Input>(this->buffer_size(H_, false));
    }
  }

  static std::size_t packed_bytes(const Layout& l) {
    const std::size_t projection =
        projects(l) ? static_cast<std::size_t>(unit_blocks<Real>(l.states)) * Product::panel_bytes(l.units) : 0;
    return projection_offset(l) + projection;
  }

  static void pack(const Forward& a, int direction, int member, int members, char* packed) {
    using Source = typename Product::Source;
    const Layout& l = a.layout;
    const auto* weights = static_cast<const Source*>(a.parameters.weight_hh[direction]);
    const float* scales = a.parameters.scale_hh == nullptr ? nullptr : a.parameters.scale_hh + direction * 4 * l.units;
    for (int block = member; block < unit_blocks<Real>(l.units); block += members)
      pack_gates<T>(weights, scales, 4, l.units, l.states, block, packed);
    if (!projects(l)) return;
    const auto* project = static_cast<const Source*>(a.parameters.weight_hr) +
                          static_cast<std::size_t>(direction) * l.states * l.units;
    const float* project_scales = a.parameters.scale_hr == nullptr ? nullptr : a.parameters.scale_hr + direction * l.states;
    for (int block = member; block < unit_blocks<Real>(l.states); block += members)
      pack_gates<T>(project, project_scales, 1, l.states, l.units, block, packed + projection_offset(l));
  }

  void run(const Share& share, const char* packed) const {
    const bool normalises = p_.norm_hh != nullptr;
    this->enter(share);
    this->for_my_units(share, H_, [&](int unit) {
      share.for_each_row(l_.rows, [&](int row) {
        const int lanes = this->lanes_of(unit, H_);
        const V c = load_lanes(this->row_of(static_cast<const Real*>(a_.c_0), row, H_) + unit, lanes);
        store<Real>(memory_ + static_cast<std::int64_t>(row) * Hs_ + unit, c);
        store_lanes(this->row_of(static_cast<Real*>(a_.c_n), row, H_) + unit, c, lanes);
      });
    });
    share.meet();
    for (std::int64_t i = 0; i < l_.steps; ++i) {
      const Step s = walk_.step(i);
      const Real* from = this->states_[i % 2];
      Real* to = this->states_[(i + 1) % 2];
      const int alive = s.alive;
      const auto in = this->inputs(share, alive, from, Ps_, P_, true, this->inputs_);
      const auto cells = [&](int row, int rows, int block, int blocks, Real* tile) {
        this->cells(s, row, rows, block, blocks, tile, from, to);
      };
      products<4, Product>(
          share, s.turn, alive, unit_blocks<Real>(H_), in, packed, P_,
          [&](int row, int rows, int block, int blocks, Real* tile) {
            normalises ? this->keep(row, rows, block, blocks, 0, 4, tile) : cells(row, rows, block, blocks, tile);
          },
          [&](int row, int rows, int block, int blocks, Ahead& ahead) {
            this->prefetch(s, row, rows, 0, 4, block, blocks, ahead);
          });
      if (normalises) this->template normalise<4>(share, s, 0, 0, cells);
      if (p_.norm_c != nullptr) expose_normal(share, s, alive, from, to);
      if (projects(l_)) project(share, s, alive, packed + projection_offset(l_), from, to);
      share.meet();
    }
  }

 private:
  static std::size_t projection_offset(const Layout& l) {
    return static_cast<std::size_t>(unit_blocks<Real>(l.units)) * 4 * Product::panel_bytes(l.states);
  }

  // Activations in place in the tile, then what they make of the states: two loops of which the processor overlaps the
  // turns, where one loop's chain from gate to output would fill its queues.
  void cells(const Step& s, int row, int rows, int block, int blocks, Real* tile, const Real* from, Real* to) const {
    const int width = 4 * blocks * kWidth;
    for (int m = 0; m < rows; ++m) activate(s, row + m, block * kWidth, blocks, tile + m * width);
    for (int m = 0; m < rows; ++m, tile += width) {
      if (plain_)
        plain_cells(s, row + m, block * kWidth, blocks, tile, to);
      else
        for (int b = 0; b < blocks; ++b) cell(s, row + m, (block + b) * kWidth, tile + b * 4 * kWidth, from, to);
    }
  }

  // i f g o of a row's units from `first` on; with peepholes o's is its sum yet.
  void activate(const Step& s, int row, int first, int blocks, Real* tile) const {
    const int H = H_, Hs = Hs_;
    const bool peeps = p_.peephole != nullptr;
    const auto entering = this->entering_at(s, row, first);
    const Real* memory = memory_ + static_cast<std::int64_t>(row) * Hs + first;
    Stored* saved = a_.saved == nullptr ? nullptr : this->template value<Stored>(a_.saved, s, row, 5 * H) + first;
    for (int b = 0; b < blocks; ++b, tile += 4 * kWidth) {
      const int unit = b * kWidth, lanes = this->lanes_of(first + unit, H);
      const auto gate = [&](int which) { return load<Real>(tile + which * kWidth) + entering.of(which, unit, lanes); };
      const auto keep = [&](int which, V v) {
        store<Real>(tile + which * kWidth, v);
        if (saved != nullptr) store_lanes(saved + which * H + unit, v, lanes);
      };
      V i = gate(0), f = gate(1);
      const V o = gate(3);
      if (peeps) {
        const V c = load<Real>(memory + unit);
        i = multiply_add(this->parameter(p_.peephole, 0, 3, first + unit), c, i);
        f = multiply_add(this->parameter(p_.peephole, 1, 3, first + unit), c, f);
      }
      keep(0, sigmoid(i));
      keep(1, sigmoid(f));
      keep(2, tanh(gate(2)));
      keep(3, peeps ? o : sigmoid(o));
    }
  }

  // The states of a row with no option but layer norms, for which c and o wait. Pointers are looked up once: the compiler
  // must take it that a store changes whatever is not in a local variable.
  void plain_cells(const Step& s, int row, int first, int blocks, const Real* tile, Real* to) const {
    const int H = H_;
    const std::int64_t at = static_cast<std::int64_t>(row) * Hs_ + first;
    const bool waits = p_.norm_c != nullptr;
    Stored* saved = a_.saved == nullptr ? nullptr : this->template value<Stored>(a_.saved, s, row, 5 * H) + 4 * H + first;
    Real *memory = memory_ + at, *candidate = waits ? candidate_ + at : nullptr, *open = waits ? open_ + at : nullptr;
    Real* c_n = row >= s.alive_after ? this->row_of(static_cast<Real*>(a_.c_n), row, H) + first : nullptr;
    const auto out = this->out_of(s, row, first, to);
    for (int b = 0; b < blocks; ++b, tile += 4 * kWidth) {
      const int unit = b * kWidth, lanes = this->lanes_of(first + unit, H);
      const V i = load<Real>(tile), f = load<Real>(tile + kWidth), g = load<Real>(tile + 2 * kWidth);
      const V o = load<Real>(tile + 3 * kWidth);
      const V c = multiply_add(f, load<Real>(memory + unit), i * g);
      store<Real>(memory + unit, c);
      if (c_n != nullptr) store_lanes(c_n + unit, c, lanes);
      if (saved != nullptr) store_lanes(saved + unit, c, lanes);
      if (waits) {
        store<Real>(candidate + unit, c);
        store<Real>(open + unit, o);
      } else {
        out.put(unit, o * tanh(c), lanes);
      }
    }
  }

  TIDEGATE_INLINE void cell(const Step& s, int row, int unit, const Real* tile, const Real* from, Real* to) const {
    const std::int64_t at = static_cast<std::int64_t>(row) * Hs_ + unit;
    const V i = load<Real>(tile), f = load<Real>(tile + kWidth), g = load<Real>(tile + 2 * kWidth);
    V o = load<Real>(tile + 3 * kWidth);
    const V c = load<Real>(memory_ + at);
    const V candidate = multiply_add(f, c, i * g);
    if (p_.peephole != nullptr) o = sigmoid(multiply_add(this->parameter(p_.peephole, 2, 3, unit), candidate, o));
    V kept = candidate;
    if (this->zones_c())
      kept = candidate + this->kept(p_.zoneout_c, p_.zoneout_rate_c, s, row, unit, H_) * (c - candidate);
    store<Real>(memory_ + at, kept);
    if (row >= s.alive_after)
      store_lanes(this->row_of(static_cast<Real*>(a_.c_n), row, H_) + unit, kept, this->lanes_of(unit, H_));
    if (a_.saved != nullptr) {
      if (p_.peephole != nullptr) this->save(s, row, 3, 5, unit, o);
      this->save(s, row, 4, 5, unit, kept);
    }
    if (p_.norm_c != nullptr) {
      store<Real>(candidate_ + at, candidate);
      store<Real>(open_ + at, o);
    } else {
      expose(s, row, unit, o * tanh(candidate), from, to);
    }
  }

  TIDEGATE_INLINE void expose(const Step& s, int row, int unit, V h, const Real* from, Real* to) const {
    if (projects(l_))
      store<Real>(exposed_ + static_cast<std::int64_t>(row) * Hs_ + unit, h);
    else
      this->emit(s, row, unit, h, from, to);
  }

  void expose_normal(const Share& share, const Step& s, int alive, const Real* from, Real* to) const {
    share.meet();
    share.for_each_row(alive, [&](int row) {
      const Real* candidate = candidate_ + static_cast<std::int64_t>(row) * Hs_;
      const Moments<Real> found = moments<Real>(candidate, H_, static_cast<Real>(p_.eps));
      const Real* open = open_ + static_cast<std::int64_t>(row) * Hs_;
      const Real *gains = this->parameters_of(p_.norm_c, 2), *biases = gains + H_;
      const auto exposed = [&](int unit, int lanes) {
        const V x = (load<Real>(candidate + unit) - found.mean) * found.inverse_deviation;
        return load<Real>(open + unit) *
               tanh(multiply_add(x, load_lanes(gains + unit, lanes), load_lanes(biases + unit, lanes)));
      };
      const auto out = this->out_of(s, row, 0, to);
      this->for_my_units(share, H_, [&](int unit) {
        const int lanes = this->lanes_of(unit, H_);
        plain_ ? out.put(unit, exposed(unit, lanes), lanes) : expose(s, row, unit, exposed(unit, lanes), from, to);
      });
    });
  }

  void project(const Share& share, const Step& s, int alive, const char* packed, const Real* from, Real* to) const {
    share.meet();
    const auto in = this->inputs(share, alive, exposed_, Hs_, H_, false, exposed_inputs_);
    products<1, Product>(share, s.turn, alive, unit_blocks<Real>(P_), in, packed, H_,
                         [&](int row, int rows, int block, int blocks, const Real* tile) {
                           for (int m = 0; m < rows; ++m)
                             for (int b = 0; b < blocks; ++b, tile += kWidth)
                               this->emit(s, row + m, (block + b) * kWidth, load<Real>(tile), from, to);
                         },
                         no_prefetch);
  }

  const bool plain_;
  Real* memory_;               // c
  Real* candidate_ = nullptr;  // c before zoneout, and o, waiting for the layer norm of c
  Real* open_ = nullptr;
  Real* exposed_ = nullptr;  // o * tanh(c), waiting for the projection
  Input* exposed_inputs_ = nullptr;
};

}  // namespace

TIDEGATE_DEFINE_CELL(lstm, LstmForward, LstmBackward)

}  // namespace tidegate::TIDEGATE_ISA
