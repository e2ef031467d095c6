// Teams of threads. OpenMP only starts them, from the one pool that the process shares with torch; how the work is
// divided, and the waiting inside a sequence, are ours.
#pragma once

#include <omp.h>
#include <sched.h>

#include "kernels.h"

namespace tidegate::TIDEGATE_ISA {

// A barrier for threads that meet every few microseconds: it spins briefly, then yields, so that it does not collapse
// when the machine has more threads than cores.
class Barrier {
 public:
  static constexpr int kSpins = 300;  // some 10 to 20 microseconds, the pause of recent processors taking 140 cycles

  void reset(int members) {
    members_ = members;
    __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
  }

  void wait() {
    if (members_ <= 1) return;
    const int phase = __atomic_load_n(&phase_, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == members_) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&phase_, phase + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int spins = 0; __atomic_load_n(&phase_, __ATOMIC_ACQUIRE) == phase; ++spins) {
      if (spins < kSpins) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("yield");
#endif
      } else {
        sched_yield();
      }
    }
  }

 private:
  alignas(64) int arrived_ = 0;
  alignas(64) int phase_ = 0;
  int members_ = 1;
};

// How the threads of one direction share its work: `row_parts` ways along the rows, without a barrier inside the
// sequence, times `unit_parts` ways along the units, with one a step.
struct Division {
  int row_parts;
  int unit_parts;
  double cycles;  // of a step
};

// By the cycles of a step: the products themselves; the weights, read from the near cache for every few rows and, where a
// thread's share of them does not fit it, from afar but for what the step before left; and the barrier, for which some
// threads may better have nothing to do.
inline Division divide(int threads, int mean_rows, int unit_blocks, double weight_bytes) {
  constexpr double kKeptBytes = 1.4e6, kCachedBytesPerCycle = 28, kFarBytesPerCycle = 20;
  constexpr double kBarrierCycles = 1200;
  constexpr double kWeightBytesPerRowAndCycle = 110;  // products keep up with this many bytes of weights a row
  Division best{1, 1, 1e300};
  for (int row_parts = 1; row_parts <= threads; ++row_parts) {
    if (row_parts > mean_rows && row_parts > 1) break;
    const int rows = (mean_rows + row_parts - 1) / row_parts;
    const int most_parts = threads / row_parts < unit_blocks ? threads / row_parts : unit_blocks;
    for (int unit_parts = most_parts; unit_parts > 0; unit_parts = threads_may_idle() ? unit_parts / 2 : 0) {
      const double bytes = weight_bytes / unit_parts;
      const double computing = rows * bytes / kWeightBytesPerRowAndCycle;
      const double near = (rows + 7) / 8 * bytes / kCachedBytesPerCycle;
      const double far = bytes < kKeptBytes ? 0 : (bytes - kKeptBytes) / kFarBytesPerCycle;
      const double cycles = (near > computing ? near : computing) + far + (unit_parts > 1 ? kBarrierCycles : 0);
      if (cycles < best.cycles) best = {row_parts, unit_parts, cycles};
    }
  }
  return best;
}

// How many directions run at the same time, each with its part of the threads: both, unless the weights of one that all
// threads share come so much quicker from their caches that one after the other is done sooner.
inline int directions_at_once(int threads, int directions, int mean_rows, int unit_blocks, double weight_bytes) {
  if (threads < directions) return 1;
  const double together = divide(threads / directions, mean_rows, unit_blocks, weight_bytes).cycles;
  const double in_turn = directions * divide(threads, mean_rows, unit_blocks, weight_bytes).cycles;
  return in_turn < 0.9 * together ? 1 : directions;
}

}  // namespace tidegate::TIDEGATE_ISA
