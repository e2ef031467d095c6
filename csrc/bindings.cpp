// The border between Python and the kernels. Tensors of torch enter as addresses after one check in kernels/
// (nanobind takes microseconds to look at a tensor); NumPy arrays enter typed. The GIL is released in every kernel.
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace tidegate::bindings {

Cell cell_named(const std::string& name) {
  if (name == "rnn_tanh") return Cell::rnn_tanh;
  if (name == "rnn_relu") return Cell::rnn_relu;
  if (name == "lstm") return Cell::lstm;
  if (name == "gru") return Cell::gru;
  if (name == "gru_reset_before") return Cell::gru_reset_before;
  throw std::invalid_argument("expected the cell rnn_tanh, rnn_relu, lstm, gru or gru_reset_before; found " + name);
}

Type type_named(const std::string& name) {
  if (name == "float32") return Type::float32;
  if (name == "float64") return Type::float64;
  if (name == "bfloat16") return Type::bfloat16;
  if (name == "int8") return Type::int8;
  throw std::invalid_argument("expected the type float32, float64, bfloat16 or int8; found " + name);
}

void check_batch_sizes(const std::int64_t* sizes, std::int64_t steps, std::int64_t rows, std::int64_t values) {
  std::int64_t sum = 0, most = rows;
  for (std::int64_t t = 0; t < steps; ++t) {
    if (sizes[t] < 0 || sizes[t] > most)
      throw std::invalid_argument("expected batch_sizes that never grow, from no more than the rows; found " +
                                  std::to_string(sizes[t]) + " at step " + std::to_string(t));
    sum += most = sizes[t];
  }
  if (sum != values)
    throw std::invalid_argument("expected batch_sizes that add up to the " + std::to_string(values) + " values; found " +
                                std::to_string(sum));
}

}  // namespace tidegate::bindings

namespace {

using namespace tidegate::bindings;

// The elements of a tuple one after the other, as the fields of a struct want them.
class Fields {
 public:
  explicit Fields(const nb::tuple& tuple, std::size_t expected) : tuple_(tuple) {
    if (tuple.size() != expected) throw std::invalid_argument("the tuple has not as many elements as the struct has fields");
  }

  template <class T> T* address() { return reinterpret_cast<T*>(nb::cast<std::uintptr_t>(tuple_[at_++])); }
  template <class T> T number() { return nb::cast<T>(tuple_[at_++]); }

 private:
  const nb::tuple& tuple_;
  std::size_t at_ = 0;
};

tidegate::Layout layout_of(const nb::tuple& tuple) {
  Fields f(tuple, 10);
  tidegate::Layout l;
  l.cell = cell_named(f.number<std::string>());
  l.type = type_named(f.number<std::string>());
  l.batch_sizes = f.address<const std::int64_t>();
  l.steps = f.number<std::int64_t>();
  l.values = f.number<std::int64_t>();
  l.directions = f.number<int>();
  l.rows = f.number<int>();
  l.units = f.number<int>();
  l.states = f.number<int>();
  l.threads = f.number<int>();
  check_batch_sizes(l.batch_sizes, l.steps, l.rows, l.values);
  return l;
}

tidegate::Parameters parameters_of(const nb::tuple& tuple) {
  Fields f(tuple, 19);
  tidegate::Parameters p;
  for (const void*& weight : p.weight_hh) weight = f.address<const void>();
  p.scale_hh = f.address<const float>();
  p.weight_hr = f.address<const void>();
  p.scale_hr = f.address<const float>();
  for (const void*& bias : p.bias_ih) bias = f.address<const void>();
  for (const void*& bias : p.bias_hh) bias = f.address<const void>();
  p.peephole = f.address<const void>();
  p.norm_ih = f.address<const void>();
  p.norm_hh = f.address<const void>();
  p.norm_c = f.address<const void>();
  p.dropout_mask = f.address<const void>();
  p.zoneout_h = f.address<const std::uint8_t>();
  p.zoneout_c = f.address<const std::uint8_t>();
  p.zoneout_rate_h = f.number<double>();
  p.zoneout_rate_c = f.number<double>();
  p.eps = f.number<double>();
  return p;
}

void forward(const nb::tuple& layout, const nb::tuple& parameters, const nb::tuple& arrays) {
  Fields f(arrays, 10);
  tidegate::Forward a;
  a.layout = layout_of(layout);
  a.parameters = parameters_of(parameters);
  a.packed = nullptr;
  a.gates = f.address<const void>();
  a.h_0 = f.address<const void>();
  a.c_0 = f.address<const void>();
  a.output = f.address<void>();
  a.h_n = f.address<void>();
  a.c_n = f.address<void>();
  a.saved = f.address<void>();
  a.normalized = f.address<void>();
  a.deviation = f.address<void>();
  a.input_moments = f.address<void>();
  nb::gil_scoped_release release;
  tidegate::kernels().forward(a);
}

void forward_plain(const std::string& cell, const std::string& type, std::uintptr_t batch_sizes, std::int64_t steps,
                   std::int64_t values, int directions, int rows, int units, int threads, std::uintptr_t weight_hh,
                   std::uintptr_t bias_ih, std::uintptr_t bias_hh, std::uintptr_t weight_hh_reverse,
                   std::uintptr_t bias_ih_reverse, std::uintptr_t bias_hh_reverse, std::uintptr_t gates,
                   std::uintptr_t h_0, std::uintptr_t c_0, std::uintptr_t output, std::uintptr_t h_n,
                   std::uintptr_t c_n) {
  const auto read = [](std::uintptr_t address) { return reinterpret_cast<const void*>(address); };
  const auto write = [](std::uintptr_t address) { return reinterpret_cast<void*>(address); };
  tidegate::Forward a{};
  a.layout = {cell_named(cell), type_named(type), static_cast<const std::int64_t*>(read(batch_sizes)), steps, values,
              directions,       rows,             units,                                               units, threads};
  check_batch_sizes(a.layout.batch_sizes, steps, rows, values);
  a.parameters.weight_hh[0] = read(weight_hh);
  a.parameters.weight_hh[1] = read(weight_hh_reverse);
  a.parameters.bias_ih[0] = read(bias_ih);
  a.parameters.bias_ih[1] = read(bias_ih_reverse);
  a.parameters.bias_hh[0] = read(bias_hh);
  a.parameters.bias_hh[1] = read(bias_hh_reverse);
  a.gates = read(gates);
  a.h_0 = read(h_0);
  a.c_0 = read(c_0);
  a.output = write(output);
  a.h_n = write(h_n);
  a.c_n = write(c_n);
  nb::gil_scoped_release release;
  tidegate::kernels().forward(a);
}

void backward(const nb::tuple& layout, const nb::tuple& parameters, const nb::tuple& arrays) {
  Fields f(arrays, 23);
  tidegate::Backward a;
  a.layout = layout_of(layout);
  a.parameters = parameters_of(parameters);
  a.grad_output = f.address<const void>();
  a.grad_h_n = f.address<const void>();
  a.grad_c_n = f.address<const void>();
  a.saved = f.address<const void>();
  a.normalized = f.address<const void>();
  a.deviation = f.address<const void>();
  a.input_moments = f.address<const void>();
  a.gates = f.address<const void>();
  a.output = f.address<const void>();
  a.h_0 = f.address<const void>();
  a.c_0 = f.address<const void>();
  a.grad_gates = f.address<void>();
  a.grad_product = f.address<void>();
  a.grad_inputs = f.address<void>();
  a.grad_projected = f.address<void>();
  a.previous = f.address<void>();
  a.before_projection = f.address<void>();
  a.grad_h_0 = f.address<void>();
  a.grad_c_0 = f.address<void>();
  a.grad_peephole = f.address<void>();
  a.grad_norm_ih = f.address<void>();
  a.grad_norm_hh = f.address<void>();
  a.grad_norm_c = f.address<void>();
  nb::gil_scoped_release release;
  tidegate::kernels().backward(a);
}

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using MutableFloats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void activate(const std::string& name, Floats from, MutableFloats to) {
  const tidegate::Activation activation = name == "exp"       ? tidegate::Activation::exp
                                          : name == "sigmoid" ? tidegate::Activation::sigmoid
                                          : name == "tanh"
                                              ? tidegate::Activation::tanh
                                              : throw std::invalid_argument("expected exp, sigmoid or tanh; found " + name);
  if (from.size() != to.size()) throw std::invalid_argument("expected two arrays of one size");
  const float* source = from.data();
  float* target = to.data();
  const auto count = static_cast<std::int64_t>(from.size());
  nb::gil_scoped_release release;
  tidegate::kernels().activation_float(activation, source, target, count);
}

std::vector<std::string> available_isas() {
  const tidegate::Kernels* found[8];
  const int count = tidegate::available(found, 8);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(found[i]->name);
  return names;
}

void set_isa(const std::string& name) {
  if (tidegate::set_isa(name.c_str())) return;
  std::string legal;
  for (const std::string& isa : available_isas()) legal += (legal.empty() ? "" : ", ") + isa;
  throw std::invalid_argument("this build has no instruction set '" + name + "' that this machine runs; expected one of " + legal);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native kernels of tidegate. Internal: call them through tidegate.kernels.";

  m.def("isa", [] { return std::string(tidegate::kernels().name); }, "The instruction set in use.");
  m.def("available_isas", &available_isas, "The instruction sets that this machine runs, best first.");
  m.def("set_isa", &set_isa, "name"_a, "Choose the instruction set for the whole process; an empty name is the best.");
  m.def("let_threads_idle", &tidegate::let_threads_idle, "may"_a,
        "Whether some threads may idle where fewer take a small layer's steps sooner; tests forbid it.");
  m.def("activate", &activate, "name"_a, "source"_a.noconvert(), "target"_a.noconvert(),
        "Apply exp, sigmoid or tanh as the kernels compute it.");
  m.def("forward", &forward, "layout"_a, "parameters"_a, "arrays"_a,
        "A recurrence: addresses and sizes as the structs Layout, Parameters and Forward of kernels.h have them.");
  m.def("forward_plain", &forward_plain, "cell"_a, "type"_a, "batch_sizes"_a, "steps"_a, "values"_a, "directions"_a,
        "rows"_a, "units"_a, "threads"_a, "weight_hh"_a, "bias_ih"_a, "bias_hh"_a, "weight_hh_reverse"_a,
        "bias_ih_reverse"_a, "bias_hh_reverse"_a, "gates"_a, "h_0"_a, "c_0"_a, "output"_a, "h_n"_a, "c_n"_a,
        "The same without options and without anything kept: fewer numbers, which take time to read.");
  m.def("backward", &backward, "layout"_a, "parameters"_a, "arrays"_a,
        "Its gradients: addresses and sizes as the structs Layout, Parameters and Backward of kernels.h have them.");
  bind_step(m);
  bind_crf(m);
  bind_pool(m);
  bind_scan(m);

  // The variable of the environment is read once, at import; a wrong name stops the import with its reason.
  if (const char* forced = std::getenv("TIDEGATE_ISA")) set_isa(forced);
}
