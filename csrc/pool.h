// Memory for large tensors, kept between calls. The C library gives blocks of this size back to the system when they are
// freed, and every page of the next one is faulted in and cleared again, which on a step of training over a large batch
// takes a third of the time.
#pragma once

#include <cstddef>

namespace tidegate::pool {

struct Block {
  void* start;
  std::size_t bytes;
};

// At least `bytes`, aligned to a page, from what was given back or else from the system. Throws std::bad_alloc.
Block take(std::size_t bytes);

// For the next `take`, or to the system where more than the limit is kept already.
void give(Block block);

// Everything kept goes back to the system.
void release();

std::size_t kept_bytes();

// Bytes to keep at the most, at first an eighth of the machine's memory and no more than 2 GiB.
void set_limit(std::size_t bytes);

}  // namespace tidegate::pool
