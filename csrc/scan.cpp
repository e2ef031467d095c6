// Linear recurrences over ragged rows, h_t = a_t h_{t-1} + b_t, real or complex, and their gradients. Equations:
// kernels/scan.py.

#include "scan_pass.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

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

template <class Real, bool Complex> class LinearPass : protected scan::Pass<Real> {
 protected:
  using L = Lanes<Real, Complex>;
  static constexpr L kNone{Vec<Real>{}, Vec<Real>{}};

  LinearPass(const ScanLayout& l, const std::int64_t* offsets, const scan::Parts& parts, int part)
      : scan::Pass<Real>(l, offsets, parts, part), width_(l.units * (Complex ? 2 : 1)) {}

  template <class R> R* value(R* array, std::int64_t t, int m) const {
    return scan::Pass<Real>::value(array, t, m, width_);
  }
  template <class R> R* row(R* array, int m) const { return scan::Pass<Real>::row(array, m, width_); }
  const Real* decay(const Real* a, std::int64_t t, int m) const { return this->layout_.is_fixed ? a : value(a, t, m); }

  L load(const Real* from, int unit, int lanes) const { return L::load(from + unit, this->units_, lanes); }
  void store(Real* to, int unit, int lanes, L x) const { x.store(to + unit, this->units_, lanes); }

  void copy(const Real* from, Real* to) const {
    this->for_units([&](int unit, int lanes) { store(to, unit, lanes, load(from, unit, lanes)); });
  }

  const int width_;
};

template <class Real, bool Complex> class ForwardPass : LinearPass<Real, Complex> {
 public:
  ForwardPass(const ScanForward<Real>& a, const std::int64_t* offsets, const scan::Parts& parts, int part)
      : LinearPass<Real, Complex>(a.layout, offsets, parts, part), a_(a) {}

  void run() const {
    for (int m = this->alive(0); m < this->rows_; ++m) this->copy(this->row(a_.h_0, m), this->row(a_.h_n, m));
    const std::int64_t longest = this->longest();
    for (std::int64_t t = 0; t < longest; ++t) {
      const int alive = this->alive(t), goes_on = this->alive(t + 1);
      for (int m = 0; m < alive; ++m) {
        const Real* a = this->decay(a_.a, t, m);
        const Real* b = this->value(a_.b, t, m);
        const Real* before = t == 0 ? this->row(a_.h_0, m) : this->template value<const Real>(a_.h, t - 1, m);
        Real* h = this->value(a_.h, t, m);
        this->for_units([&](int unit, int lanes) {
          this->store(h, unit, lanes, times_plus(this->load(a, unit, lanes), this->load(before, unit, lanes),
                                                 this->load(b, unit, lanes)));
        });
        if (m >= goes_on) this->copy(h, this->row(a_.h_n, m));
      }
    }
  }

 private:
  const ScanForward<Real>& a_;
};

template <class Real, bool Complex> class BackwardPass : LinearPass<Real, Complex> {
  using L = typename LinearPass<Real, Complex>::L;

 public:
  BackwardPass(const ScanBackward<Real>& a, const std::int64_t* offsets, const scan::Parts& parts, int part)
      : LinearPass<Real, Complex>(a.layout, offsets, parts, part), a_(a) {}

  void run() const {
    if (a_.layout.is_fixed)
      for (int m = 0; m < this->rows_; ++m)
        this->for_units(
            [&](int unit, int lanes) { this->store(this->row(a_.grad_a, m), unit, lanes, this->kNone); });
    for (int m = this->alive(0); m < this->rows_; ++m) this->copy(this->row(a_.grad_h_n, m), this->row(a_.grad_h_0, m));
    for (std::int64_t t = this->longest() - 1; t >= 0; --t) {
      const int alive = this->alive(t), goes_on = this->alive(t + 1);
      for (int m = 0; m < alive; ++m) step(t, m, m < goes_on);
    }
  }

 private:
  TIDEGATE_INLINE void step(std::int64_t t, int m, bool goes_on) const {
    const Real* grad_h = this->value(a_.grad_h, t, m);
    const Real* before = t == 0 ? this->row(a_.h_0, m) : this->value(a_.h, t - 1, m);
    // Comes back from the step after, times its coefficient; a row's last step has the gradient of its last state.
    const Real* after = goes_on ? this->template value<const Real>(a_.grad_b, t + 1, m) : this->row(a_.grad_h_n, m);
    const Real* decay_after = goes_on ? this->decay(a_.a, t + 1, m) : nullptr;
    Real* grad_b = this->value(a_.grad_b, t, m);
    Real* grad_a = a_.layout.is_fixed ? this->row(a_.grad_a, m) : this->value(a_.grad_a, t, m);
    this->for_units([&](int unit, int lanes) {
      const L from_after = this->load(after, unit, lanes), of_output = this->load(grad_h, unit, lanes);
      const L g = goes_on ? times_plus(conjugate(this->load(decay_after, unit, lanes)), from_after, of_output)
                          : L{of_output.re + from_after.re, of_output.im + from_after.im};
      this->store(grad_b, unit, lanes, g);
      const L sum = a_.layout.is_fixed ? this->load(grad_a, unit, lanes) : this->kNone;
      this->store(grad_a, unit, lanes, times_plus(g, conjugate(this->load(before, unit, lanes)), sum));
    });
    if (t > 0) return;
    const Real* decay = this->decay(a_.a, 0, m);
    Real* grad_h_0 = this->row(a_.grad_h_0, m);
    this->for_units([&](int unit, int lanes) {
      const L g = this->load(grad_b, unit, lanes);
      this->store(grad_h_0, unit, lanes, times_plus(conjugate(this->load(decay, unit, lanes)), g, this->kNone));
    });
  }

  const ScanBackward<Real>& a_;
};

template <template <class, bool> class Pass, class Real, class Call> void run(const Call& a, double passes) {
  const bool is_complex = a.layout.is_complex;
  scan::for_all_parts<Real>(a.layout, 40 * passes * (is_complex ? 2 : 1),
                            [&](const std::int64_t* offsets, const scan::Parts& parts, int part) {
                              if (is_complex) Pass<Real, true>(a, offsets, parts, part).run();
                              else Pass<Real, false>(a, offsets, parts, part).run();
                            });
}

template <class Real> void scan_forward(const ScanForward<Real>& a) { run<ForwardPass, Real>(a, 1); }
template <class Real> void scan_backward(const ScanBackward<Real>& a) { run<BackwardPass, Real>(a, 2); }

}  // namespace

template <class Real> void minimal_forward(const MinimalForward<Real>&);  // minimal.cpp
template <class Real> void minimal_backward(const MinimalBackward<Real>&);

extern const ScanKernels scan_kernels;
const ScanKernels scan_kernels{scan_forward<float>,     scan_forward<double>,     scan_backward<float>,
                               scan_backward<double>,   minimal_forward<float>,   minimal_forward<double>,
                               minimal_backward<float>, minimal_backward<double>};

}  // namespace tidegate::TIDEGATE_ISA
