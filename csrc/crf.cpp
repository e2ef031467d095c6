// The linear-chain conditional random field over ragged rows: log-likelihood and its gradients. Equations:
// kernels/crf.py.
//
// A step of the forward algorithm is s_j = sum_i exp(alpha_i) exp(T_ij - peak_j), a product with a matrix made once,
// and alpha'_j = emission_j + peak_j + log s_j, kept less its maximum over the tags. Where a sum is so small that what
// underflowed might matter, that tag is computed again in log space, so the result is that of log space everywhere.
//
// Backward, the marginals p of a step give those of the step before: with w_j = p_j / s_j the probability of the pair
// (i, j) is exp(alpha_i) exp(T_ij - peak_j) w_j, so one product and one sum of outer products are all there is.

#include <math.h>

#include "crf_sums.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

using namespace crf;

template <class Real> struct ForwardSpace {
  SumTables<Real> tables;
  Real *alpha, *p, *sums;  // [threads, rows of a block, width]

  ForwardSpace(Arena& arena, const CrfModel<Real>& model, int team) : tables(arena, model) {
    const std::size_t count = static_cast<std::size_t>(team) * kBlockRows * tables.width;
    alpha = arena.take<Real>(count);
    p = arena.take<Real>(count);
    sums = arena.take<Real>(count);
  }
};

template <class Real> class Forward {
 public:
  Forward(const CrfForward<Real>& a, const ForwardSpace<Real>& space, int first_row, int thread)
      : a_(a), K_(a.model.num_tags), width_(space.tables.width), first_row_(first_row),
        rows_(a.model.rows - first_row < kBlockRows ? a.model.rows - first_row : kBlockRows), tables_(space.tables),
        steps_{a.model.batch_sizes, space.tables.offsets, a.model.steps} {
    const std::size_t offset = static_cast<std::size_t>(thread) * kBlockRows * width_;
    alpha_ = space.alpha + offset;
    p_ = space.p + offset;
    sums_ = space.sums + offset;
  }

  void run() {
    for (int m = steps_.alive(0, first_row_, rows_); m < rows_; ++m) a_.value[first_row_ + m] = 0;
    const std::int64_t longest = steps_.longest(first_row_);
    for (std::int64_t t = 0; t < longest; ++t) {
      const int alive = steps_.alive(t, first_row_, rows_);
      in_groups(alive, [&](auto rows, int m) { step<decltype(rows)::count>(t, m); });
      if (a_.tags)
        for (int m = 0; m < alive; ++m) add_to_score(t, m);
      for (int m = steps_.alive(t + 1, first_row_, rows_); m < alive; ++m) finish(m);
    }
  }

 private:
  using V = Vec<Real>;
  static constexpr int kStep = kLanes<Real>;

  const Real* emissions(std::int64_t t, int m) const { return a_.model.emissions + steps_.at(t, first_row_ + m) * K_; }

  template <int R> TIDEGATE_INLINE void step(std::int64_t t, int first) {
    Real* sums = sums_ + first * width_;
    Real* next = p_ + first * width_;  // the probabilities are spent once the product is done
    IntVec<Real> low{};
    if (t > 0) product<Real, R>(p_ + first * width_, tables_.from, K_, width_, sums);
#pragma GCC unroll 8
    for (int m = 0; m < R; ++m)
      for (int j = 0; j < width_; j += kStep) {
        const V emission = load_lanes(emissions(t, first + m) + j, lanes_left<Real>(K_, j));
        if (t == 0) {
          store<Real>(sums + m * width_ + j, V{});
          store<Real>(next + m * width_ + j, emission + load<Real>(tables_.start + j));
        } else {
          const V sum = load<Real>(sums + m * width_ + j), peak = load<Real>(tables_.peak + j);
          store<Real>(next + m * width_ + j, emission + peak + log(sum));
          low |= (sum < broadcast<Real>(Limits<Real>::small_sum)) & (peak > broadcast<Real>(-kInfinity<Real>));
        }
      }
    if (__builtin_expect(any<Real>(low), 0))
      for (int m = first; m < first + R; ++m) in_log_space(t, m);
#pragma GCC unroll 8
    for (int m = first; m < first + R; ++m) rescale(t, m);
  }

  // The tags of a row whose sums are too small, again.
  void in_log_space(std::int64_t t, int m) {
    for (int j = 0; j < K_; ++j)
      if (sums_[m * width_ + j] < Limits<Real>::small_sum && tables_.peak[j] > -kInfinity<Real>) {
        const LogSum<Real> exact(alpha_ + m * width_, tables_.scores + static_cast<std::size_t>(j) * width_, K_);
        p_[m * width_ + j] = emissions(t, m)[j] + (exact.maximum + log(exact.sum))[0];
      }
  }

  // alpha less its maximum, and exp of that.
  TIDEGATE_INLINE void rescale(std::int64_t t, int m) {
    V maximum = broadcast<Real>(-kInfinity<Real>);
    for (int j = 0; j < width_; j += kStep) maximum = larger(maximum, load<Real>(p_ + m * width_ + j));
    maximum = finite<Real>(highest<Real>(maximum));
    scale_[m] = (t == 0 ? 0.0 : scale_[m]) + static_cast<double>(maximum[0]);
    Real* saved = a_.saved ? a_.saved + steps_.at(t, first_row_ + m) * 2 * K_ : nullptr;
    for (int j = 0; j < width_; j += kStep) {
      const V alpha = load<Real>(p_ + m * width_ + j) - maximum;
      store<Real>(alpha_ + m * width_ + j, alpha);
      store<Real>(p_ + m * width_ + j, probability<Real>(alpha));
      if (saved) {
        store_lanes(saved + j, alpha, lanes_left<Real>(K_, j));
        store_lanes(saved + K_ + j, load<Real>(sums_ + m * width_ + j), lanes_left<Real>(K_, j));
      }
    }
  }

  void add_to_score(std::int64_t t, int m) {
    const std::int64_t tag = a_.tags[steps_.at(t, first_row_ + m)];
    const Real* before = t == 0 ? a_.model.start : a_.model.transitions + last_tag_[m] * K_;
    const double gained = static_cast<double>(before[tag]) + static_cast<double>(emissions(t, m)[tag]);
    score_[m] = (t == 0 ? 0.0 : score_[m]) + gained;
    last_tag_[m] = tag;
  }

  void finish(int m) {
    const LogSum<Real> last(alpha_ + m * width_, tables_.end, K_);
    const double log_partition =
        scale_[m] + static_cast<double>(last.maximum[0]) + ::log(static_cast<double>(last.sum[0]));
    double value = log_partition;
    if (a_.tags) {
      const double score = score_[m] + static_cast<double>(a_.model.end[last_tag_[m]]);
      value = score == -kInfinity<double> ? score : score - log_partition;
    }
    a_.value[first_row_ + m] = static_cast<Real>(value);
  }

  const CrfForward<Real>& a_;
  const int K_, width_, first_row_, rows_;
  const SumTables<Real>& tables_;
  const Steps steps_;
  Real *alpha_, *p_, *sums_;
  double scale_[kBlockRows], score_[kBlockRows];
  std::int64_t last_tag_[kBlockRows];
};

// Rows go in blocks, blocks in turn to a number of parts that depends on the sizes alone, each with sums of its own:
// so the sums over rows do not depend on the threads.
inline constexpr int kMaxParts = 32;

template <class Real> struct BackwardSpace {
  SumTables<Real> tables;
  Real *p, *w, *scaled_w, *before, *products;  // [threads, rows of a block, width]
  Real *pairs;                    // [parts, K, width]: sums of outer products, still to be multiplied by tables.from
  Real *direct;                   // [parts, K, width]: sums at [j][i]
  Real *start, *end;              // [parts, width]

  BackwardSpace(Arena& arena, const CrfModel<Real>& model, int team, int parts) : tables(arena, model) {
    const std::size_t count = static_cast<std::size_t>(team) * kBlockRows * tables.width;
    const std::size_t square = static_cast<std::size_t>(parts) * model.num_tags * tables.width;
    p = arena.take<Real>(count);
    w = arena.take<Real>(count);
    scaled_w = arena.take<Real>(count);
    before = arena.take<Real>(count);
    products = arena.take<Real>(count);
    pairs = arena.take<Real>(square);
    direct = arena.take<Real>(square);
    start = arena.take<Real>(static_cast<std::size_t>(parts) * tables.width);
    end = arena.take<Real>(static_cast<std::size_t>(parts) * tables.width);
  }
};

template <class Real> class Backward {
 public:
  Backward(const CrfBackward<Real>& a, const BackwardSpace<Real>& space, int part, int thread)
      : a_(a), K_(a.model.num_tags), width_(space.tables.width), tables_(space.tables),
        steps_{a.model.batch_sizes, space.tables.offsets, a.model.steps} {
    const std::size_t offset = static_cast<std::size_t>(thread) * kBlockRows * width_;
    const std::size_t square = static_cast<std::size_t>(K_) * width_;
    p_ = space.p + offset;
    w_ = space.w + offset;
    scaled_w_ = space.scaled_w + offset;
    before_ = space.before + offset;
    products_ = space.products + offset;
    pairs_ = space.pairs + part * square;
    direct_ = space.direct + part * square;
    start_ = space.start + static_cast<std::size_t>(part) * width_;
    end_ = space.end + static_cast<std::size_t>(part) * width_;
    std::memset(pairs_, 0, square * sizeof(Real));
    std::memset(direct_, 0, square * sizeof(Real));
    std::memset(start_, 0, width_ * sizeof(Real));
    std::memset(end_, 0, width_ * sizeof(Real));
  }

  void run(int first_row) {
    first_row_ = first_row;
    const int rows = a_.model.rows - first_row < kBlockRows ? a_.model.rows - first_row : kBlockRows;
    for (int m = 0; m < rows; ++m) {
      // A row that no path may take, or whose own path is forbidden, has a constant value.
      const bool constant = a_.value[first_row + m] == -kInfinity<Real>;
      of_tags_[m] = constant || !a_.tags ? 0 : a_.grad_value[first_row + m];
      of_partition_[m] = constant ? 0 : a_.tags ? -a_.grad_value[first_row + m] : a_.grad_value[first_row + m];
    }
    for (std::int64_t t = steps_.longest(first_row) - 1; t >= 0; --t) {
      const int alive = steps_.alive(t, first_row, rows);
      for (int m = steps_.alive(t + 1, first_row, rows); m < alive; ++m) enter(t, m);
      for (int m = 0; m < alive; ++m) give(t, m);
      if (t > 0) in_groups(alive, [&](auto group, int m) { step<decltype(group)::count>(t, m); });
    }
  }

 private:
  using V = Vec<Real>;
  static constexpr int kStep = kLanes<Real>;

  const Real* saved(std::int64_t t, int m) const { return a_.saved + steps_.at(t, first_row_ + m) * 2 * K_; }
  const Real* sums(std::int64_t t, int m) const { return saved(t, m) + K_; }

  // The marginals of a row's last step.
  void enter(std::int64_t t, int m) {
    const LogSum<Real> last(saved(t, m), tables_.end, K_);
    for (int j = 0; j < width_; j += kStep) {
      const V term = last.term(saved(t, m), tables_.end, j, K_);
      const V p = without_negligible<Real>(select<Real>(last.sum == V{}, V{}, term / last.sum));
      store<Real>(p_ + m * width_ + j, p);
      store<Real>(end_ + j, multiply_add(broadcast<Real>(of_partition_[m]), p, load<Real>(end_ + j)));
    }
    if (a_.tags) end_[a_.tags[steps_.at(t, first_row_ + m)]] += of_tags_[m];
  }

  // The gradients that the marginals of one step are: of its emissions, and of start at the first.
  TIDEGATE_INLINE void give(std::int64_t t, int m) {
    const std::int64_t place = steps_.at(t, first_row_ + m);
    Real* grad = a_.grad_emissions + place * K_;
    for (int j = 0; j < width_; j += kStep) {
      const V p = load<Real>(p_ + m * width_ + j), scaled = broadcast<Real>(of_partition_[m]) * p;
      store_lanes(grad + j, scaled, lanes_left<Real>(K_, j));
      if (t == 0) store<Real>(start_ + j, load<Real>(start_ + j) + scaled);
    }
    if (!a_.tags) return;
    const std::int64_t tag = a_.tags[place];
    grad[tag] += of_tags_[m];
    if (t == 0) start_[tag] += of_tags_[m];
    else direct_[tag * width_ + a_.tags[steps_.at(t - 1, first_row_ + m)]] += of_tags_[m];
  }

  // From the marginals of step t to those of t - 1; the pairs of the two steps are added up on the way.
  template <int R> TIDEGATE_INLINE void step(std::int64_t t, int first) {
    const int at = first * width_;
    IntVec<Real> low{};
#pragma GCC unroll 8
    for (int m = 0; m < R; ++m)
      for (int j = 0; j < width_; j += kStep) {
        const int lanes = lanes_left<Real>(K_, j);
        const V sum = load_lanes(sums(t, first + m) + j, lanes), p = load<Real>(p_ + at + m * width_ + j);
        const IntVec<Real> small = sum < broadcast<Real>(Limits<Real>::small_sum);
        const V w = select<Real>(small, V{}, p / sum);
        low |= small & (p > V{});
        store<Real>(w_ + at + m * width_ + j, w);
        store<Real>(scaled_w_ + at + m * width_ + j, w * of_partition_[first + m]);
        store<Real>(before_ + at + m * width_ + j,
                    probability<Real>(load_lanes(saved(t - 1, first + m) + j, lanes)));
      }
    product<Real, R>(w_ + at, tables_.into, K_, width_, products_ + at);
    add_pairs<R>(first);
    const bool repair = any<Real>(low);
#pragma GCC unroll 8
    for (int m = first; m < first + R; ++m) {
      Real* next = products_ + m * width_;
      for (int j = 0; j < width_; j += kStep)
        store<Real>(next + j, load<Real>(next + j) * load<Real>(before_ + m * width_ + j));
      if (__builtin_expect(repair, 0)) in_log_space(t, m);
      for (int j = 0; j < width_; j += kStep)
        store<Real>(p_ + m * width_ + j, without_negligible<Real>(load<Real>(next + j)));
    }
  }

  template <int R> TIDEGATE_INLINE void add_pairs(int first) {
    for (int j = 0; j < width_; j += kStep) {
      V scaled[R];
#pragma GCC unroll 8
      for (int m = 0; m < R; ++m) scaled[m] = load<Real>(scaled_w_ + (first + m) * width_ + j);
      for (int i = 0; i < K_; ++i) {
        Real* to = pairs_ + static_cast<std::size_t>(i) * width_ + j;
        V sum = load<Real>(to);
#pragma GCC unroll 8
        for (int m = 0; m < R; ++m)
          sum = multiply_add(broadcast<Real>(before_[(first + m) * width_ + i]), scaled[m], sum);
        store<Real>(to, sum);
      }
    }
  }

  // The tags of a row whose sums were too small.
  void in_log_space(std::int64_t t, int m) {
    const Real* alpha = saved(t - 1, m);
    for (int j = 0; j < K_; ++j) {
      const Real p = p_[m * width_ + j];
      if (!(sums(t, m)[j] < Limits<Real>::small_sum && p > 0)) continue;
      const Real* scores = tables_.scores + static_cast<std::size_t>(j) * width_;
      const LogSum<Real> exact(alpha, scores, K_);
      const V share = broadcast<Real>(p) / exact.sum;
      for (int i = 0; i < width_; i += kStep) {
        const V pair = share * exact.term(alpha, scores, i, K_);
        Real* next = products_ + m * width_ + i;
        Real* direct = direct_ + static_cast<std::size_t>(j) * width_ + i;
        store<Real>(next, load<Real>(next) + pair);
        store<Real>(direct, multiply_add(broadcast<Real>(of_partition_[m]), pair, load<Real>(direct)));
      }
    }
  }

  const CrfBackward<Real>& a_;
  const int K_, width_;
  int first_row_ = 0;
  const SumTables<Real>& tables_;
  const Steps steps_;
  Real *p_, *w_, *scaled_w_, *before_, *products_, *pairs_, *direct_, *start_, *end_;
  Real of_partition_[kBlockRows], of_tags_[kBlockRows];
};

// The parts' sums, in the order of the parts.
template <class Real>
void add_parts(const CrfBackward<Real>& a, const BackwardSpace<Real>& space, int parts, int team) {
  const int K = a.model.num_tags, width = space.tables.width;
  const std::size_t square = static_cast<std::size_t>(K) * width;
  for_parts(team, K, [&](int i, int) {
    Real start = 0, end = 0;
    for (int part = 0; part < parts; ++part) {
      start += space.start[static_cast<std::size_t>(part) * width + i];
      end += space.end[static_cast<std::size_t>(part) * width + i];
    }
    a.grad_start[i] = start;
    a.grad_end[i] = end;
    for (int j = 0; j < K; ++j) {
      Real pairs = 0, direct = 0;
      for (int part = 0; part < parts; ++part) {
        pairs += space.pairs[part * square + static_cast<std::size_t>(i) * width + j];
        direct += space.direct[part * square + static_cast<std::size_t>(j) * width + i];
      }
      const Real factor = space.tables.from[static_cast<std::size_t>(i) * width + j];
      a.grad_transitions[static_cast<std::size_t>(i) * K + j] = (factor == 0 ? 0 : factor * pairs) + direct;
    }
  });
}

template <class Real> void crf_forward(const CrfForward<Real>& a) {
  const int blocks = count_blocks(a.model.rows);
  const int team = team_size(a.model.threads, blocks, operations(a.model));
  const auto space = make_space<ForwardSpace<Real>>(a.model, team);
  space.tables.fill(a.model);
  for_parts(team, blocks,
            [&](int block, int thread) { Forward<Real>(a, space, block * kBlockRows, thread).run(); });
}

template <class Real> void crf_backward(const CrfBackward<Real>& a) {
  const int blocks = count_blocks(a.model.rows);
  const int parts = blocks < kMaxParts ? blocks : kMaxParts;
  const int team = team_size(a.model.threads, parts, 2 * operations(a.model));
  const auto space = make_space<BackwardSpace<Real>>(a.model, team, parts);
  space.tables.fill(a.model);
  for_parts(team, parts, [&](int part, int thread) {
    Backward<Real> backward(a, space, part, thread);
    for (int block = part; block < blocks; block += parts) backward.run(block * kBlockRows);
  });
  const double sums = static_cast<double>(parts) * a.model.num_tags * a.model.num_tags;
  add_parts(a, space, parts, team_size(a.model.threads, a.model.num_tags, sums));
}

}  // namespace

template <class Real> void crf_viterbi(const CrfViterbi<Real>&);  // viterbi.cpp
template <class Real> void crf_k_best(const CrfKBest<Real>&);

extern const CrfKernels crf_kernels;
const CrfKernels crf_kernels{crf_forward<float>, crf_forward<double>, crf_backward<float>, crf_backward<double>,
                             crf_viterbi<float>, crf_viterbi<double>, crf_k_best<float>,   crf_k_best<double>};

}  // namespace tidegate::TIDEGATE_ISA
