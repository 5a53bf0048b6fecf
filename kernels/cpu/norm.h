// RMSNorm of a sum on one CPU core.
#pragma once
#include "lanes.h"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace cistron::cpu {

// Rows of sum = x + branch and y = sum / sqrt(mean(sum²) + eps) * weight; without a branch (null)
// the sum is x, and not written.
inline void add_norm(const float* x, const float* branch, const float* weight, Size rows,
                     Size width, float eps, float* sum, float* y) {
  for (Size row = 0; row < rows; ++row, x += width, y += width) {
    V squares[4] = {};
    float left = 0;
    const float* from = x;
    // What does not fill vectors is at the end of the row.
    const Size whole = width / WIDE * WIDE;
    if (branch != nullptr) {
      for (Size k = 0; k < whole; k += WIDE) store(sum + k, load(x + k) + load(branch + k));
      for (Size k = whole; k < width; ++k) sum[k] = x[k] + branch[k];
      from = sum, branch += width, sum += width;
    }
    for (Size k = 0; k < whole; k += WIDE) {
      const V v = load(from + k);
      squares[k / WIDE % 4] += v * v;
    }
    for (Size k = whole; k < width; ++k) left += from[k] * from[k];
    const V total = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    for (Size k = 0; k < WIDE; ++k) left += total[k];
    const float factor = 1.0f / std::sqrt(left / static_cast<float>(width) + eps);
    for (Size k = 0; k < whole; k += WIDE) store(y + k, load(from + k) * factor * load(weight + k));
    for (Size k = whole; k < width; ++k) y[k] = from[k] * factor * weight[k];
  }
}

}  // namespace cistron::cpu

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC pop_options
#endif
