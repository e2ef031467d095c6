// A cell that takes one step at a time on NumPy arrays: for streams, without torch. Weights are packed once.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace tidegate::bindings {

namespace {

using Matrix = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using State = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OptionalVector = std::optional<Vector>;

int gates_of(Cell cell) { return cell == Cell::lstm ? 4 : cell == Cell::gru || cell == Cell::gru_reset_before ? 3 : 1; }

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("expected " + what);
}

std::string shape(std::size_t rows, std::size_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

// The text is made only where it is wanted: this is half a microsecond of a step.
template <class Array> void expect_shape(const char* name, const Array& array, std::size_t rows, std::size_t columns) {
  if (array.shape(0) == rows && array.shape(1) == columns) return;
  expect(false, name + (" of " + shape(rows, columns)) + "; found " + shape(array.shape(0), array.shape(1)));
}

class Step {
 public:
  Step(const std::string& cell, const std::string& type, const Matrix& weight_ih, const Matrix& weight_hh,
       const OptionalVector& bias, const OptionalVector& bias_n, const OptionalVector& scale_ih,
       const OptionalVector& scale_hh, const std::optional<Matrix>& weight_hr, const OptionalVector& scale_hr,
       const OptionalVector& peephole, const OptionalVector& norm_ih, const OptionalVector& norm_hh,
       const OptionalVector& norm_c, double zoneout_h, double zoneout_c, double eps)
      : kernels_(&kernels()) {
    Layout& l = forward_.layout;
    l.cell = cell_named(cell);
    l.type = type_named(type);
    expect(l.type != Type::float64, "the type float32, bfloat16 or int8 for single steps");
    gates_ = gates_of(l.cell);
    outputs_ = static_cast<int>(weight_hh.shape(0));
    inputs_ = static_cast<int>(weight_ih.shape(1));
    l.directions = 1;
    l.threads = 1;
    l.steps = 1;
    l.units = outputs_ / gates_;
    l.states = static_cast<int>(weight_hh.shape(1));
    expect(l.units * gates_ == outputs_ && l.units > 0, "weight_hh of [gates * units, states]");
    expect(weight_ih.shape(0) == weight_hh.shape(0), "weight_ih and weight_hh of as many rows");
    expect(l.cell == Cell::lstm ? l.states <= l.units && weight_hr.has_value() == (l.states < l.units)
                                : l.states == l.units && !weight_hr,
           "as many states as units, or an LSTM's weight_hr for fewer");
    if (weight_hr)
      expect_shape("weight_hr", *weight_hr, l.states, l.units);
    const bool has_memory = l.cell == Cell::lstm;
    expect(has_memory || (!peephole && !norm_c && zoneout_c == 0), "peephole, norm_c and zoneout_c for an LSTM alone");
    expect(l.cell == Cell::gru || !bias_n, "bias_n for the gru alone, whose reset gate multiplies it; others add it to bias");
    expect(norm_ih.has_value() == norm_hh.has_value() && norm_c.has_value() == (has_memory && norm_hh.has_value()),
           "norm_ih and norm_hh, and an LSTM's norm_c, together or not at all");
    expect(zoneout_h >= 0 && zoneout_h <= 1 && zoneout_c >= 0 && zoneout_c <= 1, "probabilities zoneout_h and zoneout_c from 0 to 1");
    expect(eps >= 0, "eps of at least 0");
    const std::size_t outputs = outputs_, units = l.units;
    bias_.assign(outputs, 0.0f);
    if (bias) keep(bias_, *bias, outputs, "bias");
    Parameters& p = forward_.parameters;
    p = {};
    if (bias_n) {
      std::vector<float> kept;
      keep(kept, *bias_n, units, "bias_n");
      bias_hh_.assign(2 * units, 0.0f);
      bias_hh_.insert(bias_hh_.end(), kept.begin(), kept.end());
      p.bias_hh[0] = bias_hh_.data();
    }
    p.peephole = keep_optional(peephole_, peephole, 3 * units, "peephole");
    p.norm_hh = keep_optional(norm_hh_, norm_hh, outputs, "norm_hh");
    keep_optional(norm_ih_, norm_ih, outputs, "norm_ih");
    p.norm_c = keep_optional(norm_c_, norm_c, 2 * units, "norm_c");
    p.zoneout_rate_h = zoneout_h;
    p.zoneout_rate_c = zoneout_c;
    p.eps = eps;
    const bool quantised = l.type == Type::int8;
    std::vector<float> scales_hh, scales_ih, scales_hr;
    expect(quantised == scale_ih.has_value() && quantised == scale_hh.has_value() &&
               (quantised && weight_hr.has_value()) == scale_hr.has_value(),
           "a scale for every row of the weights with int8, and none without");
    p.scale_hh = keep_optional(scales_hh, scale_hh, outputs, "scale_hh");
    keep_optional(scales_ih, scale_ih, outputs, "scale_ih");
    p.scale_hr = keep_optional(scales_hr, scale_hr, l.states, "scale_hr");
    p.weight_hh[0] = weights(weight_hh, "weight_hh");
    p.weight_hr = weight_hr ? weights(*weight_hr, "weight_hr") : nullptr;
    projection_ = {l.type, nullptr, bias_.data(), nullptr, nullptr, 0, inputs_, outputs_};
    packed_hh_ = memory(kernels_->packed_bytes(l));
    kernels_->pack(forward_, packed_hh_.get());
    packed_ih_ = memory(kernels_->packed_projection_bytes(projection_));
    kernels_->pack_projection(projection_, weights(weight_ih, "weight_ih"), scales_ih.data(), packed_ih_.get());
    forward_.packed = packed_hh_.get();
    projection_.packed = packed_ih_.get();
    p.weight_hh[0] = p.weight_hr = nullptr;
    p.scale_hh = p.scale_hr = nullptr;
  }

  // h and c in, h and c of the next step out, in place.
  void take(const Rows& x, const State& h, const std::optional<State>& c) {
    const std::size_t rows = x.shape(0);
    Layout& l = forward_.layout;
    const bool has_memory = l.cell == Cell::lstm;
    expect_shape("x", x, rows, inputs_);
    expect_shape("h", h, rows, l.states);
    if (c.has_value() != has_memory) expect(false, has_memory ? "c, the LSTM's memory" : "no c: only the LSTM has one");
    if (has_memory) expect_shape("c", *c, rows, l.units);
    if (rows == 0) return;
    // A state of one step must not run into another's in the same object.
    if (gates_memory_.size() < rows * (outputs_ + l.states)) gates_memory_.resize(rows * (outputs_ + l.states));
    const float* x_data = x.data();
    float* h_data = h.data();
    float* c_data = has_memory ? c->data() : nullptr;
    std::int64_t batch_size = static_cast<std::int64_t>(rows);
    l.batch_sizes = &batch_size;
    l.rows = static_cast<int>(rows);
    l.values = batch_size;
    projection_.rows = static_cast<int>(rows);
    projection_.x = x_data;
    projection_.gates = gates_memory_.data();
    kernels_->project(projection_);
    if (!norm_ih_.empty()) normalise(rows);
    forward_.gates = gates_memory_.data();
    if (l.type == Type::bfloat16) {
      if (half_.size() < gates_memory_.size()) half_.resize(gates_memory_.size());
      for (std::size_t i = 0; i < rows * outputs_; ++i) half_[i] = rounded(gates_memory_[i]);
      forward_.gates = half_.data();
    }
    forward_.h_0 = forward_.h_n = h_data;
    forward_.c_0 = forward_.c_n = c_data;
    forward_.output = l.type == Type::bfloat16 ? static_cast<void*>(half_.data() + rows * outputs_)
                                               : static_cast<void*>(gates_memory_.data() + rows * outputs_);
    forward_.saved = forward_.normalized = forward_.deviation = forward_.input_moments = nullptr;
    kernels_->forward(forward_);
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<char, Free>;

  static Memory memory(std::size_t bytes) {
    char* start = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (start == nullptr) throw std::bad_alloc();
    return Memory(start);
  }

  static std::uint16_t rounded(float value) {
    std::uint32_t bits;
    static_assert(sizeof bits == sizeof value);
    __builtin_memcpy(&bits, &value, sizeof bits);
    if (value != value) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  }

  const void* weights(const Matrix& matrix, const char* name) const {
    const Type type = forward_.layout.type;
    const auto code = static_cast<nb::dlpack::dtype_code>(matrix.dtype().code);
    const int bits = matrix.dtype().bits;
    if (type == Type::float32) expect(code == nb::dlpack::dtype_code::Float && bits == 32, std::string(name) + " of float32");
    if (type == Type::int8) expect(code == nb::dlpack::dtype_code::Int && bits == 8, std::string(name) + " of int8");
    if (type == Type::bfloat16)
      expect(code == nb::dlpack::dtype_code::UInt && bits == 16, std::string(name) + " of uint16, the bits of bfloat16");
    return matrix.data();
  }

  static void keep(std::vector<float>& to, const Vector& from, std::size_t size, const char* name) {
    expect(from.size() == size,
           std::string(name) + " of " + std::to_string(size) + " numbers; found " + std::to_string(from.size()));
    to.assign(from.data(), from.data() + size);
  }

  static const float* keep_optional(std::vector<float>& to, const OptionalVector& from, std::size_t size, const char* name) {
    if (!from) return nullptr;
    keep(to, *from, size, name);
    return to.data();
  }

  // LN(W_ih x) * gain + b: the product came with its bias, which comes off and on again.
  void normalise(std::size_t rows) {
    for (std::size_t row = 0; row < rows; ++row) {
      float* gates = gates_memory_.data() + row * outputs_;
      double mean = 0, variance = 0;
      for (int i = 0; i < outputs_; ++i) mean += gates[i] -= bias_[i];
      mean /= outputs_;
      for (int i = 0; i < outputs_; ++i) variance += (gates[i] - mean) * (gates[i] - mean);
      const double inverse = 1 / std::sqrt(variance / outputs_ + forward_.parameters.eps);
      for (int i = 0; i < outputs_; ++i)
        gates[i] = static_cast<float>((gates[i] - mean) * inverse) * norm_ih_[i] + bias_[i];
    }
  }

  const Kernels* kernels_;
  Forward forward_{};
  Projection projection_{};
  int gates_ = 0, inputs_ = 0, outputs_ = 0;
  std::vector<float> bias_, bias_hh_, peephole_, norm_ih_, norm_hh_, norm_c_, gates_memory_;
  std::vector<std::uint16_t> half_;
  Memory packed_hh_, packed_ih_;
};

}  // namespace

void bind_step(nb::module_& m) {
  nb::class_<Step>(m, "Step", "One layer in one direction, a step at a time: weights packed once, no torch.")
      .def(nb::init<const std::string&, const std::string&, const Matrix&, const Matrix&, const OptionalVector&,
                    const OptionalVector&, const OptionalVector&, const OptionalVector&, const std::optional<Matrix>&,
                    const OptionalVector&, const OptionalVector&, const OptionalVector&, const OptionalVector&,
                    const OptionalVector&, double, double, double>(),
           "cell"_a, "type"_a, "weight_ih"_a, "weight_hh"_a, nb::kw_only(), "bias"_a = nb::none(),
           "bias_n"_a = nb::none(), "scale_ih"_a = nb::none(), "scale_hh"_a = nb::none(), "weight_hr"_a = nb::none(),
           "scale_hr"_a = nb::none(), "peephole"_a = nb::none(), "norm_ih"_a = nb::none(), "norm_hh"_a = nb::none(),
           "norm_c"_a = nb::none(), "zoneout_h"_a = 0.0, "zoneout_c"_a = 0.0, "eps"_a = 1e-5)
      .def("__call__", &Step::take, "x"_a.noconvert(), "h"_a.noconvert(), "c"_a.noconvert() = nb::none(),
           "x [B, I] and the states h [B, P], c [B, H], which become those of the next step, in place.");
}

}  // namespace tidegate::bindings
