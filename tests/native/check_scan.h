// Linear recurrences and minimal cells by the kernels against plain loops over numbers that know their gradients.
#pragma once

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "plain_loops.h"

namespace tidegate::check {

// The gradients of the leaves on the tape, given those of the results.
inline Doubles slopes_of(const std::vector<std::pair<const Numbers*, Doubles>>& results) {
  Doubles slopes(tape.size());
  for (const auto& [numbers, weights] : results)
    for (std::size_t i = 0; i < numbers->size(); ++i)
      if ((*numbers)[i].place >= 0) slopes[(*numbers)[i].place] += weights[i];
  for (std::size_t i = tape.size(); i-- > 0;)
    for (int p = 0; p < 2; ++p)
      if (tape[i].parents[p] >= 0) slopes[tape[i].parents[p]] += tape[i].factors[p] * slopes[i];
  return slopes;
}

template <class Real, class Expected>
void hold_all(const std::string& what, const std::vector<Real>& found, const Expected& expected) {
  double difference = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double off = std::fabs(static_cast<double>(found[i]) - expected(i)) / (1 + std::fabs(expected(i)));
    if (!(off <= difference)) difference = off;
  }
  expect(difference <= (sizeof(Real) == 4 ? 2e-5 : 1e-12), what + " differs by " + std::to_string(difference));
}

template <class Real> void check_scan(const Kernels& kernels, bool is_complex, bool is_fixed, int units, int threads) {
  const std::vector<std::int64_t> batch_sizes{11, 10, 10, 3, 1, 1};
  const int rows = 12, width = units * (is_complex ? 2 : 1);  // one row is empty
  std::int64_t values = 0;
  std::vector<std::int64_t> first;
  for (const std::int64_t size : batch_sizes) first.push_back(values), values += size;
  std::mt19937 engine(5);
  std::normal_distribution<double> normal;
  tape.clear();
  const auto draw = [&](std::int64_t count, double scale, Numbers& leaves) {
    std::vector<Real> drawn;
    for (std::int64_t i = 0; i < count; ++i) {
      drawn.push_back(static_cast<Real>(normal(engine) * scale));
      leaves.push_back(Number(drawn.back(), Number(), 0));
    }
    return drawn;
  };
  Numbers a, b, h_0;
  const auto real_a = draw((is_fixed ? 1 : values) * width, 0.6, a), real_b = draw(values * width, 1, b);
  const auto real_h_0 = draw(static_cast<std::int64_t>(rows) * width, 1, h_0);

  Numbers h(values * width), h_n = h_0;
  for (std::size_t t = 0; t < batch_sizes.size(); ++t)
    for (std::int64_t m = 0; m < batch_sizes[t]; ++m)
      for (int u = 0; u < units; ++u) {
        const std::int64_t at = (first[t] + m) * width + u, of_a = is_fixed ? u : at, row = m * width + u;
        if (is_complex) {
          const Number re = h_n[row], im = h_n[row + units];
          h[at] = a[of_a] * re - a[of_a + units] * im + b[at];
          h[at + units] = a[of_a] * im + a[of_a + units] * re + b[at + units];
          h_n[row + units] = h[at + units];
        } else {
          h[at] = a[of_a] * h_n[row] + b[at];
        }
        h_n[row] = h[at];
      }
  Numbers none;
  const auto of_h = draw(values * width, 1, none), of_h_n = draw(static_cast<std::int64_t>(rows) * width, 1, none);
  const Doubles slopes = slopes_of({{&h, {of_h.begin(), of_h.end()}}, {&h_n, {of_h_n.begin(), of_h_n.end()}}});

  const std::string where = std::string("scan, ") + kernels.name + (sizeof(Real) == 4 ? ", float32, " : ", float64, ") +
                            (is_complex ? "complex, " : "real, ") + (is_fixed ? "fixed, " : "") + std::to_string(units) +
                            " units, " + std::to_string(threads) + " threads: ";
  const ScanLayout layout{batch_sizes.data(), static_cast<std::int64_t>(batch_sizes.size()), values, rows, units,
                          is_complex, is_fixed, threads};
  std::vector<Real> made(h.size(), NAN), last(h_n.size(), NAN);
  const ScanForward<Real> forward{layout, real_a.data(), real_b.data(), real_h_0.data(), made.data(), last.data()};
  std::vector<Real> grad_a(is_fixed ? h_0.size() : b.size(), NAN), grad_b(b.size(), NAN), grad_h_0(h_0.size(), NAN);
  const ScanBackward<Real> backward{layout, of_h.data(), of_h_n.data(), real_a.data(), made.data(), real_h_0.data(),
                                    grad_a.data(), grad_b.data(), grad_h_0.data()};
  if constexpr (sizeof(Real) == 4) {
    kernels.scan->forward_float(forward);
    kernels.scan->backward_float(backward);
  } else {
    kernels.scan->forward_double(forward);
    kernels.scan->backward_double(backward);
  }
  hold_all(where + "h", made, [&](std::size_t i) { return h[i].value; });
  hold_all(where + "h_n", last, [&](std::size_t i) { return h_n[i].value; });
  hold_all(where + "the gradient of b", grad_b, [&](std::size_t i) { return slopes[b[i].place]; });
  hold_all(where + "the gradient of h_0", grad_h_0, [&](std::size_t i) { return slopes[h_0[i].place]; });
  if (is_fixed) {
    std::vector<Real> sums(width);
    for (std::size_t i = 0; i < grad_a.size(); ++i) sums[i % width] += grad_a[i];
    grad_a = sums;
  }
  hold_all(where + "the gradient of a", grad_a, [&](std::size_t i) { return slopes[a[i].place]; });
}

template <class Real>
void check_minimal(const Kernels& kernels, bool is_lstm, bool is_positive, int units, int threads) {
  const std::vector<std::int64_t> batch_sizes{11, 10, 10, 3, 1, 1};
  const int rows = 12, gates = is_lstm ? 3 : 2;  // one row is empty
  std::int64_t values = 0;
  std::mt19937 engine(6);
  std::normal_distribution<double> normal;
  tape.clear();
  const auto draw = [&](std::int64_t count, Numbers& leaves) {
    std::vector<Real> drawn;
    for (std::int64_t i = 0; i < count; ++i) {
      drawn.push_back(static_cast<Real>(normal(engine) * 2));
      leaves.push_back(Number(drawn.back(), Number(), 0));
    }
    return drawn;
  };
  for (const std::int64_t size : batch_sizes) values += size;
  Numbers projected, h_0;
  const auto real_projected = draw(values * gates * units, projected);
  const auto real_h_0 = draw(static_cast<std::int64_t>(rows) * units, h_0);
  Numbers h(values * units), h_n = h_0;
  std::int64_t value = 0;
  for (const std::int64_t size : batch_sizes)
    for (std::int64_t m = 0; m < size; ++m, ++value)
      for (int u = 0; u < units; ++u) {
        const Number* at = &projected[value * gates * units + u];
        const Number first = logistic(at[0]), last = at[(gates - 1) * units];
        const Number enters = is_lstm ? logistic(at[units]) / (first + logistic(at[units])) : first;
        const Number candidate = !is_positive ? last : last.value >= 0 ? last + 0.5 : logistic(last);
        h_n[m * units + u] = (Number(1) - enters) * h_n[m * units + u] + enters * candidate;
        h[value * units + u] = h_n[m * units + u];
      }
  Numbers none;
  const auto of_h = draw(values * units, none), of_h_n = draw(static_cast<std::int64_t>(rows) * units, none);
  const Doubles slopes = slopes_of({{&h, {of_h.begin(), of_h.end()}}, {&h_n, {of_h_n.begin(), of_h_n.end()}}});

  std::vector<Real> made(h.size(), NAN), last(h_n.size(), NAN), grad(projected.size(), NAN), grad_h_0(h_0.size(), NAN);
  const ScanLayout layout{batch_sizes.data(), static_cast<std::int64_t>(batch_sizes.size()), values, rows, units, false,
                          false, threads};
  const MinimalForward<Real> forward{layout, is_lstm, is_positive, real_projected.data(), real_h_0.data(), made.data(),
                                     last.data()};
  const MinimalBackward<Real> backward{layout, is_lstm, is_positive, of_h.data(), of_h_n.data(), real_projected.data(),
                                       made.data(), real_h_0.data(), grad.data(), grad_h_0.data()};
  if constexpr (sizeof(Real) == 4) {
    kernels.scan->minimal_forward_float(forward);
    kernels.scan->minimal_backward_float(backward);
  } else {
    kernels.scan->minimal_forward_double(forward);
    kernels.scan->minimal_backward_double(backward);
  }
  const std::string where = std::string(is_lstm ? "minimal LSTM, " : "minimal GRU, ") + kernels.name +
                            (sizeof(Real) == 4 ? ", float32, " : ", float64, ") + (is_positive ? "positive, " : "") +
                            std::to_string(units) + " units, " + std::to_string(threads) + " threads: ";
  hold_all(where + "h", made, [&](std::size_t i) { return h[i].value; });
  hold_all(where + "h_n", last, [&](std::size_t i) { return h_n[i].value; });
  hold_all(where + "the gradient of the inputs", grad, [&](std::size_t i) { return slopes[projected[i].place]; });
  hold_all(where + "the gradient of h_0", grad_h_0, [&](std::size_t i) { return slopes[h_0[i].place]; });
}

inline void check_scans(const Kernels& kernels) {
  for (const bool is_lstm : {false, true})
    for (const bool is_positive : {false, true})
      for (const int units : {1, 5, 16, 37})
        for (const int threads : {1, 3}) {
          check_minimal<float>(kernels, is_lstm, is_positive, units, threads);
          check_minimal<double>(kernels, is_lstm, is_positive, units, threads);
        }

  for (const bool is_complex : {false, true})
    for (const bool is_fixed : {false, true})
      for (const int units : {1, 5, 16, 37})
        for (const int threads : {1, 3}) {
          check_scan<float>(kernels, is_complex, is_fixed, units, threads);
          check_scan<double>(kernels, is_complex, is_fixed, units, threads);
        }
}

}  // namespace tidegate::check
