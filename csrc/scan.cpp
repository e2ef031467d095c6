// Linear recurrences over ragged rows, h_t = a_t h_{t-1} + b_t, real or complex, and their gradients. Equations:
// kernels/scan.py.
//
// Nothing is computed but a product and a sum a number, so what matters is that every array is read and written once, in
// order: a part of the work is a few rows side by side, or some units of them, from the first step to the last, and the
// state of the step before is read where it was just written.

#include "rows.h"
#include "scan.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

constexpr int kRowsOfPart = 8;

// How the work is cut: blocks of rows, and where these are fewer than threads, ranges of units.
struct Parts {
  int row_parts, unit_parts;

  Parts(const ScanLayout& l, int lanes, int team) {
    row_parts = (l.rows + kRowsOfPart - 1) / kRowsOfPart;
    const int wanted = row_parts == 0 ? 1 : (team + row_parts - 1) / row_parts, most = (l.units + lanes - 1) / lanes;
    unit_parts = wanted < most ? wanted : most < 1 ? 1 : most;
  }

  int count() const { return row_parts * unit_parts; }
};

// A number or two planes of them: real or complex arithmetic on lanes.
template <class Real, bool Complex> struct Lanes {
  Vec<Real> re, im;

  static TIDEGATE_INLINE Lanes load(const Real* from, int plane, int lanes) {
    if constexpr (Complex) return {load_lanes(from, lanes), load_lanes(from + plane, lanes)};
    else return {load_lanes(from, lanes), Vec<Real>{}};
  }

  TIDEGATE_INLINE void store(Real* to, int plane, int lanes) const {
    store_lanes(to, re, lanes);
    if constexpr (Complex) store_lanes(to + plane, im, lanes);
  }
};

// a * x + y
template <class Real, bool Complex>
TIDEGATE_INLINE Lanes<Real, Complex> times_plus(Lanes<Real, Complex> a, Lanes<Real, Complex> x, Lanes<Real, Complex> y) {
  if constexpr (!Complex) return {multiply_add(a.re, x.re, y.re), Vec<Real>{}};
  else
    return {multiply_add(-a.im, x.im, multiply_add(a.re, x.re, y.re)),
            multiply_add(a.im, x.re, multiply_add(a.re, x.im, y.im))};
}

template <class Real, bool Complex> TIDEGATE_INLINE Lanes<Real, Complex> conjugate(Lanes<Real, Complex> x) {
  if constexpr (Complex) return {x.re, -x.im};
  else return x;
}

template <class Real, bool Complex> class Pass {
 protected:
  using L = Lanes<Real, Complex>;

  Pass(const ScanLayout& l, const std::int64_t* offsets, const Parts& parts, int part)
      : layout_(l), steps_{l.batch_sizes, offsets, l.steps}, units_(l.units), width_(l.units * (Complex ? 2 : 1)) {
    first_row_ = part / parts.unit_parts * kRowsOfPart;
    rows_ = l.rows - first_row_ < kRowsOfPart ? l.rows - first_row_ : kRowsOfPart;
    const int blocks = (l.units + kLanes<Real> - 1) / kLanes<Real>, which = part % parts.unit_parts;
    first_unit_ = blocks * which / parts.unit_parts * kLanes<Real>;
    const int end = blocks * (which + 1) / parts.unit_parts * kLanes<Real>;
    last_unit_ = end < l.units ? end : l.units;
  }

  const Real* value(const Real* array, std::int64_t t, int m) const { return array + steps_.at(t, first_row_ + m) * width_; }
  Real* value(Real* array, std::int64_t t, int m) const { return array + steps_.at(t, first_row_ + m) * width_; }
  const Real* row(const Real* array, int m) const { return array + static_cast<std::int64_t>(first_row_ + m) * width_; }
  Real* row(Real* array, int m) const { return array + static_cast<std::int64_t>(first_row_ + m) * width_; }
  const Real* decay(const Real* a, std::int64_t t, int m) const { return layout_.is_fixed ? a : value(a, t, m); }

  int alive(std::int64_t t) const { return steps_.alive(t, first_row_, rows_); }

  L load(const Real* from, int unit) const { return L::load(from + unit, units_, lanes_left<Real>(last_unit_, unit)); }
  void store(Real* to, int unit, L x) const { x.store(to + unit, units_, lanes_left<Real>(last_unit_, unit)); }

  template <class Body> TIDEGATE_INLINE void for_units(const Body& body) const {
    for (int unit = first_unit_; unit < last_unit_; unit += kLanes<Real>) body(unit);
  }

  void copy(const Real* from, Real* to) const {
    for_units([&](int unit) { store(to, unit, load(from, unit)); });
  }

  const ScanLayout& layout_;
  const Steps steps_;
  const int units_, width_;
  int first_row_, rows_, first_unit_, last_unit_;
};

template <class Real, bool Complex> class ForwardPass : Pass<Real, Complex> {
  using Base = Pass<Real, Complex>;

 public:
  ForwardPass(const ScanForward<Real>& a, const std::int64_t* offsets, const Parts& parts, int part)
      : Base(a.layout, offsets, parts, part), a_(a) {}

  void run() const {
    for (int m = this->alive(0); m < this->rows_; ++m) this->copy(this->row(a_.h_0, m), this->row(a_.h_n, m));
    const std::int64_t longest = this->steps_.longest(this->first_row_);
    for (std::int64_t t = 0; t < longest; ++t) {
      const int alive = this->alive(t), goes_on = this->alive(t + 1);
      for (int m = 0; m < alive; ++m) {
        const Real* a = this->decay(a_.a, t, m);
        const Real* b = this->value(a_.b, t, m);
        const Real* before = t == 0 ? this->row(a_.h_0, m) : this->value(a_.h, t - 1, m);
        Real* h = this->value(a_.h, t, m);
        this->for_units([&](int unit) {
          this->store(h, unit, times_plus(this->load(a, unit), this->load(before, unit), this->load(b, unit)));
        });
        if (m >= goes_on) this->copy(h, this->row(a_.h_n, m));
      }
    }
  }

 private:
  const ScanForward<Real>& a_;
};

template <class Real, bool Complex> class BackwardPass : Pass<Real, Complex> {
  using Base = Pass<Real, Complex>;
  using L = typename Base::L;

 public:
  BackwardPass(const ScanBackward<Real>& a, const std::int64_t* offsets, const Parts& parts, int part)
      : Base(a.layout, offsets, parts, part), a_(a) {}

  void run() const {
    if (a_.layout.is_fixed)
      for (int m = 0; m < this->rows_; ++m)
        this->for_units([&](int unit) { this->store(this->row(a_.grad_a, m), unit, kNone); });
    for (int m = this->alive(0); m < this->rows_; ++m) this->copy(this->row(a_.grad_h_n, m), this->row(a_.grad_h_0, m));
    for (std::int64_t t = this->steps_.longest(this->first_row_) - 1; t >= 0; --t) {
      const int alive = this->alive(t), goes_on = this->alive(t + 1);
      for (int m = 0; m < alive; ++m) step(t, m, m < goes_on);
    }
  }

 private:
  TIDEGATE_INLINE void step(std::int64_t t, int m, bool goes_on) const {
    const Real* grad_h = this->value(a_.grad_h, t, m);
    const Real* before = t == 0 ? this->row(a_.h_0, m) : this->value(a_.h, t - 1, m);
    // Comes back from the step after, times its coefficient; a row's last step has the gradient of its last state.
    const Real* after = goes_on ? this->value(a_.grad_b, t + 1, m) : this->row(a_.grad_h_n, m);
    const Real* decay_after = goes_on ? this->decay(a_.a, t + 1, m) : nullptr;
    Real* grad_b = this->value(a_.grad_b, t, m);
    Real* grad_a = a_.layout.is_fixed ? this->row(a_.grad_a, m) : this->value(a_.grad_a, t, m);
    this->for_units([&](int unit) {
      const L from_after = this->load(after, unit), of_output = this->load(grad_h, unit);
      const L g = goes_on ? times_plus(conjugate(this->load(decay_after, unit)), from_after, of_output)
                          : L{of_output.re + from_after.re, of_output.im + from_after.im};
      this->store(grad_b, unit, g);
      const L sum = a_.layout.is_fixed ? this->load(grad_a, unit) : kNone;
      this->store(grad_a, unit, times_plus(g, conjugate(this->load(before, unit)), sum));
    });
    if (t > 0) return;
    const Real* decay = this->decay(a_.a, 0, m);
    Real* grad_h_0 = this->row(a_.grad_h_0, m);
    this->for_units([&](int unit) {
      this->store(grad_h_0, unit, times_plus(conjugate(this->load(decay, unit)), this->load(grad_b, unit), kNone));
    });
  }

  static constexpr L kNone{Vec<Real>{}, Vec<Real>{}};

  const ScanBackward<Real>& a_;
};

struct Offsets {
  std::int64_t* of_steps;

  Offsets(Arena& arena, const ScanLayout& l) : of_steps(arena.take<std::int64_t>(static_cast<std::size_t>(l.steps) + 1)) {}
};

template <template <class, bool> class Pass, class Real, class Call> void run(const Call& a, double passes) {
  const ScanLayout& l = a.layout;
  const auto offsets = make_space<Offsets>(l);
  find_steps(l.batch_sizes, l.steps, offsets.of_steps);
  const double operations = 40.0 * passes * static_cast<double>(l.values) * l.units * (l.is_complex ? 2 : 1);
  const Parts parts(l, kLanes<Real>, team_size(l.threads, l.threads, operations));
  for_parts(team_size(l.threads, parts.count(), operations), parts.count(), [&](int part, int) {
    if (l.is_complex) Pass<Real, true>(a, offsets.of_steps, parts, part).run();
    else Pass<Real, false>(a, offsets.of_steps, parts, part).run();
  });
}

template <class Real> void scan_forward(const ScanForward<Real>& a) { run<ForwardPass, Real>(a, 1); }
template <class Real> void scan_backward(const ScanBackward<Real>& a) { run<BackwardPass, Real>(a, 2); }

}  // namespace

extern const ScanKernels scan_kernels;
const ScanKernels scan_kernels{scan_forward<float>, scan_forward<double>, scan_backward<float>, scan_backward<double>};

}  // namespace tidegate::TIDEGATE_ISA
