// The kernels against plain loops, without Python: what runs under an emulator of another processor, too. Every cell,
// its options, types, instruction sets and threads, and linear recurrences; the gradients come from a tape under the same
// loops. Exits with 1 where anything differs.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check_scan.h"
#include "kernels.h"
#include "plain_loops.h"
#include "pool.h"

using namespace tidegate;
using namespace tidegate::check;

namespace {

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
  const Doubles& whole_hh = quantised ? a.quantised_hh : a.weight_hh;
  // The kernels take these as one array a direction; the second is empty where there is one.
  const auto half = [&](const Doubles& whole, bool reverse) {
    const auto middle = whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / a.D);
    return reverse ? Doubles(middle, whole.end()) : Doubles(whole.begin(), middle);
  };
  Array weight_hh(quantised ? Element::bytes : stored, half(whole_hh, false));
  Array reverse_hh(quantised ? Element::bytes : stored, half(whole_hh, true));
  Array bias_ih(real, half(a.bias_ih, false)), reverse_bias_ih(real, half(a.bias_ih, true));
  Array bias_hh(real, half(a.bias_hh, false)), reverse_bias_hh(real, half(a.bias_hh, true));
  Array weight_hr(quantised ? Element::bytes : stored, quantised ? a.quantised_hr : a.weight_hr);
  Array scale_hh(Element::float32, a.scale_hh), scale_hr(Element::float32, a.scale_hr);
  Array peephole(real, a.peephole), norm_ih(real, a.norm_ih), norm_hh(real, a.norm_hh), norm_c(real, a.norm_c);
  Array dropout(real, a.dropout), zone_h(Element::bytes, a.zone_h), zone_c(Element::bytes, a.zone_c);
  Array projected(stored, a.gates), h_0(real, a.h_0), c_0(real, a.c_0);
  Array output(stored, hidden), h_n(real, row_states), c_n(real, a.c_0.size());
  const int kept = a.cell == Cell::lstm ? 5 : a.cell == Cell::gru ? 4 : a.cell == Cell::gru_reset_before ? 3 : 1;
  const bool saves = learns && !(is_rnn(a.cell) && !a.option.masks && a.option.rate == 0);
  Array saved(stored, saves ? a.N * a.D * kept * a.H : 0);
  Array normalized(stored, learns && a.option.norm ? gates : 0), deviation(real, learns && a.option.norm ? a.N * a.D * 2 : 0);
  Array input_moments(real, learns && a.option.norm ? a.N * a.D * 2 : 0);
  const Layout layout{a.cell, a.type, a.batch_sizes.data(), static_cast<std::int64_t>(a.batch_sizes.size()),
                      a.N,    a.D,    a.B,                  a.H,
                      a.P,    threads};
  const Parameters parameters{{weight_hh.data(), reverse_hh.data()}, scale_hh.data<float>(), weight_hr.data(), scale_hr.data<float>(),
                              {bias_ih.data(), reverse_bias_ih.data()}, {bias_hh.data(), reverse_bias_hh.data()},
                              peephole.data(), norm_ih.data(), norm_hh.data(), norm_c.data(), dropout.data(),
                              zone_h.data<std::uint8_t>(), zone_c.data<std::uint8_t>(),
                              a.option.masks ? 0 : a.option.rate,
                              a.option.masks || a.cell != Cell::lstm ? 0 : a.option.rate, a.eps};
  Forward forward{layout, parameters, nullptr, projected.data(), h_0.data(), c_0.data(), output.data(), h_n.data(),
                  c_n.data(), saved.data(), normalized.data(), deviation.data(), input_moments.data()};
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
  forward.saved = forward.normalized = forward.deviation = forward.input_moments = nullptr;
  kernels.forward(forward);
  std::free(packed);
  expect(output.same_as(again), where + ": another output with packed weights");
  if (!learns || (a.type == Type::bfloat16 && nearest_kink < 0.02)) return;

  Array of_output(stored, a.of_output), of_h_n(real, a.of_h_n), of_c_n(real, a.of_c_n);
  const int width = a.cell == Cell::gru ? 4 : a.G;
  Array grad_gates(stored, a.N * a.D * width * a.H), grad_product(stored, a.option.norm ? gates : 0);
  Array grad_inputs(stored, a.option.norm ? gates : 0), grad_norm_ih(real, a.norm_ih.size() * a.B), grad_norm_hh(real, a.norm_hh.size() * a.B);
  Array grad_projected(stored, a.P == a.H ? 0 : hidden), previous(stored, hidden);
  Array before_projection(stored, a.P == a.H ? 0 : a.N * a.D * a.H), grad_h_0(real, row_states), grad_c_0(real, a.c_0.size());
  Array grad_peephole(real, a.peephole.size() * a.B), grad_norm_c(real, a.norm_c.size() * a.B);
  kernels.backward({layout, parameters, of_output.data(), of_h_n.data(), of_c_n.data(), saved.data(), normalized.data(),
                    deviation.data(), input_moments.data(), projected.data(), output.data(), h_0.data(), c_0.data(), grad_gates.data(), grad_product.data(),
                    grad_inputs.data(), grad_projected.data(), previous.data(), before_projection.data(), grad_h_0.data(), grad_c_0.data(),
                    grad_peephole.data(), grad_norm_ih.data(), grad_norm_hh.data(), grad_norm_c.data()});
  const auto gradient = [&](const Numbers& of) {
    Doubles found;
    for (const Number& leaf : of) found.push_back(slopes[leaf.place]);
    return found;
  };
  const int D = a.D, G = a.G, H = a.H, P = a.P;
  const Doubles of_gates = grad_gates.values(), of_product = grad_product.values(), before = previous.values();
  const Doubles of_inputs = grad_inputs.values(), kept_values = saved.values();
  Doubles inputs(gates), weights(a.weight_hh.size()), biases_ih(a.bias_ih.size()), biases_hh(a.bias_hh.size());
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
          if (a.option.bias) biases_ih[of] += inputs[at], biases_hh[of] += recurrent;
          if (a.option.norm) inputs[at] = of_inputs[at];
          const double slope = a.option.norm ? of_product[at] : recurrent;
          for (int k = 0; k < P; ++k) {
            const double reset = a.cell == Cell::gru_reset_before && gate == 2 ? kept_values[value * kept * H + k] : 1;
            weights[of * P + k] += slope * reset * before[value * P + k];
          }
        }
  hold(a, where, "the gradient of the gates", inputs, gradient(leaves.gates));
  hold(a, where, "the gradient of weight_hh", weights, gradient(leaves.weight_hh));
  hold(a, where, "the gradient of bias_ih", biases_ih, gradient(leaves.bias_ih));
  hold(a, where, "the gradient of bias_hh", biases_hh, gradient(leaves.bias_hh));
  hold(a, where, "the gradient of h_0", grad_h_0.values(), gradient(leaves.h_0));
  hold(a, where, "the gradient of c_0", grad_c_0.values(), gradient(leaves.c_0));
  const auto over_rows = [&](const Doubles& rows, int entries) {
    Doubles sums(static_cast<std::size_t>(D) * entries);
    for (std::size_t i = 0; i < rows.size(); ++i) sums[i / (static_cast<std::size_t>(a.B) * entries) * entries + i % entries] += rows[i];
    return sums;
  };
  if (a.option.peephole)
    hold(a, where, "the gradient of peephole", over_rows(grad_peephole.values(), 3 * H), gradient(leaves.peephole));
  if (a.option.norm) {
    hold(a, where, "the gradient of norm_ih", over_rows(grad_norm_ih.values(), a.G * H), gradient(leaves.norm_ih));
    hold(a, where, "the gradient of norm_hh", over_rows(grad_norm_hh.values(), a.G * H), gradient(leaves.norm_hh));
  }
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
    check_scans(*kernels);
  }
  let_threads_idle(false);  // small layers are to be shared as well
  check_recurrences(isas);
  check_pool();
  std::printf("%d of %d comparisons failed, instruction sets:", failures, comparisons);
  for (const Kernels* kernels : isas) std::printf(" %s", kernels->name);
  std::printf("\n");
  return failures == 0 ? 0 : 1;
}
