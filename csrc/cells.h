// One pair of passes a cell, and the choice of type in it. A translation unit for low precision alone leaves the others
// to the instruction set it builds upon.
#pragma once

#include "run_pass.h"

namespace tidegate::TIDEGATE_ISA {

void rnn_forward(const Forward& a);
void rnn_backward(const Backward& a);
void rnn_pack(const Forward& a, char* to);
std::size_t rnn_packed_bytes(const Layout& l);
void gru_forward(const Forward& a);
void gru_backward(const Backward& a);
void gru_pack(const Forward& a, char* to);
std::size_t gru_packed_bytes(const Layout& l);
void lstm_forward(const Forward& a);
void lstm_backward(const Backward& a);
void lstm_pack(const Forward& a, char* to);
std::size_t lstm_packed_bytes(const Layout& l);

// Calls `body(T{})` with the policy of the type.
template <class Body> inline auto with_type([[maybe_unused]] Type type, const Body& body) {
#if !defined(TIDEGATE_LOW_PRECISION)
  if (type == Type::float32) return body(Float32{});
  if (type == Type::float64) return body(Float64{});
#endif
#if !defined(TIDEGATE_AMX)
  if (type == Type::int8) return body(Int8{});
#endif
  return body(Bfloat16{});
}

// The same for types that learn.
template <class Body> inline void with_learning_type([[maybe_unused]] Type type, const Body& body) {
#if !defined(TIDEGATE_LOW_PRECISION)
  if (type == Type::float32) return body(Float32{});
  if (type == Type::float64) return body(Float64{});
#endif
  body(Bfloat16{});
}

template <template <class> class Pass> inline void run_forward(const Forward& a) {
  with_type(a.layout.type, [&](auto type) {
    using T = decltype(type);
    run_pass<Pass<T>>(a, a.packed, T::Product::kBlockRows);
  });
}

template <template <class> class Pass> inline void run_backward(const Backward& a) {
  with_learning_type(a.layout.type, [&](auto type) {
    using T = decltype(type);
    run_pass<Pass<T>>(a, nullptr, T::Product::kBlockRows);
  });
}

template <template <class> class Pass> inline std::size_t packed_size(const Layout& l) {
  return with_type(l.type, [&](auto type) { return (Pass<decltype(type)>::packed_bytes(l) + 63) / 64 * 64; });
}

template <template <class> class Pass> inline void pack_all(const Forward& a, char* to) {
  with_type(a.layout.type, [&](auto type) {
    for (int direction = 0; direction < a.layout.directions; ++direction)
      Pass<decltype(type)>::pack(a, direction, 0, 1, to + direction * packed_size<Pass>(a.layout));
  });
}

}  // namespace tidegate::TIDEGATE_ISA

#define TIDEGATE_DEFINE_CELL(name, Forwards, Backwards)                                  \
  void name##_forward(const Forward& a) { run_forward<Forwards>(a); }                    \
  void name##_backward(const Backward& a) { run_backward<Backwards>(a); }                \
  void name##_pack(const Forward& a, char* to) { pack_all<Forwards>(a, to); }            \
  std::size_t name##_packed_bytes(const Layout& l) { return packed_size<Forwards>(l) * l.directions; }
