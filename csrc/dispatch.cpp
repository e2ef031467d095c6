// Which instruction set serves: chosen at load by the CPU, by TIDEGATE_ISA, or by set_isa().
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include <pthread.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "kernels.h"

namespace tidegate {

#if defined(__x86_64__)
namespace amx {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace baseline {
extern const Kernels kernels;
}

#if defined(__x86_64__)
namespace {

// The matrix unit's registers are the process's only once it has asked for them.
bool has_matrix_unit() {
  static const bool has = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    constexpr unsigned bf16 = 1u << 22, tile = 1u << 24;
    if ((edx & bf16) == 0 || (edx & tile) == 0) return false;
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return has;
}

}  // namespace
#endif

int available(const Kernels** found, int most) {
  int count = 0;
  const auto add = [&](const Kernels& candidate) {
    if (count < most) found[count++] = &candidate;
  };
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
      if (has_matrix_unit()) add(amx::kernels);
      add(avx512_bf16::kernels);
    }
    add(avx512::kernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(avx2::kernels);
#endif
  add(baseline::kernels);
  return count;
}

namespace {

const Kernels* find(const char* name) {
  const Kernels* found[8];
  const int count = available(found, 8);
  if (name == nullptr || *name == '\0') return found[0];
  for (int i = 0; i < count; ++i)
    if (std::string_view(name) == found[i]->name) return found[i];
  return nullptr;
}

const Kernels* chosen = nullptr;
bool in_forked_child = false;
bool may_idle = true;
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });

struct Memory {
  void* start = nullptr;
  std::size_t bytes = 0;
  ~Memory() { std::free(start); }
};

}  // namespace

const Kernels& kernels() {
  if (chosen == nullptr) chosen = find(nullptr);
  return *chosen;
}

bool set_isa(const char* name) {
  const Kernels* found = find(name);
  if (found != nullptr) chosen = found;
  return found != nullptr;
}

bool threads_may_idle() { return may_idle; }

void let_threads_idle(bool may) { may_idle = may; }

void* workspace(std::size_t bytes) {
  thread_local Memory memory;
  if (bytes > memory.bytes) {
    std::free(memory.start);
    memory.bytes = (bytes + 4095) / 4096 * 4096;
    memory.start = std::aligned_alloc(64, memory.bytes);
    if (memory.start == nullptr) {
      memory.bytes = 0;
      throw std::bad_alloc();
    }
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory.start, memory.bytes);  // what the last call's Arena left
#endif
  return memory.start;
}

bool forked() { return in_forked_child; }

}  // namespace tidegate
