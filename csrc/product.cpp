// The products of every type, for the cells to call.

#include "product_low.h"

namespace tidegate::TIDEGATE_ISA {

#if !defined(TIDEGATE_LOW_PRECISION)
template <>
void DirectProduct<float>::run(int rows, int panels, const float* inputs, std::ptrdiff_t stride, const char* packed,
                               int depth, float* tile, Ahead& ahead) {
  multiply_tile<DirectProduct>(rows, panels, inputs, stride, packed, panel_bytes(depth), depth, tile, ahead);
}

template <>
void DirectProduct<double>::run(int rows, int panels, const double* inputs, std::ptrdiff_t stride, const char* packed,
                                int depth, double* tile, Ahead& ahead) {
  multiply_tile<DirectProduct>(rows, panels, inputs, stride, packed, panel_bytes(depth), depth, tile, ahead);
}
#endif

#if !defined(TIDEGATE_AMX)
void Int8Product::run(int rows, int panels, const Input* inputs, std::ptrdiff_t stride, const char* packed, int depth,
                      float* tile, Ahead& ahead) {
  multiply_tile<Int8Product>(rows, panels, inputs, stride, packed, panel_bytes(depth), depth, tile, ahead);
}

void Bfloat16Product::run(int rows, int panels, const Input* inputs, std::ptrdiff_t stride, const char* packed,
                          int depth, float* tile, Ahead& ahead) {
  multiply_tile<Bfloat16Product>(rows, panels, inputs, stride, packed, panel_bytes(depth), depth, tile, ahead);
}

#else

void Bfloat16Product::run(int rows, int panels, const Input* inputs, std::ptrdiff_t stride, const char* packed,
                                 int depth, float* tile, Ahead& ahead) {
  ThreadScope::configure(rows);
  ahead.fetch_while(0, 0, 0, [](int) {});
  const std::size_t panel = panel_bytes(depth);
  const int chunks = round_up(depth, kDepthStep) / kDepthStep;
  const std::size_t input_bytes = static_cast<std::size_t>(stride) * sizeof(Input);
  const std::size_t tile_bytes = static_cast<std::size_t>(panels) * 64;
  const char* upper = reinterpret_cast<const char*>(inputs);
  char* to = reinterpret_cast<char*>(tile);
  if (rows <= 16) {
    for (; panels >= 3; panels -= 3, packed += 3 * panel, to += 3 * 64) {
      _tile_zero(4);
      _tile_zero(5);
      _tile_zero(6);
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const char* weights = packed + static_cast<std::size_t>(chunk) * 1024;
        _tile_loadd(0, upper + chunk * 64, input_bytes);
        _tile_loadd(1, weights, 64);
        _tile_dpbf16ps(4, 0, 1);
        _tile_loadd(2, weights + panel, 64);
        _tile_dpbf16ps(5, 0, 2);
        _tile_loadd(3, weights + 2 * panel, 64);
        _tile_dpbf16ps(6, 0, 3);
      }
      _tile_stored(4, to, tile_bytes);
      _tile_stored(5, to + 64, tile_bytes);
      _tile_stored(6, to + 128, tile_bytes);
    }
    for (; panels > 0; --panels, packed += panel, to += 64) {
      _tile_zero(4);
      for (int chunk = 0; chunk < chunks; ++chunk) {
        _tile_loadd(0, upper + chunk * 64, input_bytes);
        _tile_loadd(1, packed + static_cast<std::size_t>(chunk) * 1024, 64);
        _tile_dpbf16ps(4, 0, 1);
      }
      _tile_stored(4, to, tile_bytes);
    }
    return;
  }
  const char* lower = upper + 16 * input_bytes;
  for (; panels >= 2; panels -= 2, packed += 2 * panel, to += 2 * 64) {
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const char* weights = packed + static_cast<std::size_t>(chunk) * 1024;
      _tile_loadd(0, upper + chunk * 64, input_bytes);
      _tile_loadd(2, weights, 64);
      _tile_dpbf16ps(4, 0, 2);
      _tile_loadd(1, lower + chunk * 64, input_bytes);
      _tile_dpbf16ps(6, 1, 2);
      _tile_loadd(3, weights + panel, 64);
      _tile_dpbf16ps(5, 0, 3);
      _tile_dpbf16ps(7, 1, 3);
    }
    _tile_stored(4, to, tile_bytes);
    _tile_stored(5, to + 64, tile_bytes);
    _tile_stored(6, to + 16 * tile_bytes, tile_bytes);
    _tile_stored(7, to + 16 * tile_bytes + 64, tile_bytes);
  }
  if (panels > 0) {
    _tile_zero(4);
    _tile_zero(6);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      _tile_loadd(2, packed + static_cast<std::size_t>(chunk) * 1024, 64);
      _tile_loadd(0, upper + chunk * 64, input_bytes);
      _tile_dpbf16ps(4, 0, 2);
      _tile_loadd(1, lower + chunk * 64, input_bytes);
      _tile_dpbf16ps(6, 1, 2);
    }
    _tile_stored(4, to, tile_bytes);
    _tile_stored(6, to + 16 * tile_bytes, tile_bytes);
  }
}

#endif

}  // namespace tidegate::TIDEGATE_ISA
