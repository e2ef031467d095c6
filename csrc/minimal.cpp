// The minimal cells over ragged rows, with their gates: what linear recurrences are for, in one pass over the projected
// inputs. The backward pass computes the gates again, so that nothing is kept but the states. Equations:
// layers/minimal.py.

#include "activations.h"
#include "logarithm.h"
#include "scan_pass.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

// log(1 + exp(x)) where exp(x) overflows, too.
template <class Real> TIDEGATE_INLINE Vec<Real> softplus(Vec<Real> x) {
  const Vec<Real> positive = select<Real>(x > Vec<Real>{}, x, Vec<Real>{});
  const Vec<Real> magnitude = select<Real>(x > Vec<Real>{}, x, -x);
  return positive + log(exp(-magnitude) + static_cast<Real>(1));
}

// What one step is of the projected inputs of some units.
template <class Real> struct Gates {
  using V = Vec<Real>;

  V first, second, candidate;  // as they were projected
  V kept, entering;            // k and 1 - k
  V value;                     // the candidate, positive where that is asked for
  V squashed;                  // sigmoid of the candidate

  TIDEGATE_INLINE Gates(const Real* projected, int units, int lanes, bool is_lstm, bool is_positive) {
    first = load_lanes(projected, lanes);
    second = is_lstm ? load_lanes(projected + units, lanes) : V{};
    candidate = load_lanes(projected + (is_lstm ? 2 : 1) * units, lanes);
    const V logit = is_lstm ? softplus<Real>(-second) - softplus<Real>(-first) : -first;
    kept = sigmoid(logit);
    entering = sigmoid(-logit);
    squashed = is_positive ? sigmoid(candidate) : V{};
    value = is_positive ? select<Real>(candidate >= V{}, candidate + static_cast<Real>(0.5), squashed) : candidate;
  }

  // The slope of `value` by the projected candidate.
  TIDEGATE_INLINE V slope(bool is_positive) const {
    const V one = broadcast<Real>(1);
    return is_positive ? select<Real>(candidate >= V{}, one, squashed * (one - squashed)) : one;
  }
};

template <class Real> class MinimalForwardPass : scan::Pass<Real> {
 public:
  MinimalForwardPass(const MinimalForward<Real>& a, const std::int64_t* offsets, const scan::Parts& parts, int part)
      : scan::Pass<Real>(a.layout, offsets, parts, part), a_(a) {}

  void run() const {
    const int units = this->units_, width = units * (a_.is_lstm ? 3 : 2);
    for (int m = this->alive(0); m < this->rows_; ++m)
      this->for_units([&](int unit, int lanes) {
        store_lanes(this->row(a_.h_n, m, units) + unit, load_lanes(this->row(a_.h_0, m, units) + unit, lanes), lanes);
      });
    const std::int64_t longest = this->longest();
    for (std::int64_t t = 0; t < longest; ++t) {
      const int alive = this->alive(t), goes_on = this->alive(t + 1);
      for (int m = 0; m < alive; ++m) {
        const Real* projected = this->value(a_.projected, t, m, width);
        const Real* before =
            t == 0 ? this->row(a_.h_0, m, units) : this->template value<const Real>(a_.h, t - 1, m, units);
        Real* h = this->value(a_.h, t, m, units);
        Real* last = m >= goes_on ? this->row(a_.h_n, m, units) : nullptr;
        this->for_units([&](int unit, int lanes) {
          const Gates<Real> gates(projected + unit, units, lanes, a_.is_lstm, a_.is_positive);
          const Vec<Real> state =
              multiply_add(gates.kept, load_lanes(before + unit, lanes), gates.entering * gates.value);
          store_lanes(h + unit, state, lanes);
          if (last != nullptr) store_lanes(last + unit, state, lanes);
        });
      }
    }
  }

 private:
  const MinimalForward<Real>& a_;
};

template <class Real> class MinimalBackwardPass : scan::Pass<Real> {
  using V = Vec<Real>;

 public:
  MinimalBackwardPass(const MinimalBackward<Real>& a, const std::int64_t* offsets, const scan::Parts& parts, int part)
      : scan::Pass<Real>(a.layout, offsets, parts, part), a_(a) {}

  void run() const {
    // What comes back into a row's state is kept where its last value belongs.
    for (int m = 0; m < this->rows_; ++m)
      this->for_units([&](int unit, int lanes) {
        store_lanes(this->row(a_.grad_h_0, m, this->units_) + unit,
                    load_lanes(this->row(a_.grad_h_n, m, this->units_) + unit, lanes), lanes);
      });
    for (std::int64_t t = this->longest() - 1; t >= 0; --t)
      for (int m = 0; m < this->alive(t); ++m) step(t, m);
  }

 private:
  TIDEGATE_INLINE void step(std::int64_t t, int m) const {
    const int units = this->units_, width = units * (a_.is_lstm ? 3 : 2);
    const Real* projected = this->value(a_.projected, t, m, width);
    const Real* grad_h = this->value(a_.grad_h, t, m, units);
    const Real* before = t == 0 ? this->row(a_.h_0, m, units) : this->value(a_.h, t - 1, m, units);
    Real* carried = this->row(a_.grad_h_0, m, units);
    Real* grad = this->value(a_.grad_projected, t, m, width);
    this->for_units([&](int unit, int lanes) {
      const Gates<Real> gates(projected + unit, units, lanes, a_.is_lstm, a_.is_positive);
      const V g = load_lanes(grad_h + unit, lanes) + load_lanes(carried + unit, lanes);
      const V of_logit = g * (load_lanes(before + unit, lanes) - gates.value) * gates.kept * gates.entering;
      Real* to = grad + unit;
      if (a_.is_lstm) {
        store_lanes(to, of_logit * sigmoid(-gates.first), lanes);
        store_lanes(to + units, -of_logit * sigmoid(-gates.second), lanes);
      } else {
        store_lanes(to, -of_logit, lanes);
      }
      store_lanes(to + (a_.is_lstm ? 2 : 1) * units, g * gates.entering * gates.slope(a_.is_positive), lanes);
      store_lanes(carried + unit, g * gates.kept, lanes);
    });
  }

  const MinimalBackward<Real>& a_;
};

template <template <class> class Pass, class Real, class Call> void run(const Call& a, double cost) {
  scan::for_all_parts<Real>(a.layout, cost, [&](const std::int64_t* offsets, const scan::Parts& parts, int part) {
    Pass<Real>(a, offsets, parts, part).run();
  });
}

}  // namespace

template <class Real> void minimal_forward(const MinimalForward<Real>& a) { run<MinimalForwardPass, Real>(a, 120); }
template <class Real> void minimal_backward(const MinimalBackward<Real>& a) { run<MinimalBackwardPass, Real>(a, 160); }

template void minimal_forward<float>(const MinimalForward<float>&);
template void minimal_forward<double>(const MinimalForward<double>&);
template void minimal_backward<float>(const MinimalBackward<float>&);
template void minimal_backward<double>(const MinimalBackward<double>&);

}  // namespace tidegate::TIDEGATE_ISA
