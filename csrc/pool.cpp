#include "pool.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace tidegate::pool {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t default_limit() {
  const std::size_t memory = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return std::min(memory / 8, std::size_t{2} << 30);
}

struct Pool {
  std::mutex mutex;
  std::vector<Block> blocks;  // the one given back last stands last
  std::size_t kept = 0;
  std::size_t limit = default_limit();
};

// Never destroyed: tensors may outlive everything else in the process.
Pool& pool() {
  static Pool* const the_pool = new Pool;
  return *the_pool;
}

}  // namespace

Block take(std::size_t bytes) {
  bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    // The smallest that is large enough and not more than a quarter too large.
    auto best = p.blocks.end();
    for (auto block = p.blocks.begin(); block != p.blocks.end(); ++block)
      if (block->bytes >= bytes && block->bytes <= bytes + bytes / 4 && (best == p.blocks.end() || block->bytes <= best->bytes))
        best = block;
    if (best != p.blocks.end()) {
      const Block found = *best;
      p.blocks.erase(best);
      p.kept -= found.bytes;
      return found;
    }
  }
  void* start = std::aligned_alloc(kHugePage, bytes);
  if (start == nullptr) {
    release();
    start = std::aligned_alloc(kHugePage, bytes);
    if (start == nullptr) throw std::bad_alloc();
  }
#if defined(MADV_HUGEPAGE)
  madvise(start, bytes, MADV_HUGEPAGE);
#endif
  return {start, bytes};
}

void give(Block block) {
  Pool& p = pool();
  std::vector<Block> dropped;
  {
    const std::lock_guard lock(p.mutex);
    p.blocks.push_back(block);
    p.kept += block.bytes;
    while (p.kept > p.limit) {
      p.kept -= p.blocks.front().bytes;
      dropped.push_back(p.blocks.front());
      p.blocks.erase(p.blocks.begin());
    }
  }
  for (const Block& old : dropped) std::free(old.start);
}

void release() {
  Pool& p = pool();
  std::vector<Block> dropped;
  {
    const std::lock_guard lock(p.mutex);
    dropped.swap(p.blocks);
    p.kept = 0;
  }
  for (const Block& old : dropped) std::free(old.start);
}

std::size_t kept_bytes() {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  return p.kept;
}

void set_limit(std::size_t bytes) {
  {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    p.limit = bytes;
  }
  if (bytes == 0) release();
}

}  // namespace tidegate::pool
