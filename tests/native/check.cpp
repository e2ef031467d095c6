// The kernels against plain loops, without Python: what runs under an emulator of another processor, too. Every cell,
// its options, types, instruction sets and threads; the gradients come from a tape under the same loops. Exits with 1
// where anything differs.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"
#include "pool.h"

using namespace tidegate;

namespace {

int failures = 0, comparisons = 0;

void expect(bool holds, const std::string& what) {
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
std::vector<Node> tape;

struct Number {
  double value = 0;
  int place = -1;

  Number() = default;
  Number(double v) : value(v) {}  // a constant
  Number(double v, Number a, double of_a, Number b = 0.0, double of_b = 0) : value(v), place(static_cast<int>(tape.size())) {
    tape.push_back({{a.place, b.place}, {of_a, of_b}});
  }
};
Number operator+(Number a, Number b) { return {a.value + b.value, a, 1, b, 1}; }
Number operator-(Number a, Number b) { return {a.value - b.value, a, 1, b, -1}; }
Number operator*(Number a, Number b) { return {a.value * b.value, a, b.value, b, a.value}; }
Number operator/(Number a, Number b) { return {a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value)}; }
Number root(Number a) { return {std::sqrt(a.value), a, 0.5 / std::sqrt(a.value)}; }
Number hyperbolic(Number a) {
  const double t = std::tanh(a.value);
  return {t, a, 1 - t * t};
}
Number logistic(Number a) {
  const double s = 1 / (1 + std::exp(-a.value));
  return {s, a, s * (1 - s)};
}
Number rectified(Number a) { return {a.value > 0 ? a.value : 0, a, a.value > 0 ? 1.0 : 0.0}; }

using Numbers = std::vector<Number>;
using Doubles = std::vector<double>;

struct Option {
  const char* name;
  bool projection, peephole, norm, dropout, masks;
  double rate;
  bool bias_n;
};

const Option kOptions[] = {
    {"plain", false, false, false, false, false, 0, true},     {"no bias", false, false, false, false, false, 0, false},
    {"layer norm", false, false, true, false, false, 0, true}, {"dropout", false, false, false, true, false, 0, true},
    {"zoneout", false, false, false, false, true, 0, true},    {"expected zoneout", false, false, false, false, false, 0.25, true},
    {"projection", true, false, false, false, false, 0, true}, {"peephole", false, true, false, false, false, 0, true},
    {"everything", true, true, true, true, true, 0, true},
};

const char* name_of(Cell cell) {
  const char* names[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};
  return names[static_cast<int>(cell)];
}
const char* name_of(Type type) {
  const char* names[] = {"float32", "float64", "bfloat16", "int8"};
  return names[static_cast<int>(type)];
}
bool is_rnn(Cell cell) { return cell == Cell::rnn_tanh || cell == Cell::rnn_relu; }
int gates_of(Cell cell) { return cell == Cell::lstm ? 4 : is_rnn(cell) ? 1 : 3; }

std::uint16_t to_bfloat16(double value) {
  const float narrow = static_cast<float>(value);
  std::uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
double from_bfloat16(std::uint16_t half) {
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
  Doubles gates, weight_hh, weight_hr, bias_n, peephole, norm_hh, norm_c, h_0, c_0, dropout, zone_h, zone_c;
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
    if (cell == Cell::gru && option.bias_n) bias_n = draw(D * H, 1, 0, false);
    if (option.peephole) peephole = draw(D * 3 * H, 0.5, 0, false);
    if (option.norm) norm_hh = draw(D * G * H, 0.3, 0.5, false);
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
  Numbers gates, weight_hh, weight_hr, bias_n, peephole, norm_hh, norm_c, h_0, c_0;

  explicit Leaves(const Case& a)
      : gates(of(a.gates)), weight_hh(of(a.weight_hh)), weight_hr(of(a.weight_hr)), bias_n(of(a.bias_n)),
        peephole(of(a.peephole)), norm_hh(of(a.norm_hh)), norm_c(of(a.norm_c)), h_0(of(a.h_0)), c_0(of(a.c_0)) {}

  static Numbers of(const Doubles& values) {
    Numbers leaves;
    for (const double value : values) leaves.push_back(Number(value, 0.0, 0));
    return leaves;
  }
};

struct States {
  Numbers output, h_n, c_n;
};

Numbers normalised(const Numbers& values, double eps) {
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
States reference(const Case& a, const Leaves& in) {
  const int D = a.D, H = a.H, P = a.P, G = a.G;
  std::vector<std::int64_t> offsets{0};
  for (const std::int64_t size : a.batch_sizes) offsets.push_back(offsets.back() + size);
  const auto T = static_cast<std::int64_t>(a.batch_sizes.size());
  States made{Numbers(a.N * D * P), in.h_0, in.c_0};
  for (int d = 0; d < D; ++d)
    for (int row = 0; row < a.B; ++row)
      for (std::int64_t turn = 0; turn < T; ++turn) {
        const std::int64_t t = d == 0 ? turn : T - 1 - turn;
        if (row >= a.batch_sizes[t]) continue;
        const std::int64_t value = (offsets[t] + row) * D + d;
        Number* h = &made.h_n[(static_cast<std::size_t>(d) * a.B + row) * P];
        Number* c = a.cell == Cell::lstm ? &made.c_n[(static_cast<std::size_t>(d) * a.B + row) * H] : nullptr;
        const auto x = [&](int gate, int unit) { return in.gates[(value * G + gate) * H + unit]; };
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
            Number of_n = before ? candidate[u] : y[2 * H + u];
            if (!a.bias_n.empty()) of_n = of_n + in.bias_n[static_cast<std::size_t>(d) * H + u];
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

Doubles values_of(const Numbers& numbers) {
  Doubles values;
  for (const Number& number : numbers) values.push_back(number.value);
  return values;
}

double tolerance_of(const Case& a) {
  if (a.type == Type::float64) return 1e-10;
  if (a.type == Type::float32) return a.option.norm ? 2e-3 : 5e-5;
  return a.option.norm ? 0.15 : 0.04;
}

void hold(const Case& a, const std::string& where, const char* what, const Doubles& found, const Doubles& expected) {
  double largest = 0, difference = 0;
  bool whole = found.size() == expected.size();
  for (std::size_t i = 0; whole && i < found.size(); ++i) {
    largest = std::fmax(largest, std::fabs(expected[i]));
    if (!(std::fabs(found[i] - expected[i]) <= difference)) difference = std::fabs(found[i] - expected[i]);
  }
  whole = whole && difference <= tolerance_of(a) * (1 + largest);
  char amount[64];
  std::snprintf(amount, sizeof amount, ": %s differs by %.2e of %.2e", what, difference, largest);
  expect(whole, where + amount);
}

// One case by the kernels, forward and, for types that learn, backward.
void run(const Case& a, const States& states, const Leaves& leaves, const Doubles& slopes, const Kernels& kernels,
         int threads, Array* first_output) {
  using Element = Array::Element;
  const Element real = a.type == Type::float64 ? Element::float64 : Element::float32;
  const Element stored = a.type == Type::bfloat16 ? Element::bfloat16 : real;
  const std::string where = a.name(kernels.name, threads);
  const bool learns = a.type != Type::int8, quantised = a.type == Type::int8;
  const std::size_t gates = a.N * a.D * a.G * a.H, hidden = a.N * a.D * a.P, row_states = static_cast<std::size_t>(a.D) * a.B * a.P;
  Array weight_hh(quantised ? Element::bytes : stored, quantised ? a.quantised_hh : a.weight_hh);
  Array weight_hr(quantised ? Element::bytes : stored, quantised ? a.quantised_hr : a.weight_hr);
  Array scale_hh(Element::float32, a.scale_hh), scale_hr(Element::float32, a.scale_hr);
  Array bias_n(real, a.bias_n), peephole(real, a.peephole), norm_hh(real, a.norm_hh), norm_c(real, a.norm_c);
  Array dropout(real, a.dropout), zone_h(Element::bytes, a.zone_h), zone_c(Element::bytes, a.zone_c);
  Array projected(stored, a.gates), h_0(real, a.h_0), c_0(real, a.c_0);
  Array output(stored, hidden), h_n(real, row_states), c_n(real, a.c_0.size());
  const int kept = a.cell == Cell::lstm ? 5 : a.cell == Cell::gru ? 4 : a.cell == Cell::gru_reset_before ? 3 : 1;
  const bool saves = learns && !(is_rnn(a.cell) && !a.option.masks && a.option.rate == 0);
  Array saved(stored, saves ? a.N * a.D * kept * a.H : 0);
  Array normalized(stored, learns && a.option.norm ? gates : 0), deviation(real, learns && a.option.norm ? a.N * a.D * 2 : 0);
  const Layout layout{a.cell, a.type, a.batch_sizes.data(), static_cast<std::int64_t>(a.batch_sizes.size()),
                      a.N,    a.D,    a.B,                  a.H,
                      a.P,    threads};
  const Parameters parameters{weight_hh.data(), scale_hh.data<float>(), weight_hr.data(), scale_hr.data<float>(),
                              bias_n.data(), peephole.data(), norm_hh.data(), norm_c.data(), dropout.data(),
                              zone_h.data<std::uint8_t>(), zone_c.data<std::uint8_t>(),
                              a.option.masks ? 0 : a.option.rate,
                              a.option.masks || a.cell != Cell::lstm ? 0 : a.option.rate, a.eps};
  Forward forward{layout, parameters, nullptr, projected.data(), h_0.data(), c_0.data(), output.data(), h_n.data(),
                  c_n.data(), saved.data(), normalized.data(), deviation.data()};
  kernels.forward(forward);
  hold(a, where, "output", output.values(), values_of(states.output));
  hold(a, where, "h_n", h_n.values(), values_of(states.h_n));
  hold(a, where, "c_n", c_n.values(), values_of(states.c_n));
  // Neither threads nor weights packed beforehand change a bit.
  if (threads == 1) *first_output = output;
  expect(output.same_as(*first_output), where + ": another output than with one thread");
  char* packed = static_cast<char*>(std::aligned_alloc(64, (kernels.packed_bytes(layout) + 63) / 64 * 64));
  kernels.pack(forward, packed);
  Array again(stored, hidden);
  forward.packed = packed;
  forward.output = again.data();
  forward.saved = forward.normalized = forward.deviation = nullptr;
  kernels.forward(forward);
  std::free(packed);
  expect(output.same_as(again), where + ": another output with packed weights");
  if (!learns) return;

  Array of_output(stored, a.of_output), of_h_n(real, a.of_h_n), of_c_n(real, a.of_c_n);
  const int width = a.cell == Cell::gru ? 4 : a.G;
  Array grad_gates(stored, a.N * a.D * width * a.H), grad_product(stored, a.option.norm ? gates : 0);
  Array grad_projected(stored, a.P == a.H ? 0 : hidden), previous(stored, hidden);
  Array before_projection(stored, a.P == a.H ? 0 : a.N * a.D * a.H), grad_h_0(real, row_states), grad_c_0(real, a.c_0.size());
  Array grad_peephole(real, a.peephole.size() * a.B), grad_norm_c(real, a.norm_c.size() * a.B);
  kernels.backward({layout, parameters, of_output.data(), of_h_n.data(), of_c_n.data(), saved.data(), normalized.data(),
                    deviation.data(), output.data(), h_0.data(), c_0.data(), grad_gates.data(), grad_product.data(),
                    grad_projected.data(), previous.data(), before_projection.data(), grad_h_0.data(), grad_c_0.data(),
                    grad_peephole.data(), grad_norm_c.data()});
  const auto gradient = [&](const Numbers& of) {
    Doubles found;
    for (const Number& leaf : of) found.push_back(slopes[leaf.place]);
    return found;
  };
  const int D = a.D, G = a.G, H = a.H, P = a.P;
  const Doubles of_gates = grad_gates.values(), of_product = grad_product.values(), before = previous.values();
  const Doubles normal = normalized.values(), kept_values = saved.values();
  Doubles inputs(gates), weights(a.weight_hh.size()), biases(a.bias_n.size()), gains(a.norm_hh.size());
  for (std::int64_t n = 0; n < a.N; ++n)
    for (int d = 0; d < D; ++d)
      for (int gate = 0; gate < G; ++gate)
        for (int u = 0; u < H; ++u) {
          const std::int64_t value = n * D + d;
          const std::size_t at = (value * G + gate) * H + u, of = static_cast<std::size_t>(d) * G * H + gate * H + u;
          // The GRU's n, reset after the product, has a gradient of its own for each side; the recurrent one is first.
          const bool apart = a.cell == Cell::gru;
          inputs[at] = of_gates[(value * width + gate + apart) * H + u];
          const double recurrent = apart && gate == 2 ? of_gates[value * width * H + u] : inputs[at];
          if (apart && gate == 2 && !biases.empty()) biases[static_cast<std::size_t>(d) * H + u] += recurrent;
          if (a.option.norm) gains[of] += recurrent * normal[at];
          const double slope = a.option.norm ? of_product[at] : recurrent;
          for (int k = 0; k < P; ++k) {
            const double reset = a.cell == Cell::gru_reset_before && gate == 2 ? kept_values[value * kept * H + k] : 1;
            weights[of * P + k] += slope * reset * before[value * P + k];
          }
        }
  hold(a, where, "the gradient of the gates", inputs, gradient(leaves.gates));
  hold(a, where, "the gradient of weight_hh", weights, gradient(leaves.weight_hh));
  hold(a, where, "the gradient of bias_n", biases, gradient(leaves.bias_n));
  hold(a, where, "the gradient of norm_hh", gains, gradient(leaves.norm_hh));
  hold(a, where, "the gradient of h_0", grad_h_0.values(), gradient(leaves.h_0));
  hold(a, where, "the gradient of c_0", grad_c_0.values(), gradient(leaves.c_0));
  const auto over_rows = [&](const Doubles& rows, int entries) {
    Doubles sums(static_cast<std::size_t>(D) * entries);
    for (std::size_t i = 0; i < rows.size(); ++i) sums[i / (static_cast<std::size_t>(a.B) * entries) * entries + i % entries] += rows[i];
    return sums;
  };
  if (a.option.peephole)
    hold(a, where, "the gradient of peephole", over_rows(grad_peephole.values(), 3 * H), gradient(leaves.peephole));
  if (!a.norm_c.empty())
    hold(a, where, "the gradient of norm_c", over_rows(grad_norm_c.values(), 2 * H), gradient(leaves.norm_c));
  if (P != H) {
    const Doubles of_projected = grad_projected.values(), exposed = before_projection.values();
    Doubles of_weights(a.weight_hr.size());
    for (std::int64_t value = 0; value < a.N * D; ++value)
      for (int j = 0; j < P; ++j)
        for (int u = 0; u < H; ++u)
          of_weights[(value % D * P + j) * H + u] += of_projected[value * P + j] * exposed[value * H + u];
    hold(a, where, "the gradient of weight_hr", of_weights, gradient(leaves.weight_hr));
  }
}

void check_recurrences(const std::vector<const Kernels*>& isas) {
  for (const Cell cell : {Cell::rnn_tanh, Cell::rnn_relu, Cell::lstm, Cell::gru, Cell::gru_reset_before})
    for (const Option& option : kOptions) {
      Option with = option;
      if (cell != Cell::lstm) with.peephole = with.projection = false;
      if (cell != Cell::lstm && std::string(option.name) != "everything" && (option.peephole || option.projection)) continue;
      for (const Type type : {Type::float32, Type::float64, Type::bfloat16, Type::int8})
        for (const int units : {3, 19}) {
          const Case a(cell, type, with, units, 2);
          tape.clear();
          const Leaves leaves(a);
          const States states = reference(a, leaves);
          Doubles slopes(tape.size());
          const auto seed = [&](const Numbers& results, const Doubles& weights) {
            for (std::size_t i = 0; i < results.size(); ++i)
              if (results[i].place >= 0) slopes[results[i].place] += weights[i];
          };
          seed(states.output, a.of_output);
          seed(states.h_n, a.of_h_n);
          seed(states.c_n, a.of_c_n);
          for (std::size_t i = tape.size(); i-- > 0;)
            for (int p = 0; p < 2; ++p)
              if (tape[i].parents[p] >= 0) slopes[tape[i].parents[p]] += tape[i].factors[p] * slopes[i];
          for (const Kernels* kernels : isas) {
            Array first_output(Array::Element::bytes, 0);
            for (const int threads : {1, 3}) run(a, states, leaves, slopes, *kernels, threads, &first_output);
          }
        }
    }
}

void check_projections(const Kernels& kernels) {
  std::mt19937 engine(11);
  std::normal_distribution<float> normal;
  for (const Type type : {Type::float32, Type::bfloat16, Type::int8})
    for (const int inputs : {1, 30, 67})
      for (const int rows : {1, 2, 9, 40}) {
        const int outputs = 21;
        std::vector<float> x(rows * inputs), bias(outputs), scales(outputs), made(rows * outputs, NAN);
        Doubles weights(outputs * inputs), whole, found_scales;
        for (float& value : x) value = type == Type::bfloat16 ? static_cast<float>(from_bfloat16(to_bfloat16(normal(engine)))) : normal(engine);
        for (float& value : bias) value = normal(engine);
        for (double& value : weights) value = from_bfloat16(to_bfloat16(normal(engine)));
        if (type == Type::int8) {
          Case::quantise(weights, inputs, whole, found_scales);
          for (int j = 0; j < outputs; ++j) scales[j] = static_cast<float>(found_scales[j]);
        }
        Array source(type == Type::int8 ? Array::Element::bytes : type == Type::bfloat16 ? Array::Element::bfloat16 : Array::Element::float32,
                     type == Type::int8 ? whole : weights);
        Projection a{type, nullptr, bias.data(), x.data(), made.data(), rows, inputs, outputs};
        char* packed = static_cast<char*>(std::aligned_alloc(64, (kernels.packed_projection_bytes(a) + 63) / 64 * 64));
        kernels.pack_projection(a, source.data(), scales.data(), packed);
        a.packed = packed;
        kernels.project(a);
        std::free(packed);
        double difference = 0;
        for (int row = 0; row < rows; ++row) {
          // With int8 the row of inputs is quantised, too.
          double largest = 0;
          for (int k = 0; k < inputs; ++k) largest = std::max(largest, std::fabs(static_cast<double>(x[row * inputs + k])));
          for (int j = 0; j < outputs; ++j) {
            double sum = bias[j];
            for (int k = 0; k < inputs; ++k) {
              const double input = x[row * inputs + k];
              sum += weights[j * inputs + k] *
                     (type == Type::int8 ? std::nearbyint(input * 127 / largest) * largest / 127 : input);
            }
            const double off = std::fabs(made[row * outputs + j] - sum) / (1 + std::fabs(sum));
            if (!(off <= difference)) difference = off;
          }
        }
        // A tie in the quantisation may fall to the other side.
        const double tolerance = type == Type::int8 ? 2e-2 : 2e-5;
        expect(difference <= tolerance, std::string("projection, ") + name_of(type) + ", " + kernels.name + ", " + std::to_string(inputs) +
                                            " inputs, " + std::to_string(rows) + " rows: differs by " + std::to_string(difference));
      }
}

void check_activations(const Kernels& kernels) {
  std::vector<float> x;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 65521 * 13) {
    const auto pattern = static_cast<std::uint32_t>(bits);
    float value;
    std::memcpy(&value, &pattern, sizeof value);
    x.push_back(value);
  }
  for (int i = -20000; i <= 20000; ++i) x.push_back(static_cast<float>(i) * 1e-3f);
  for (const float special : {0.0f, -0.0f, INFINITY, -INFINITY, NAN}) x.push_back(special);
  for (const Activation activation : {Activation::exp, Activation::sigmoid, Activation::tanh}) {
    std::vector<float> y(x.size(), NAN);
    kernels.activation_float(activation, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    double worst = 0;
    bool lawful = true;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double of = x[i];
      const double exact = activation == Activation::exp ? std::exp(of) : activation == Activation::sigmoid ? 1 / (1 + std::exp(-of)) : std::tanh(of);
      if (std::isnan(x[i])) {
        lawful = lawful && std::isnan(y[i]);
      } else if (std::isinf(x[i]) || std::fabs(exact) > 3.4e38) {
        lawful = lawful && y[i] == static_cast<float>(exact);
      } else if (std::fabs(exact) >= 1.1754944e-38) {
        const float rounded = static_cast<float>(exact);
        const double ulp = static_cast<double>(std::nextafter(std::fabs(rounded), INFINITY)) - std::fabs(rounded);
        const double off = std::fabs(y[i] - exact) / ulp;
        if (!(off <= worst)) worst = off;
      }
    }
    const std::string name = activation == Activation::exp ? "exp" : activation == Activation::sigmoid ? "sigmoid" : "tanh";
    expect(lawful, name + ", " + kernels.name + ": NaN or infinities");
    expect(worst <= (activation == Activation::exp ? 2 : 3), name + ", " + kernels.name + ": off by " + std::to_string(worst) + " ulp");
  }
}

void check_pool() {
  pool::set_limit(std::size_t{64} << 20);
  pool::Block block = pool::take(3000000);
  expect(block.bytes >= 3000000 && reinterpret_cast<std::uintptr_t>(block.start) % 4096 == 0, "pool: a block of its size on a page");
  std::memset(block.start, 1, block.bytes);
  pool::give(block);
  expect(pool::kept_bytes() == block.bytes, "pool: a block given back is kept");
  const pool::Block again = pool::take(2900000);
  expect(again.start == block.start && pool::kept_bytes() == 0, "pool: a kept block is handed out again");
  pool::give(again);
  pool::set_limit(0);
  expect(pool::kept_bytes() == 0, "pool: a limit of nothing keeps nothing");
}

}  // namespace

int main() {
  const Kernels* found[8];
  const int count = available(found, 8);
  const std::vector<const Kernels*> isas(found, found + count);
  expect(!set_isa("none"), "an instruction set that there is not");
  for (const Kernels* kernels : isas) {
    expect(set_isa(kernels->name) && &tidegate::kernels() == kernels, std::string("choosing ") + kernels->name);
    check_activations(*kernels);
    check_projections(*kernels);
  }
  check_recurrences(isas);
  check_pool();
  std::printf("%d of %d comparisons failed, instruction sets:", failures, comparisons);
  for (const Kernels* kernels : isas) std::printf(" %s", kernels->name);
  std::printf("\n");
  return failures == 0 ? 0 : 1;
}
