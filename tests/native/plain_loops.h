// What check.cpp compares the kernels with: a case with its random arrays, and its recurrence as plain loops over numbers
// that know their gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"

namespace tidegate::check {

inline int failures = 0, comparisons = 0;

inline void expect(bool holds, const std::string& what) {
  ++comparisons;
  if (holds) return;
  ++failures;
  std::printf("FAILED %s\n", what.c_str());
}

// A number that remembers how it was computed, for gradients of the loops below.
struct Node {
  int parents[2];
  double factors[2];
};
inline std::vector<Node> tape;

struct Number {
  double value = 0;
  int place = -1;

  Number() = default;
  Number(double v) : value(v) {}  // a constant
  Number(double v, Number a, double of_a, Number b = 0.0, double of_b = 0) : value(v), place(static_cast<int>(tape.size())) {
    tape.push_back({{a.place, b.place}, {of_a, of_b}});
  }
};
inline Number operator+(Number a, Number b) { return {a.value + b.value, a, 1, b, 1}; }
inline Number operator-(Number a, Number b) { return {a.value - b.value, a, 1, b, -1}; }
inline Number operator*(Number a, Number b) { return {a.value * b.value, a, b.value, b, a.value}; }
inline Number operator/(Number a, Number b) { return {a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value)}; }
inline Number root(Number a) { return {std::sqrt(a.value), a, 0.5 / std::sqrt(a.value)}; }
inline Number hyperbolic(Number a) {
  const double t = std::tanh(a.value);
  return {t, a, 1 - t * t};
}
inline Number logistic(Number a) {
  const double s = 1 / (1 + std::exp(-a.value));
  return {s, a, s * (1 - s)};
}
// How near a ReLU has come to its kink, where rounding decides about a gradient.
inline double nearest_kink = 0;

inline Number rectified(Number a) {
  nearest_kink = std::min(nearest_kink, std::fabs(a.value));
  return {a.value > 0 ? a.value : 0, a, a.value > 0 ? 1.0 : 0.0};
}

using Numbers = std::vector<Number>;
using Doubles = std::vector<double>;

struct Option {
  const char* name;
  bool projection, peephole, norm, dropout, masks;
  double rate;
  bool bias;
};

inline const Option kOptions[] = {
    {"plain", false, false, false, false, false, 0, true},     {"no bias", false, false, false, false, false, 0, false},
    {"layer norm", false, false, true, false, false, 0, true}, {"dropout", false, false, false, true, false, 0, true},
    {"zoneout", false, false, false, false, true, 0, true},    {"expected zoneout", false, false, false, false, false, 0.25, true},
    {"projection", true, false, false, false, false, 0, true}, {"peephole", false, true, false, false, false, 0, true},
    {"everything", true, true, true, true, true, 0, true},
};

inline const char* name_of(Cell cell) {
  const char* names[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};
  return names[static_cast<int>(cell)];
}
inline const char* name_of(Type type) {
  const char* names[] = {"float32", "float64", "bfloat16", "int8"};
  return names[static_cast<int>(type)];
}
inline bool is_rnn(Cell cell) { return cell == Cell::rnn_tanh || cell == Cell::rnn_relu; }
inline int gates_of(Cell cell) { return cell == Cell::lstm ? 4 : is_rnn(cell) ? 1 : 3; }

inline std::uint16_t to_bfloat16(double value) {
  const float narrow = static_cast<float>(value);
  std::uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
inline double from_bfloat16(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// An array of one of the kernels' types, with a few elements beyond its end that must stay as they are.
class Array {
 public:
  enum class Element { float32, float64, bfloat16, bytes };

  Array(Element element, std::size_t count) : element_(element), count_(count), memory_((count + kBeyond) * size(), 0x7f) {
    std::memset(memory_.data(), 0, count * size());
  }
  Array(Element element, const Doubles& values) : Array(element, values.size()) {
    for (std::size_t i = 0; i < count_; ++i) {
      char* at = memory_.data() + i * size();
      if (element_ == Element::float64) {
        std::memcpy(at, &values[i], 8);
      } else if (element_ == Element::float32) {
        const float narrow = static_cast<float>(values[i]);
        std::memcpy(at, &narrow, 4);
      } else if (element_ == Element::bfloat16) {
        const std::uint16_t half = to_bfloat16(values[i]);
        std::memcpy(at, &half, 2);
      } else {
        *at = static_cast<char>(static_cast<int>(values[i]));
      }
    }
  }

  template <class T = void> T* data() { return count_ == 0 ? nullptr : reinterpret_cast<T*>(memory_.data()); }
  bool same_as(const Array& other) const { return memory_ == other.memory_; }

  Doubles values() const {
    Doubles found(count_);
    for (std::size_t i = 0; i < count_; ++i) {
      const char* at = memory_.data() + i * size();
      if (element_ == Element::float64) {
        std::memcpy(&found[i], at, 8);
      } else if (element_ == Element::float32) {
        float narrow;
        std::memcpy(&narrow, at, 4);
        found[i] = narrow;
      } else if (element_ == Element::bfloat16) {
        std::uint16_t half;
        std::memcpy(&half, at, 2);
        found[i] = from_bfloat16(half);
      } else {
        found[i] = static_cast<signed char>(*at);
      }
    }
    for (std::size_t i = count_ * size(); i < memory_.size(); ++i)
      if (memory_[i] != 0x7f) expect(false, "an array written beyond its end");
    return found;
  }

 private:
  static constexpr std::size_t kBeyond = 8;
  std::size_t size() const {
    return element_ == Element::float64 ? 8 : element_ == Element::float32 ? 4 : element_ == Element::bfloat16 ? 2 : 1;
  }
  Element element_;
  std::size_t count_;
  std::vector<char> memory_;
};

struct Case {
  Cell cell;
  Type type;
  Option option;
  int D, H, P, G, B;
  std::vector<std::int64_t> batch_sizes;
  std::int64_t N = 0;
  Doubles gates, weight_hh, weight_hr, bias_ih, bias_hh, peephole, norm_ih, norm_hh, norm_c, h_0, c_0, dropout, zone_h, zone_c;
  Doubles scale_hh, scale_hr, quantised_hh, quantised_hr;
  Doubles of_output, of_h_n, of_c_n;
  double eps = 1e-3;

  Case(Cell which, Type stored, const Option& with, int units, int directions)
      : cell(which), type(stored), option(with), D(directions), H(units), G(gates_of(which)), B(5), batch_sizes{4, 3, 3, 1, 1} {
    std::mt19937 engine(7);
    const bool lstm = cell == Cell::lstm;
    P = option.projection ? (H + 1) / 2 : H;
    for (const std::int64_t size : batch_sizes) N += size;
    // As the kernels will see it.
    const bool low = type == Type::bfloat16;
    const auto draw = [&](std::size_t count, double scale, double offset, bool stored_low) {
      std::normal_distribution<double> normal(offset, scale);
      Doubles values(count);
      for (double& value : values) {
        value = normal(engine);
        if (stored_low && low) value = from_bfloat16(to_bfloat16(value));
        if (type != Type::float64) value = static_cast<float>(value);
      }
      return values;
    };
    const auto chances = [&](std::size_t count) {
      std::bernoulli_distribution coin(0.3);
      Doubles values(count);
      for (double& value : values) value = coin(engine);
      return values;
    };
    const double scale = 1 / std::sqrt(H);
    gates = draw(N * D * G * H, 1, 0, true);
    weight_hh = draw(D * G * H * P, scale, 0, true);
    if (P != H) weight_hr = draw(D * P * H, scale, 0, true);
    if (option.bias) bias_ih = draw(D * G * H, 1, 0, false), bias_hh = draw(D * G * H, 1, 0, false);
    if (option.peephole) peephole = draw(D * 3 * H, 0.5, 0, false);
    if (option.norm) norm_ih = draw(D * G * H, 0.3, 0.8, false), norm_hh = draw(D * G * H, 0.3, 0.5, false);
    if (option.norm && lstm) norm_c = draw(D * 2 * H, 0.3, 0.5, false);
    h_0 = draw(D * B * P, 1, 0, false);
    if (lstm) c_0 = draw(D * B * H, 1, 0, false);
    if (option.dropout) {
      dropout = chances(D * B * P);
      for (double& kept : dropout) kept = kept != 0 ? 0 : 1.25;
    }
    if (option.masks) zone_h = chances(N * D * P);
    if (option.masks && lstm) zone_c = chances(N * D * H);
    of_output = draw(N * D * P, 1, 0, true);
    of_h_n = draw(D * B * P, 1, 0, false);
    if (lstm) of_c_n = draw(D * B * H, 1, 0, false);
    if (type == Type::int8) {
      quantise(weight_hh, P, quantised_hh, scale_hh);
      quantise(weight_hr, H, quantised_hr, scale_hr);
    }
  }

  // Weights become whole numbers times a scale a row.
  static void quantise(Doubles& weights, int width, Doubles& whole, Doubles& scales) {
    for (std::size_t first = 0; first < weights.size(); first += width) {
      double largest = 0;
      for (int k = 0; k < width; ++k) largest = std::max(largest, std::fabs(weights[first + k]));
      scales.push_back(static_cast<float>(largest / 127));
      for (int k = 0; k < width; ++k) {
        whole.push_back(std::nearbyint(weights[first + k] / scales.back()));
        weights[first + k] = whole.back() * scales.back();
      }
    }
  }

  std::string name(const char* isa, int threads) const {
    return std::string(name_of(cell)) + ", " + option.name + ", " + name_of(type) + ", " + std::to_string(H) + " units, " +
           std::to_string(D) + " directions, " + isa + ", " + std::to_string(threads) + " threads";
  }
};

// What a case reads, as numbers of the tape, and the gradient of each.
struct Leaves {
  Numbers gates, weight_hh, weight_hr, bias_ih, bias_hh, peephole, norm_ih, norm_hh, norm_c, h_0, c_0;

  explicit Leaves(const Case& a)
      : gates(of(a.gates)), weight_hh(of(a.weight_hh)), weight_hr(of(a.weight_hr)), bias_ih(of(a.bias_ih)),
        bias_hh(of(a.bias_hh)), peephole(of(a.peephole)), norm_ih(of(a.norm_ih)), norm_hh(of(a.norm_hh)), norm_c(of(a.norm_c)), h_0(of(a.h_0)), c_0(of(a.c_0)) {}

  static Numbers of(const Doubles& values) {
    Numbers leaves;
    for (const double value : values) leaves.push_back(Number(value, 0.0, 0));
    return leaves;
  }
};

struct States {
  Numbers output, h_n, c_n;
};

inline Numbers normalised(const Numbers& values, double eps) {
  Number sum = 0.0, squares = 0.0;
  for (const Number& value : values) sum = sum + value;
  const Number mean = sum / static_cast<double>(values.size());
  for (const Number& value : values) squares = squares + (value - mean) * (value - mean);
  const Number deviation = root(squares / static_cast<double>(values.size()) + eps);
  Numbers made;
  for (const Number& value : values) made.push_back((value - mean) / deviation);
  return made;
}

// The equations of kernels/__init__.py, a row and a unit at a time.
inline States reference(const Case& a, const Leaves& in) {
  const int D = a.D, H = a.H, P = a.P, G = a.G;
  std::vector<std::int64_t> offsets{0};
  for (const std::int64_t size : a.batch_sizes) offsets.push_back(offsets.back() + size);
  const auto T = static_cast<std::int64_t>(a.batch_sizes.size());
  nearest_kink = std::numeric_limits<double>::infinity();
  States made{Numbers(a.N * D * P), in.h_0, in.c_0};
  for (int d = 0; d < D; ++d)
    for (int row = 0; row < a.B; ++row)
      for (std::int64_t turn = 0; turn < T; ++turn) {
        const std::int64_t t = d == 0 ? turn : T - 1 - turn;
        if (row >= a.batch_sizes[t]) continue;
        const std::int64_t value = (offsets[t] + row) * D + d;
        Number* h = &made.h_n[(static_cast<std::size_t>(d) * a.B + row) * P];
        Number* c = a.cell == Cell::lstm ? &made.c_n[(static_cast<std::size_t>(d) * a.B + row) * H] : nullptr;
        const auto bias = [&](const Numbers& biases, int gate, int unit) {
          return biases.empty() ? Number(0.0) : biases[(static_cast<std::size_t>(d) * G + gate) * H + unit];
        };
        const auto first_gate = in.gates.begin() + value * G * H;
        Numbers projected(first_gate, first_gate + G * H);
        if (a.option.norm) {
          projected = normalised(projected, a.eps);
          for (int j = 0; j < G * H; ++j) projected[j] = projected[j] * in.norm_ih[static_cast<std::size_t>(d) * G * H + j];
        }
        // Both biases come in here but the one that the reset gate multiplies.
        const auto x = [&](int gate, int unit) {
          const Number sum = projected[gate * H + unit] + bias(in.bias_ih, gate, unit);
          return a.cell == Cell::gru && gate == 2 ? sum : sum + bias(in.bias_hh, gate, unit);
        };
        Numbers entering(h, h + P);
        if (a.option.dropout)
          for (int k = 0; k < P; ++k) entering[k] = entering[k] * a.dropout[(static_cast<std::size_t>(d) * a.B + row) * P + k];
        // Gates `first` to `last` of W_hh `from`, normalised together.
        const auto product = [&](const Numbers& from, int first, int last) {
          Numbers found;
          for (int j = first * H; j < last * H; ++j) {
            Number sum = 0.0;
            for (int k = 0; k < P; ++k) sum = sum + in.weight_hh[(static_cast<std::size_t>(d) * G * H + j) * P + k] * from[k];
            found.push_back(sum);
          }
          if (!a.option.norm) return found;
          found = normalised(found, a.eps);
          for (int j = first * H; j < last * H; ++j)
            found[j - first * H] = found[j - first * H] * in.norm_hh[static_cast<std::size_t>(d) * G * H + j];
          return found;
        };
        Numbers next(P);
        if (is_rnn(a.cell)) {
          const Numbers y = product(entering, 0, 1);
          for (int u = 0; u < H; ++u) next[u] = a.cell == Cell::rnn_tanh ? hyperbolic(x(0, u) + y[u]) : rectified(x(0, u) + y[u]);
        } else if (a.cell == Cell::lstm) {
          const Numbers y = product(entering, 0, 4);
          const auto peep = [&](int which, int u, Number from) {
            return a.option.peephole ? in.peephole[(static_cast<std::size_t>(d) * 3 + which) * H + u] * from : Number(0.0);
          };
          Numbers opened(H), memory(H), exposed(H);
          for (int u = 0; u < H; ++u) {
            const Number i = logistic(x(0, u) + y[u] + peep(0, u, c[u]));
            const Number f = logistic(x(1, u) + y[H + u] + peep(1, u, c[u]));
            const Number g = hyperbolic(x(2, u) + y[2 * H + u]);
            memory[u] = f * c[u] + i * g;
            opened[u] = logistic(x(3, u) + y[3 * H + u] + peep(2, u, memory[u]));
          }
          Numbers inner = memory;
          if (a.option.norm) {
            inner = normalised(memory, a.eps);
            for (int u = 0; u < H; ++u)
              inner[u] = inner[u] * in.norm_c[static_cast<std::size_t>(d) * 2 * H + u] +
                         in.norm_c[static_cast<std::size_t>(d) * 2 * H + H + u];
          }
          for (int u = 0; u < H; ++u) exposed[u] = opened[u] * hyperbolic(inner[u]);
          if (P == H) next = exposed;
          for (int j = 0; j < P && P != H; ++j) {
            Number sum = 0.0;
            for (int u = 0; u < H; ++u) sum = sum + in.weight_hr[(static_cast<std::size_t>(d) * P + j) * H + u] * exposed[u];
            next[j] = sum;
          }
          for (int u = 0; u < H; ++u) {
            const double kept = a.option.masks ? a.zone_c[value * H + u] : a.option.rate;
            c[u] = Number(kept) * c[u] + Number(1 - kept) * memory[u];
          }
        } else {
          const bool before = a.cell == Cell::gru_reset_before;
          const Numbers y = product(entering, 0, before ? 2 : 3);
          Numbers reset(H), update(H), of_reset(H), candidate;
          for (int u = 0; u < H; ++u) {
            reset[u] = logistic(x(0, u) + y[u]);
            update[u] = logistic(x(1, u) + y[H + u]);
            of_reset[u] = reset[u] * entering[u];
          }
          if (before) candidate = product(of_reset, 2, 3);
          for (int u = 0; u < H; ++u) {
            const Number of_n = before ? candidate[u] : y[2 * H + u] + bias(in.bias_hh, 2, u);
            const Number n = hyperbolic(x(2, u) + (before ? of_n : reset[u] * of_n));
            next[u] = (Number(1.0) - update[u]) * n + update[u] * h[u];
          }
        }
        for (int u = 0; u < P; ++u) {
          const double kept = a.option.masks ? a.zone_h[value * P + u] : a.option.rate;
          h[u] = Number(kept) * h[u] + Number(1 - kept) * next[u];
          made.output[value * P + u] = h[u];
        }
      }
  return made;
}

inline Doubles values_of(const Numbers& numbers) {
  Doubles values;
  for (const Number& number : numbers) values.push_back(number.value);
  return values;
}

}  // namespace tidegate::check
