// Products of low precision: bfloat16 inputs and weights added up in float32, and 8-bit weights with inputs quantised
// row by row. Where the CPU has instructions for them they are used; elsewhere the same sums are made of what there is.
#pragma once

#include "product.h"

namespace tidegate::TIDEGATE_ISA {

// Two consecutive k stand side by side in a lane.
struct Bfloat16Product {
  using Real = float;
  using Input = bfloat16;
  using Source = bfloat16;
  using Function = void (*)(const Input*, std::ptrdiff_t, const char*, std::size_t, int, float*, std::ptrdiff_t, Ahead&);
  static constexpr bool kConverts = true;
#if defined(TIDEGATE_AMX)
  static constexpr int kDepthStep = 32, kBlockRows = 32;
#else
  static constexpr int kDepthStep = 2, kBlockRows = kMaxRows;
#endif
  static constexpr int input_stride(int depth) { return round_up(depth, 64); }
  static constexpr std::size_t panel_bytes(int depth) {
    return static_cast<std::size_t>(round_up(depth, kDepthStep)) * kLanes<float> * sizeof(bfloat16);
  }

  template <class RowOf, class ScaleOf>
  static void pack_rows(const RowOf& row_of, const ScaleOf&, int depth, char* to) {
    bfloat16* panel = reinterpret_cast<bfloat16*>(to);
    const void* rows[kLanes<float>];
    for (int lane = 0; lane < kLanes<float>; ++lane) rows[lane] = row_of(lane);
    // Pairs are moved as if they were floats.
    for (int k = 2 * pack_squares(rows, depth / 2, reinterpret_cast<float*>(to)); k < round_up(depth, kDepthStep); ++k)
      for (int lane = 0; lane < kLanes<float>; ++lane)
        panel[place(k, lane)] =
            rows[lane] != nullptr && k < depth ? static_cast<const bfloat16*>(rows[lane])[k] : bfloat16{0};
  }

  template <class RowOf> static void pack_columns(const RowOf& row_of, int depth, int valid, char* to) {
    const auto row = [&](int k) {
      // The upper half of a float32 is its bfloat16.
      return k < depth ? (Words)load_lanes(row_of(k), valid) : Words{};
    };
    for (int k = 0; k < round_up(depth, kDepthStep); k += 2) {
      const Words both = row(k) >> 16 | row(k + 1);
      std::memcpy(to + static_cast<std::size_t>(k / 2) * kVectorBytes, &both, sizeof both);
    }
  }

  static void convert(const float* from, const float* mask, int depth, Input* to) {
    for (int k = 0; k < depth; k += kLanes<float>) {
      const int lanes = depth - k < kLanes<float> ? depth - k : kLanes<float>;
      Vec<float> v = load_lanes(from + k, lanes);
      if (mask != nullptr) v *= load_lanes(mask + k, lanes);
      store_lanes(to + k, v, lanes);
    }
    for (int k = depth; k < input_stride(depth); ++k) to[k] = {0};
  }

  static void convert(const bfloat16* from, int depth, Input* to) {
    std::memcpy(to, from, static_cast<std::size_t>(depth) * sizeof(bfloat16));
    for (int k = depth; k < input_stride(depth); ++k) to[k] = {0};
  }

  static void run(int rows, int panels, const Input* inputs, std::ptrdiff_t stride, const char* packed, int depth,
                  float* tile, Ahead& ahead);

  template <int Rows, int Panels>
  static void multiply(const Input* inputs, std::ptrdiff_t stride, const char* packed, std::size_t panel_stride,
                       int depth, float* tile, std::ptrdiff_t tile_stride, Ahead& ahead) {
    ahead.fetch_while(0, 0, 0, [](int) {});
    Vec<float> sums[Rows][Panels] = {};
    const std::uint32_t* rows[Rows];
    for (int m = 0; m < Rows; ++m) rows[m] = reinterpret_cast<const std::uint32_t*>(inputs + m * stride);
    for (int pair = 0; pair < (depth + 1) / 2; ++pair) {
      Words weights[Panels];
#pragma GCC unroll 12
      for (int p = 0; p < Panels; ++p)
        std::memcpy(&weights[p], packed + p * panel_stride + static_cast<std::size_t>(pair) * kVectorBytes, sizeof(Words));
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        std::uint32_t input;
        std::memcpy(&input, rows[m] + pair, sizeof input);
#if defined(__AVX512BF16__)
        const __m512bh both = (__m512bh)_mm512_set1_epi32(static_cast<int>(input));
#pragma GCC unroll 12
        for (int p = 0; p < Panels; ++p)
          sums[m][p] = (Vec<float>)_mm512_dpbf16_ps((__m512)sums[m][p], both, (__m512bh)weights[p]);
#else
        const Vec<float> first = (Vec<float>)(Words{} + (input << 16));
        const Vec<float> second = (Vec<float>)(Words{} + (input & 0xffff0000u));
#pragma GCC unroll 12
        for (int p = 0; p < Panels; ++p) {
          sums[m][p] = multiply_add(first, (Vec<float>)(weights[p] << 16), sums[m][p]);
          sums[m][p] = multiply_add(second, (Vec<float>)(weights[p] & 0xffff0000u), sums[m][p]);
        }
#endif
      }
    }
    for (int m = 0; m < Rows; ++m)
      for (int p = 0; p < Panels; ++p) store<float>(tile + m * tile_stride + p * kLanes<float>, sums[m][p]);
  }

 private:
  static constexpr int place(int k, int lane) { return (k / 2 * kLanes<float> + lane) * 2 + k % 2; }
};

// Weights w = scale_u q, one scale a unit; inputs h = scale q, one scale a row, q in [-127, 127]. The sum of q q' is
// exact, so it is the same on every CPU. Four consecutive k stand side by side in a lane; inputs are stored as q + 128,
// which the instruction wants, and the panel ends with 128 times its sums, to be taken off, and with its scales.
struct Int8Product {
  using Real = float;
  using Input = std::uint8_t;
  using Source = std::int8_t;
  using Function = void (*)(const Input*, std::ptrdiff_t, const char*, std::size_t, int, float*, std::ptrdiff_t, Ahead&);
  static constexpr bool kConverts = true;
  static constexpr int kBlockRows = kMaxRows;
  static constexpr int input_stride(int depth) { return round_up(depth, 64) + 64; }  // a row ends with its scale
  static constexpr std::size_t weight_bytes(int depth) {
    return static_cast<std::size_t>(round_up(depth, 4)) * kLanes<float>;
  }
  static constexpr std::size_t panel_bytes(int depth) { return weight_bytes(depth) + 2 * kVectorBytes; }

  template <class RowOf, class ScaleOf>
  static void pack_rows(const RowOf& row_of, const ScaleOf& scale_of, int depth, char* to) {
    const void* rows[kLanes<float>];
    float scales[kLanes<float>];
    for (int lane = 0; lane < kLanes<float>; ++lane) {
      rows[lane] = row_of(lane);
      scales[lane] = rows[lane] != nullptr ? scale_of(lane) : 0.0f;
    }
    // Four numbers are moved as if they were a float.
    for (int k = 4 * pack_squares(rows, depth / 4, reinterpret_cast<float*>(to)); k < round_up(depth, 4); ++k)
      for (int lane = 0; lane < kLanes<float>; ++lane)
        to[(k / 4 * kLanes<float> + lane) * 4 + k % 4] =
            rows[lane] != nullptr && k < depth ? static_cast<const char*>(rows[lane])[k] : char{0};
    IntVec<float> sums{};
    for (std::size_t at = 0; at < weight_bytes(depth); at += kVectorBytes) {
      Words four;
      std::memcpy(&four, to + at, sizeof four);
      for (int j = 0; j < 4; ++j) sums += (IntVec<float>)(four << (24 - 8 * j)) >> 24;
    }
    sums *= 128;
    std::memcpy(to + weight_bytes(depth), &sums, sizeof sums);
    std::memcpy(to + weight_bytes(depth) + kVectorBytes, scales, sizeof scales);
  }

  static void convert(const float* from, const float* mask, int depth, Input* to) {
    mask == nullptr ? quantise([&](int k) { return from[k]; }, depth, to)
                    : quantise([&](int k) { return from[k] * mask[k]; }, depth, to);
  }

  template <class At> static void quantise(const At& at, int depth, Input* to) {
    float largest = 0;
    for (int k = 0; k < depth; ++k) {
      const float magnitude = __builtin_fabsf(at(k));
      largest = magnitude > largest || magnitude != magnitude ? magnitude : largest;
    }
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
    for (int k = 0; k < depth; ++k) {
      // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
      const float shifted = at(k) * inverse + 12582912.0f;
      std::int32_t bits;
      std::memcpy(&bits, &shifted, sizeof bits);
      to[k] = static_cast<Input>(bits + 128);
    }
    for (int k = depth; k < round_up(depth, 64); ++k) to[k] = 128;
    std::memcpy(to + round_up(depth, 64), &scale, sizeof scale);
  }

  static void run(int rows, int panels, const Input* inputs, std::ptrdiff_t stride, const char* packed, int depth,
                  float* tile, Ahead& ahead);

  template <int Rows, int Panels>
  static void multiply(const Input* inputs, std::ptrdiff_t stride, const char* packed, std::size_t panel_stride,
                       int depth, float* tile, std::ptrdiff_t tile_stride, Ahead& ahead) {
    ahead.fetch_while(0, 0, 0, [](int) {});
    IntVec<float> sums[Rows][Panels] = {};
    for (int quad = 0; quad < (depth + 3) / 4; ++quad) {
      IntVec<float> weights[Panels];
#pragma GCC unroll 12
      for (int p = 0; p < Panels; ++p)
        std::memcpy(&weights[p], packed + p * panel_stride + static_cast<std::size_t>(quad) * kVectorBytes, kVectorBytes);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) {
        std::uint32_t input;
        std::memcpy(&input, inputs + m * stride + 4 * quad, sizeof input);
#if defined(__AVX512VNNI__)
        const __m512i four = _mm512_set1_epi32(static_cast<int>(input));
#pragma GCC unroll 12
        for (int p = 0; p < Panels; ++p)
          sums[m][p] = (IntVec<float>)_mm512_dpbusd_epi32((__m512i)sums[m][p], four, (__m512i)weights[p]);
#else
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const std::int32_t q = static_cast<std::int32_t>(input >> (8 * j) & 0xffu);
#pragma GCC unroll 12
          for (int p = 0; p < Panels; ++p) {
            const IntVec<float> w = (IntVec<float>)((Words)weights[p] << (24 - 8 * j)) >> 24;
            sums[m][p] += w * q;
          }
        }
#endif
      }
    }
    for (int m = 0; m < Rows; ++m) {
      float scale;
      std::memcpy(&scale, inputs + m * stride + stride - 64, sizeof scale);
      for (int p = 0; p < Panels; ++p) {
        const char* after = packed + p * panel_stride + weight_bytes(depth);
        IntVec<float> offset;
        std::memcpy(&offset, after, sizeof offset);
        const Vec<float> scales = load<float>(reinterpret_cast<const float*>(after + kVectorBytes)) * scale;
        store<float>(tile + m * tile_stride + p * kLanes<float>,
                     __builtin_convertvector(sums[m][p] - offset, Vec<float>) * scales);
      }
    }
  }
};

// What a thread must do before and after products.
#if defined(TIDEGATE_AMX)

// Tiles of the matrix unit are shared with whoever used them last on this thread: nothing is assumed of them, and they
// are released.
class ThreadScope {
 public:
  ThreadScope() { rows_ = 0; }
  ~ThreadScope() {
    if (rows_ != 0) _tile_release();
    rows_ = 0;
  }

  // Up to 16 rows: inputs in tile 0, weights in 1 to 3, sums in 4 to 6. More: inputs in 0 and 1, weights in 2 and 3,
  // sums in 4 and 5, 6 and 7.
  static void configure(int rows) {
    if (rows == rows_) return;
    rows_ = rows;
    alignas(64) struct {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t bytes[16] = {};
      std::uint8_t rows[16] = {};
    } config;
    const int upper = rows < 16 ? rows : 16, lower = rows - upper;
    const int rows_of[8] = {upper, lower > 0 ? lower : 16, 16, 16, upper, upper, lower > 0 ? lower : upper, lower > 0 ? lower : upper};
    for (int tile = 0; tile < 8; ++tile) {
      config.bytes[tile] = 64;
      config.rows[tile] = static_cast<std::uint8_t>(rows_of[tile]);
    }
    _tile_loadconfig(&config);
  }

 private:
  static inline thread_local int rows_ = 0;
};

#else

struct ThreadScope {
  ThreadScope() {}
  ~ThreadScope() {}
};

#endif

}  // namespace tidegate::TIDEGATE_ISA
