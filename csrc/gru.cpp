// The gated recurrent unit over ragged rows, forward and backward. Equations: kernels/__init__.py, gru().
// Forward, a step is one product of the states with the packed weights of all gates, whose epilogue is the cell.
// Backward, a step is the cell's derivative, element by element, and one product with the weights.

#include "activations.h"
#include "sequence.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

template <class Real> int valid_lanes(int units, int block) {
  const int left = units - block * kLanes<Real>;
  return left < kLanes<Real> ? left : kLanes<Real>;
}

template <class Real> struct Workspace {
  std::int64_t* offsets;
  Real* packed;          // [D, packed_size]
  std::size_t packed_size;
  Real* scratch;         // [D, B, 2, H] where the reset gate comes before the product

  Workspace(const std::int64_t* batch_sizes, std::int64_t steps, int directions, int rows, int units, bool scratched) {
    packed_size = static_cast<std::size_t>(unit_blocks<Real>(units)) * kLanes<Real> * units * 3;
    const std::size_t offset_bytes = aligned(static_cast<std::size_t>(steps + 1) * sizeof(std::int64_t));
    const std::size_t packed_bytes = aligned(directions * packed_size * sizeof(Real));
    const std::size_t scratch_bytes =
        scratched ? aligned(static_cast<std::size_t>(directions) * rows * 2 * units * sizeof(Real)) : 0;
    char* memory = static_cast<char*>(workspace(offset_bytes + packed_bytes + scratch_bytes));
    offsets = reinterpret_cast<std::int64_t*>(memory);
    packed = reinterpret_cast<Real*>(memory + offset_bytes);
    scratch = reinterpret_cast<Real*>(memory + offset_bytes + packed_bytes);
    find_offsets(batch_sizes, steps, offsets);
  }
};

template <class Real> class Forward {
 public:
  Forward(const GruForward<Real>& a, const Workspace<Real>& space, int direction)
      : a_(a), H_(a.units), index_(direction), packed_(space.packed + direction * space.packed_size),
        scratch_(space.scratch + static_cast<std::int64_t>(direction) * a.rows * 2 * a.units),
        walk_{a.batch_sizes, space.offsets, a.steps, a.directions, a.rows, a.units, direction, a.h_0, a.output} {}

  void pack(int block) const {
    const Real* weights = a_.weight_hh + static_cast<std::size_t>(index_) * 3 * H_ * H_;
    Real* packed = const_cast<Real*>(packed_);
    if (a_.reset_after) return pack_gates<Real>(weights, 3, H_, H_, block, packed);
    pack_gates<Real>(weights, 2, H_, H_, block, packed);
    pack_gates<Real>(weights + static_cast<std::size_t>(2) * H_ * H_, 1, H_, H_, block, packed + candidate_offset());
  }

  void run(const Share& share) const {
    for (std::int64_t i = 0; i < a_.steps; ++i) {
      const std::int64_t t = index_ == 0 ? i : a_.steps - 1 - i;
      const int alive = walk_.alive(t);
      if (a_.reset_after) {
        share.for_products<3>(alive, [&](auto rows, auto blocks, int row, int block) {
          reset_after<rows.value, blocks.value>(t, row, block);
        });
      } else {
        share.for_products<2>(alive, [&](auto rows, auto blocks, int row, int block) {
          gates_before<rows.value, blocks.value>(t, row, block);
        });
        share.barrier->wait();
        share.for_products<1>(alive, [&](auto rows, auto blocks, int row, int block) {
          candidate_before<rows.value, blocks.value>(t, row, block);
        });
      }
      share.barrier->wait();
    }
    last_states(share);
  }

 private:
  using V = Vec<Real>;

  std::size_t candidate_offset() const {
    return static_cast<std::size_t>(unit_blocks<Real>(H_)) * kLanes<Real> * H_ * 2;
  }

  template <int Rows> void previous_states(std::int64_t t, int row, const Real* (&states)[Rows]) const {
    for (int m = 0; m < Rows; ++m) states[m] = walk_.previous(t, row + m);
  }

  template <int Rows, int Blocks> void prefetch(std::int64_t t, int row, int block, int gates) const {
    for (int m = 0; m < Rows; ++m) {
      const Real* from = walk_.at(a_.gates, t, row + m, 3 * H_) + block * kLanes<Real>;
      for (int g = 0; g < gates; ++g)
        for (int b = 0; b < Blocks; ++b) __builtin_prefetch(from + g * H_ + b * kLanes<Real>);
    }
  }

  template <int Rows, int Blocks> TIDEGATE_INLINE void reset_after(std::int64_t t, int row, int block) const {
    const Real* states[Rows];
    previous_states<Rows>(t, row, states);
    prefetch<Rows, Blocks>(t, row, block, 3);
    V sums[Rows][Blocks][3] = {};
    if (a_.bias_n)
      for (int b = 0; b < Blocks; ++b) {
        const int unit = (block + b) * kLanes<Real>;
        const V bias = load_lanes<Real>(a_.bias_n + index_ * H_ + unit, valid_lanes<Real>(H_, block + b));
        for (int m = 0; m < Rows; ++m) sums[m][b][2] = bias;
      }
    const std::size_t stride = static_cast<std::size_t>(H_) * 3 * kLanes<Real>;
    multiply<Real, Rows, Blocks, 3>(states, packed_ + block * stride, stride, H_, sums);
    for (int m = 0; m < Rows; ++m)
      for (int b = 0; b < Blocks; ++b) {
        const int unit = (block + b) * kLanes<Real>, lanes = valid_lanes<Real>(H_, block + b);
        const Real* x = walk_.at(a_.gates, t, row + m, 3 * H_) + unit;
        const V r = sigmoid(load_lanes<Real>(x, lanes) + sums[m][b][0]);
        const V z = sigmoid(load_lanes<Real>(x + H_, lanes) + sums[m][b][1]);
        const V n = tanh(multiply_add(r, sums[m][b][2], load_lanes<Real>(x + 2 * H_, lanes)));
        const V h = load_lanes<Real>(states[m] + unit, lanes);
        store_lanes<Real>(walk_.at(a_.output, t, row + m, H_) + unit, multiply_add(z, h - n, n), lanes);
        if (a_.saved) {
          Real* saved = walk_.at(a_.saved, t, row + m, 4 * H_) + unit;
          store_lanes<Real>(saved, r, lanes);
          store_lanes<Real>(saved + H_, z, lanes);
          store_lanes<Real>(saved + 2 * H_, n, lanes);
          store_lanes<Real>(saved + 3 * H_, sums[m][b][2], lanes);
        }
      }
  }

  // r and z; the product r * h and z wait in the scratch memory for the candidate.
  template <int Rows, int Blocks> TIDEGATE_INLINE void gates_before(std::int64_t t, int row, int block) const {
    const Real* states[Rows];
    previous_states<Rows>(t, row, states);
    prefetch<Rows, Blocks>(t, row, block, 2);
    V sums[Rows][Blocks][2] = {};
    const std::size_t stride = static_cast<std::size_t>(H_) * 2 * kLanes<Real>;
    multiply<Real, Rows, Blocks, 2>(states, packed_ + block * stride, stride, H_, sums);
    for (int m = 0; m < Rows; ++m)
      for (int b = 0; b < Blocks; ++b) {
        const int unit = (block + b) * kLanes<Real>, lanes = valid_lanes<Real>(H_, block + b);
        const Real* x = walk_.at(a_.gates, t, row + m, 3 * H_) + unit;
        const V r = sigmoid(load_lanes<Real>(x, lanes) + sums[m][b][0]);
        const V z = sigmoid(load_lanes<Real>(x + H_, lanes) + sums[m][b][1]);
        Real* scratch = scratch_ + static_cast<std::int64_t>(row + m) * 2 * H_ + unit;
        store_lanes<Real>(scratch, r * load_lanes<Real>(states[m] + unit, lanes), lanes);
        store_lanes<Real>(scratch + H_, z, lanes);
        if (a_.saved) store_lanes<Real>(walk_.at(a_.saved, t, row + m, 3 * H_) + unit, r, lanes);
      }
  }

  template <int Rows, int Blocks> TIDEGATE_INLINE void candidate_before(std::int64_t t, int row, int block) const {
    const Real* states[Rows];
    const Real* reset[Rows];
    previous_states<Rows>(t, row, states);
    for (int m = 0; m < Rows; ++m) reset[m] = scratch_ + static_cast<std::int64_t>(row + m) * 2 * H_;
    V sums[Rows][Blocks][1] = {};
    const std::size_t stride = static_cast<std::size_t>(H_) * kLanes<Real>;
    multiply<Real, Rows, Blocks, 1>(reset, packed_ + candidate_offset() + block * stride, stride, H_, sums);
    for (int m = 0; m < Rows; ++m)
      for (int b = 0; b < Blocks; ++b) {
        const int unit = (block + b) * kLanes<Real>, lanes = valid_lanes<Real>(H_, block + b);
        const V z = load_lanes<Real>(reset[m] + H_ + unit, lanes);
        const V n = tanh(load_lanes<Real>(walk_.at(a_.gates, t, row + m, 3 * H_) + 2 * H_ + unit, lanes) + sums[m][b][0]);
        const V h = load_lanes<Real>(states[m] + unit, lanes);
        store_lanes<Real>(walk_.at(a_.output, t, row + m, H_) + unit, multiply_add(z, h - n, n), lanes);
        if (a_.saved) {
          Real* saved = walk_.at(a_.saved, t, row + m, 3 * H_) + unit;
          store_lanes<Real>(saved + H_, z, lanes);
          store_lanes<Real>(saved + 2 * H_, n, lanes);
        }
      }
  }

  // h_n: the output of each row's last step, h_0 where it has none.
  void last_states(const Share& share) const {
    const int first = share.first_block * kLanes<Real>;
    const int past = share.last_block * kLanes<Real> < H_ ? share.last_block * kLanes<Real> : H_;
    share.for_rows(a_.rows, [&](int row, int rows) {
      std::int64_t last = 0;
      for (int m = rows - 1; m >= 0; --m) {
        const Real* state = walk_.h_0 + (static_cast<std::int64_t>(index_) * a_.rows + row + m) * H_;
        if (row + m < walk_.alive(0)) {
          if (index_ == 0)
            while (row + m < walk_.alive(last + 1)) ++last;
          state = walk_.at(walk_.output, last, row + m, H_);
        }
        Real* to = a_.h_n + (static_cast<std::int64_t>(index_) * a_.rows + row + m) * H_;
        std::memcpy(to + first, state + first, static_cast<std::size_t>(past - first) * sizeof(Real));
      }
    });
  }

  const GruForward<Real>& a_;
  const int H_, index_;
  const Real* packed_;
  Real* scratch_;
  Direction<Real> walk_;
};

template <class Real> class Backward {
 public:
  Backward(const GruBackward<Real>& a, const Workspace<Real>& space, int direction)
      : a_(a), H_(a.units), S_(a.reset_after ? 4 : 3), index_(direction),
        packed_(space.packed + direction * space.packed_size),
        carry_(a.grad_h_0 + static_cast<std::int64_t>(direction) * a.rows * a.units),
        walk_{a.batch_sizes, space.offsets, a.steps, a.directions, a.rows, a.units, direction, a.h_0, a.output} {}

  // The rows of the packed matrix follow the order of the gradients: n r z after, n alone and then r z before.
  void pack(int block) const {
    const Real* weights = a_.weight_hh + static_cast<std::size_t>(index_) * 3 * H_ * H_;
    const Real* candidate = weights + static_cast<std::size_t>(2) * H_ * H_;
    const std::size_t square = static_cast<std::size_t>(H_) * kLanes<Real>;
    Real* packed = const_cast<Real*>(packed_);
    Real* first = packed + block * square * (a_.reset_after ? 3 : 1);
    Real* second = a_.reset_after ? first + square : packed + gates_offset() + block * square * 2;
    pack_columns<Real>(candidate, H_, H_, block, first);
    pack_columns<Real>(weights, H_, 2 * H_, block, second);
  }

  void run(const Share& share) const {
    start(share);
    for (std::int64_t i = a_.steps - 1; i >= 0; --i) {
      const std::int64_t t = index_ == 0 ? i : a_.steps - 1 - i;
      const int alive = walk_.alive(t);
      share.for_rows(alive, [&](int row, int rows) {
        for (int m = 0; m < rows; ++m)
          for (int block = share.first_block; block < share.last_block; ++block) derivative(t, row + m, block);
      });
      share.barrier->wait();
      if (!a_.reset_after) {
        share.for_products<1>(alive, [&](auto rows, auto blocks, int row, int block) {
          reset_before<rows.value, blocks.value>(t, row, block);
        });
        share.barrier->wait();
      }
      const int depth = a_.reset_after ? 3 * H_ : 2 * H_;
      const Real* packed = packed_ + (a_.reset_after ? 0 : gates_offset());
      share.for_products<1>(alive, [&](auto rows, auto blocks, int row, int block) {
        carry_back<rows.value, blocks.value>(t, row, block, packed, depth);
      });
    }
  }

 private:
  using V = Vec<Real>;

  std::size_t gates_offset() const { return static_cast<std::size_t>(unit_blocks<Real>(H_)) * kLanes<Real> * H_; }

  Real* carried(int row) const { return carry_ + static_cast<std::int64_t>(row) * H_; }

  // grad_h_0 carries the gradient of the state from step to step; it starts as that of the last state.
  void start(const Share& share) const {
    const int first = share.first_block * kLanes<Real>;
    const int past = share.last_block * kLanes<Real> < H_ ? share.last_block * kLanes<Real> : H_;
    share.for_rows(a_.rows, [&](int row, int rows) {
      for (int m = 0; m < rows; ++m)
        std::memcpy(carried(row + m) + first,
                    a_.grad_h_n + (static_cast<std::int64_t>(index_) * a_.rows + row + m) * H_ + first,
                    static_cast<std::size_t>(past - first) * sizeof(Real));
    });
  }

  // The gradients of the gates before their activations; what reaches h_{t-1} directly, z * dh, goes to the carry.
  TIDEGATE_INLINE void derivative(std::int64_t t, int row, int block) const {
    const int unit = block * kLanes<Real>, lanes = valid_lanes<Real>(H_, block);
    const Real* saved = walk_.at(a_.saved, t, row, S_ * H_) + unit;
    Real* grad = walk_.at(a_.grad_gates, t, row, S_ * H_) + unit;
    Real* carry = carried(row) + unit;
    const V r = load_lanes<Real>(saved, lanes), z = load_lanes<Real>(saved + H_, lanes);
    const V n = load_lanes<Real>(saved + 2 * H_, lanes);
    const V h = load_lanes<Real>(walk_.previous(t, row) + unit, lanes);
    const V dh = load_lanes<Real>(carry, lanes) + load_lanes<Real>(walk_.at(a_.grad_output, t, row, H_) + unit, lanes);
    const V dz = dh * (h - n) * z * (1 - z);
    const V dn = dh * (1 - z) * (1 - n * n);
    store_lanes<Real>(carry, dh * z, lanes);
    if (a_.reset_after) {
      const V product = load_lanes<Real>(saved + 3 * H_, lanes);
      store_lanes<Real>(grad, dn * r, lanes);
      store_lanes<Real>(grad + H_, dn * product * r * (1 - r), lanes);
      store_lanes<Real>(grad + 2 * H_, dz, lanes);
      store_lanes<Real>(grad + 3 * H_, dn, lanes);
    } else {
      store_lanes<Real>(grad + H_, dz, lanes);
      store_lanes<Real>(grad + 2 * H_, dn, lanes);
    }
  }

  // d(r * h) = dn W_hn, then the reset gate's own gradient.
  template <int Rows, int Blocks> TIDEGATE_INLINE void reset_before(std::int64_t t, int row, int block) const {
    const Real* inputs[Rows];
    for (int m = 0; m < Rows; ++m) inputs[m] = walk_.at(a_.grad_gates, t, row + m, 3 * H_) + 2 * H_;
    V sums[Rows][Blocks][1] = {};
    const std::size_t stride = static_cast<std::size_t>(H_) * kLanes<Real>;
    multiply<Real, Rows, Blocks, 1>(inputs, packed_ + block * stride, stride, H_, sums);
    for (int m = 0; m < Rows; ++m)
      for (int b = 0; b < Blocks; ++b) {
        const int unit = (block + b) * kLanes<Real>, lanes = valid_lanes<Real>(H_, block + b);
        const V r = load_lanes<Real>(walk_.at(a_.saved, t, row + m, 3 * H_) + unit, lanes);
        const V h = load_lanes<Real>(walk_.previous(t, row + m) + unit, lanes);
        Real* carry = carried(row + m) + unit;
        store_lanes<Real>(carry, multiply_add(sums[m][b][0], r, load_lanes<Real>(carry, lanes)), lanes);
        store_lanes<Real>(walk_.at(a_.grad_gates, t, row + m, 3 * H_) + unit, sums[m][b][0] * h * r * (1 - r), lanes);
      }
  }

  template <int Rows, int Blocks>
  TIDEGATE_INLINE void carry_back(std::int64_t t, int row, int block, const Real* packed, int depth) const {
    const Real* inputs[Rows];
    for (int m = 0; m < Rows; ++m) inputs[m] = walk_.at(a_.grad_gates, t, row + m, S_ * H_);
    V sums[Rows][Blocks][1];
    for (int m = 0; m < Rows; ++m)
      for (int b = 0; b < Blocks; ++b)
        sums[m][b][0] =
            load_lanes<Real>(carried(row + m) + (block + b) * kLanes<Real>, valid_lanes<Real>(H_, block + b));
    const std::size_t stride = static_cast<std::size_t>(depth) * kLanes<Real>;
    multiply<Real, Rows, Blocks, 1>(inputs, packed + block * stride, stride, depth, sums);
    for (int m = 0; m < Rows; ++m)
      for (int b = 0; b < Blocks; ++b)
        store_lanes<Real>(carried(row + m) + (block + b) * kLanes<Real>, sums[m][b][0],
                          valid_lanes<Real>(H_, block + b));
  }

  const GruBackward<Real>& a_;
  const int H_, S_, index_;
  const Real* packed_;
  Real* carry_;
  Direction<Real> walk_;
};

// Both passes: prepare the workspace, pack the weights, and send the team through the steps.
template <template <class> class Pass, class Real, class Arguments> void run_pass(const Arguments& a, bool scratched) {
  const Workspace<Real> space(a.batch_sizes, a.steps, a.directions, a.rows, a.units, scratched);
  run_directions(
      a.threads, a.directions, unit_blocks<Real>(a.units), a.rows, a.values, a.steps,
      static_cast<double>(space.packed_size) * sizeof(Real),
      [&](int direction, int block) { Pass<Real>(a, space, direction).pack(block); },
      [&](int direction, const Share& share) { Pass<Real>(a, space, direction).run(share); });
}

}  // namespace

template <class Real> void gru_forward(const GruForward<Real>& a) { run_pass<Forward, Real>(a, !a.reset_after); }
template <class Real> void gru_backward(const GruBackward<Real>& a) { run_pass<Backward, Real>(a, false); }

void activate(Activation activation, const float* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes<float>) {
    const int lanes = count - i < kLanes<float> ? static_cast<int>(count - i) : kLanes<float>;
    const Vec<float> x = load_lanes<float>(from + i, lanes);
    const Vec<float> y = activation == Activation::exp ? exp(x) : activation == Activation::sigmoid ? sigmoid(x) : tanh(x);
    store_lanes<float>(to + i, y, lanes);
  }
}

#define TIDEGATE_STRING_OF(name) #name
#define TIDEGATE_STRING(name) TIDEGATE_STRING_OF(name)

extern const CrfKernels crf_kernels;
extern const Kernels kernels;
const Kernels kernels{TIDEGATE_STRING(TIDEGATE_ISA),
                      gru_forward<float>,
                      gru_forward<double>,
                      gru_backward<float>,
                      gru_backward<double>,
                      activate,
                      &crf_kernels};

}  // namespace tidegate::TIDEGATE_ISA
