// The product of tokens and a weight on one CPU core.
#pragma once
#include "lanes.h"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace cistron::cpu {

// Tokens that a pass over the weight serves.
constexpr Size LINEAR_TOKENS = 4 * LANES;

// y[tokens, rows] = x[tokens, width] weight[rows, width]^T + bias[rows] (null for none), at most
// LINEAR_TOKENS of them; `panels` has room for LINEAR_TOKENS * width.
inline void linear(const float* x, Size tokens, Size width, const float* weight, const float* bias,
                   Size rows, float* y, float* panels) {
  to_panels(x, tokens, width, panels);
  by_rows(rows, [&](auto count, Size first) __attribute__((always_inline)) {
    for (Size t = 0; t < tokens; t += LANES) {
      Tile<count()> tile;
      tile.clear();
      tile.template add<1>(weight + first * width, width, panels + t * width, width);
      if (bias != nullptr) tile.shift(bias + first);
      to_tokens(tile, std::min(LANES, tokens - t), rows, y + t * rows + first);
    }
  });
}

}  // namespace cistron::cpu

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC pop_options
#endif
