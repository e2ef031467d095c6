// The best tag sequences of the conditional random field over ragged rows (Viterbi), one or the k best.
//
// The best path's scores go through the steps without back pointers: afterwards the path alone is walked back, finding
// at each step the tag whose sum attained the maximum. Scores are kept less their maximum over the tags, so that long
// rows lose no digits. Among equals the lowest tag counts, at every step from the last one down.

#include "crf_rows.h"

namespace tidegate::TIDEGATE_ISA {

namespace {

using namespace crf;

template <class Real> struct PathTables : Tables<Real> {
  Real* from;  // [K, width]: T_ij at [i][j], minus infinity beyond K

  PathTables(Arena& arena, const CrfModel<Real>& model) : Tables<Real>(arena, model) {
    from = this->take_square(arena, model);
  }

  void fill(const CrfModel<Real>& model) const {
    Tables<Real>::fill(model);
    const int K = model.num_tags, width = this->width;
    for (int i = 0; i < K; ++i)
      for (int j = 0; j < width; ++j)
        from[static_cast<std::size_t>(i) * width + j] =
            j < K ? model.transitions[static_cast<std::size_t>(i) * K + j] : -kInfinity<Real>;
  }
};

template <class Real> struct BestSpace {
  PathTables<Real> tables;
  Real* history;  // [threads, steps, rows of a block, width]
  std::size_t of_thread;

  BestSpace(Arena& arena, const CrfModel<Real>& model, int team)
      : tables(arena, model), of_thread(static_cast<std::size_t>(model.steps) * kBlockRows * tables.width) {
    history = arena.take<Real>(team * of_thread);
  }
};

template <class Real> class Best {
 public:
  Best(const CrfViterbi<Real>& a, const BestSpace<Real>& space, int first_row, int thread)
      : a_(a), K_(a.model.num_tags), width_(space.tables.width), first_row_(first_row),
        rows_(a.model.rows - first_row < kBlockRows ? a.model.rows - first_row : kBlockRows), tables_(space.tables),
        steps_{a.model.batch_sizes, space.tables.offsets, a.model.steps},
        history_(space.history + thread * space.of_thread) {}

  void run() {
    for (int m = steps_.alive(0, first_row_, rows_); m < rows_; ++m) a_.scores[first_row_ + m] = 0;
    const std::int64_t longest = steps_.longest(first_row_);
    for (std::int64_t t = 0; t < longest; ++t) {
      const int alive = steps_.alive(t, first_row_, rows_);
      in_groups(alive, [&](auto rows, int m) { step<decltype(rows)::count>(t, m); });
      for (int m = steps_.alive(t + 1, first_row_, rows_); m < alive; ++m) finish(t, m);
    }
    for (std::int64_t t = longest - 1; t >= 0; --t) {
      const int alive = steps_.alive(t, first_row_, rows_), goes_on = steps_.alive(t + 1, first_row_, rows_);
      for (int m = 0; m < alive; ++m) {
        if (m < goes_on && tag_[m] >= 0)
          tag_[m] = best(at(t, m), tables_.scores + static_cast<std::size_t>(tag_[m]) * width_).tag;
        a_.tags[steps_.at(t, first_row_ + m)] = tag_[m];
      }
    }
  }

 private:
  using V = Vec<Real>;
  static constexpr int kStep = kLanes<Real>;

  Real* at(std::int64_t t, int m) const { return history_ + (t * kBlockRows + m) * width_; }

  template <int R> TIDEGATE_INLINE void step(std::int64_t t, int first) {
    constexpr int most = kVectorRegisters * 3 / 4 / R >= 4 ? 4 : kVectorRegisters * 3 / 4 / R >= 2 ? 2 : 1;
    int j = 0;
    for (; width_ - j >= most * kStep; j += most * kStep) reach<R, most>(t, first, j);
    if constexpr (most == 4)
      if (width_ - j >= 2 * kStep) {
        reach<R, 2>(t, first, j);
        j += 2 * kStep;
      }
    if constexpr (most > 1)
      if (j < width_) reach<R, 1>(t, first, j);
#pragma GCC unroll 8
    for (int m = first; m < first + R; ++m) {
      Real* scores = at(t, m);
      V maximum = broadcast<Real>(-kInfinity<Real>);
      for (int i = 0; i < width_; i += kStep) maximum = larger(maximum, load<Real>(scores + i));
      maximum = finite<Real>(highest<Real>(maximum));
      scale_[m] = (t == 0 ? 0.0 : scale_[m]) + static_cast<double>(maximum[0]);
      for (int i = 0; i < width_; i += kStep) store<Real>(scores + i, load<Real>(scores + i) - maximum);
    }
  }

  // The scores of the best paths to tags j, j + 1, ... at step t.
  template <int R, int Blocks> TIDEGATE_INLINE void reach(std::int64_t t, int first, int j) {
    V best[R][Blocks];
    if (t == 0) {
#pragma GCC unroll 8
      for (int m = 0; m < R; ++m)
        for (int b = 0; b < Blocks; ++b) best[m][b] = load<Real>(tables_.start + j + b * kStep);
    } else {
      const Real* before = at(t - 1, first);
#pragma GCC unroll 8
      for (int m = 0; m < R; ++m)
        for (int b = 0; b < Blocks; ++b) best[m][b] = broadcast<Real>(-kInfinity<Real>);
      for (int i = 0; i < K_; ++i) {
        V scores[Blocks];
#pragma GCC unroll 4
        for (int b = 0; b < Blocks; ++b)
          scores[b] = load<Real>(tables_.from + static_cast<std::size_t>(i) * width_ + j + b * kStep);
#pragma GCC unroll 8
        for (int m = 0; m < R; ++m) {
          const V reached = broadcast<Real>(before[m * width_ + i]);
#pragma GCC unroll 4
          for (int b = 0; b < Blocks; ++b) best[m][b] = larger(best[m][b], reached + scores[b]);
        }
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < R; ++m)
      for (int b = 0; b < Blocks; ++b) {
        const int tag = j + b * kStep;
        const Real* emissions = a_.model.emissions + steps_.at(t, first_row_ + first + m) * K_ + tag;
        store<Real>(at(t, first + m) + tag, best[m][b] + load_lanes(emissions, lanes_left<Real>(K_, tag)));
      }
  }

  struct Choice {
    Real score;
    std::int64_t tag;
  };

  // The largest of scores + more, and the lowest tag that has it.
  TIDEGATE_INLINE Choice best(const Real* scores, const Real* more) const {
    IntVec<Real> lane;
    for (int i = 0; i < kStep; ++i) lane[i] = i;
    V maximum = broadcast<Real>(-kInfinity<Real>);
    IntVec<Real> tag = lane;
    for (int i = 0; i < width_; i += kStep) {
      const V sum = load<Real>(scores + i) + load<Real>(more + i);
      const IntVec<Real> better = sum > maximum;
      maximum = select<Real>(better, sum, maximum);
      tag = (better & (lane + i)) | (~better & tag);
    }
    const V score = highest<Real>(maximum);
    const IntVec<Real> attains = maximum == score;
    tag = (attains & tag) | (~attains & (IntVec<Real>{} + 0x7fffffff));
    tag = fold<IntVec<Real>, kStep>(tag, [](IntVec<Real> a, IntVec<Real> b) {
      const IntVec<Real> lower = a < b;
      return (lower & a) | (~lower & b);
    });
    return {score[0], tag[0]};
  }

  void finish(std::int64_t t, int m) {
    const Choice choice = best(at(t, m), tables_.end);
    a_.scores[first_row_ + m] = static_cast<Real>(scale_[m] + static_cast<double>(choice.score));
    tag_[m] = choice.score == -kInfinity<Real> ? -1 : choice.tag;
  }

  const CrfViterbi<Real>& a_;
  const int K_, width_, first_row_, rows_;
  const PathTables<Real>& tables_;
  const Steps steps_;
  Real* history_;
  double scale_[kBlockRows];
  std::int64_t tag_[kBlockRows];
};

// The k best: every tag keeps the scores of the k best paths that end in it, best first, with where each came from.
// Lanes run over the tags that are reached.
template <class Real> using Place = decltype(IntVec<Real>{}[0] + 0);

template <class Real> struct KBestSpace {
  PathTables<Real> tables;
  Real *scores, *next;  // [threads, k, width]
  Place<Real>* back;    // [threads, steps, k, width]: places in the scores of the step before; -1 where no path is
  std::size_t of_step, of_thread;

  KBestSpace(Arena& arena, const CrfModel<Real>& model, int k, int team)
      : tables(arena, model), of_step(static_cast<std::size_t>(k) * tables.width),
        of_thread(static_cast<std::size_t>(model.steps) * of_step) {
    scores = arena.take<Real>(team * of_step);
    next = arena.take<Real>(team * of_step);
    back = arena.take<Place<Real>>(team * of_thread);
  }
};

template <class Real> class KBest {
 public:
  KBest(const CrfKBest<Real>& a, const KBestSpace<Real>& space, int row, int thread)
      : a_(a), K_(a.model.num_tags), k_(a.k), row_(row), width_(space.tables.width), tables_(space.tables),
        steps_{a.model.batch_sizes, space.tables.offsets, a.model.steps}, of_step_(space.of_step),
        scores_(space.scores + thread * space.of_step), next_(space.next + thread * space.of_step),
        back_(space.back + thread * space.of_thread) {}

  void run() {
    Real* scores = a_.scores + static_cast<std::size_t>(row_) * k_;
    const std::int64_t length = steps_.longest(row_);
    if (length == 0) {
      for (int rank = 0; rank < k_; ++rank) scores[rank] = rank == 0 ? 0 : -kInfinity<Real>;
      return;
    }
    double scale = first();
    for (std::int64_t t = 1; t < length; ++t) scale += step(t);
    // The end is one more tag, reached from all; the first step has nothing before it, so its places are free.
    merge(next_, back_, [&](int i) { return broadcast<Real>(tables_.end[i]); });
    for (int rank = 0; rank < k_; ++rank) {
      scores[rank] = static_cast<Real>(scale + static_cast<double>(next_[rank * width_]));
      Place<Real> place = back_[rank * width_];
      for (std::int64_t t = length - 1; t >= 0; --t) {
        a_.tags[steps_.at(t, row_) * k_ + rank] = place < 0 ? -1 : place % width_;
        if (place >= 0 && t > 0) place = back_[t * of_step_ + place];
      }
    }
  }

 private:
  using V = Vec<Real>;
  using I = IntVec<Real>;
  static constexpr int kStep = kLanes<Real>;

  V emissions(std::int64_t t, int j) const {
    return load_lanes(a_.model.emissions + steps_.at(t, row_) * K_ + j, lanes_left<Real>(K_, j));
  }

  double first() {
    for (int j = 0; j < width_; j += kStep) {
      store<Real>(scores_ + j, load<Real>(tables_.start + j) + emissions(0, j));
      for (int rank = 1; rank < k_; ++rank)
        store<Real>(scores_ + rank * width_ + j, broadcast<Real>(-kInfinity<Real>));
    }
    return rescale();
  }

  double step(std::int64_t t) {
    for (int j = 0; j < width_; j += kStep) {
      merge(next_ + j, back_ + t * of_step_ + j,
            [&](int i) { return load<Real>(tables_.from + static_cast<std::size_t>(i) * width_ + j); });
      const V emission = emissions(t, j);
      for (int rank = 0; rank < k_; ++rank) {
        Real* best = next_ + rank * width_ + j;
        store<Real>(best, load<Real>(best) + emission);
      }
    }
    Real* spent = scores_;
    scores_ = next_;
    next_ = spent;
    return rescale();
  }

  // Scores less their maximum, which is returned.
  double rescale() {
    V maximum = broadcast<Real>(-kInfinity<Real>);
    for (int j = 0; j < width_; j += kStep) maximum = larger(maximum, load<Real>(scores_ + j));
    maximum = finite<Real>(highest<Real>(maximum));
    for (std::size_t i = 0; i < of_step_; i += kStep) store<Real>(scores_ + i, load<Real>(scores_ + i) - maximum);
    return static_cast<double>(maximum[0]);
  }

  // The k best of scores_[rank, i] + more(i) over all i and ranks, in each lane; among equals the lower i and then the
  // lower rank, for which a score goes behind its equals, and all behind its place move down.
  template <class More> TIDEGATE_INLINE void merge(Real* best, Place<Real>* places, const More& more) const {
    for (int rank = 0; rank < k_; ++rank) {
      store<Real>(best + rank * width_, broadcast<Real>(-kInfinity<Real>));
      store_places(places + rank * width_, I{} - 1);
    }
    const Real* worst = best + static_cast<std::size_t>(k_ - 1) * width_;
    for (int i = 0; i < K_; ++i) {
      const V added = more(i);
      for (int rank = 0; rank < k_; ++rank) {
        V score = broadcast<Real>(scores_[rank * width_ + i]) + added;
        if (!any<Real>(score > load<Real>(worst))) break;
        I place = I{} + (rank * width_ + i), moves{};
        for (int to = 0; to < k_; ++to) {
          const V there = load<Real>(best + to * width_);
          I from;
          std::memcpy(&from, places + to * width_, sizeof from);
          moves |= score > there;
          store<Real>(best + to * width_, select<Real>(moves, score, there));
          store_places(places + to * width_, (moves & place) | (~moves & from));
          score = select<Real>(moves, there, score);
          place = (moves & from) | (~moves & place);
        }
      }
    }
  }

  static void store_places(Place<Real>* to, I places) { std::memcpy(to, &places, sizeof places); }

  const CrfKBest<Real>& a_;
  const int K_, k_, row_, width_;
  const PathTables<Real>& tables_;
  const Steps steps_;
  const std::size_t of_step_;
  Real *scores_, *next_;
  Place<Real>* back_;
};

}  // namespace

template <class Real> void crf_viterbi(const CrfViterbi<Real>& a) {
  const int blocks = count_blocks(a.model.rows);
  const int team = team_size(a.model.threads, blocks, operations(a.model));
  const auto space = make_space<BestSpace<Real>>(a.model, team);
  space.tables.fill(a.model);
  for_parts(team, blocks, [&](int block, int thread) { Best<Real>(a, space, block * kBlockRows, thread).run(); });
}

template <class Real> void crf_k_best(const CrfKBest<Real>& a) {
  const int team = team_size(a.model.threads, a.model.rows, operations(a.model) * (2.0 + a.k));
  const auto space = make_space<KBestSpace<Real>>(a.model, a.k, team);
  space.tables.fill(a.model);
  for_parts(team, a.model.rows, [&](int row, int thread) { KBest<Real>(a, space, row, thread).run(); });
}

template void crf_viterbi<float>(const CrfViterbi<float>&);
template void crf_viterbi<double>(const CrfViterbi<double>&);
template void crf_k_best<float>(const CrfKBest<float>&);
template void crf_k_best<double>(const CrfKBest<double>&);

}  // namespace tidegate::TIDEGATE_ISA
