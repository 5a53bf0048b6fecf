// What CPU operators share: vectors of floats, elementwise functions, and products of small
// matrices that stay in cache. On x86-64 all of it is compiled for AVX2 and FMA, and
// `usable` tells whether the processor has them; elsewhere for what the compiler is told.
//
// Tokens lie along the vectors. A matrix [rows, tokens] lies in panels [tokens / LANES, rows,
// LANES]: a row of a panel is a cache line, and the right side of a product needs no packing.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace cistron::cpu {

using Size = std::int64_t;

constexpr Size LANES = 16;
// Rows of a tile: with 16 lanes of 12 registers the products hide their own latency.
constexpr int ROWS = 6;

typedef float V __attribute__((vector_size(32)));
typedef std::int32_t I __attribute__((vector_size(32)));
constexpr Size WIDE = sizeof(V) / sizeof(float);
constexpr int PARTS = LANES / WIDE;

#define CISTRON_INLINE inline __attribute__((always_inline))

CISTRON_INLINE V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
CISTRON_INLINE void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
CISTRON_INLINE V all(float x) { return V{x, x, x, x, x, x, x, x}; }

// e^x to 1 ulp; 0 below -87, where results would be subnormal.
CISTRON_INLINE V exp(V x) {
  const V zero = {};
  const V bounded = x > 88.0f ? all(88.0f) : x;
  // Adding 1.5 * 2^23 rounds to the nearest integer, which stands in the low bits.
  const V shifted = bounded * 1.44269504f + 12582912.0f;
  const V n = shifted - 12582912.0f;
  const V r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  I scale;
  std::memcpy(&scale, &shifted, sizeof scale);
  scale = (scale << 23) + 0x3f800000;
  V power;
  std::memcpy(&power, &scale, sizeof power);
  return x < -87.0f ? zero : p * power;
}

CISTRON_INLINE V silu(V x) { return x / (1.0f + exp(-x)); }

// As libtorch has it.
inline float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

// A tile of R rows and LANES columns.
template <int R>
struct Tile {
  V v[R][PARTS];

  CISTRON_INLINE void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int h = 0; h < PARTS; ++h) v[r][h] = V{};
  }

  // Adds a[R, count] b[count, LANES]: rows of `a` lie `row` apart, its columns `STEP`; `b` is
  // a panel.
  template <int STEP>
  CISTRON_INLINE void add(const float* a, Size row, const float* b, Size count) {
    for (Size k = 0; k < count; ++k, a += STEP, b += LANES) {
      V right[PARTS];
#pragma GCC unroll 4
      for (int h = 0; h < PARTS; ++h) right[h] = load(b + h * WIDE);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V left = all(a[r * row]);
#pragma GCC unroll 4
        for (int h = 0; h < PARTS; ++h) v[r][h] += left * right[h];
      }
    }
  }

  // Multiplies each row by one of LANES factors.
  CISTRON_INLINE void scale(const float* factors) {
#pragma GCC unroll 4
    for (int h = 0; h < PARTS; ++h) {
      const V factor = load(factors + h * WIDE);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) v[r][h] *= factor;
    }
  }

  // Adds one value a row.
  CISTRON_INLINE void shift(const float* values) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int h = 0; h < PARTS; ++h) v[r][h] += values[r];
  }

  // Rows `row` floats apart.
  CISTRON_INLINE void write(float* to, Size row) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int h = 0; h < PARTS; ++h) store(to + r * row + h * WIDE, v[r][h]);
  }
};

// Calls `run(count, first)` for blocks of ROWS rows and what is left; `count` is a constant.
template <typename F>
CISTRON_INLINE void by_rows(Size rows, F&& run) {
  Size first = 0;
  for (; first + ROWS <= rows; first += ROWS) run(std::integral_constant<int, ROWS>(), first);
  switch (rows - first) {
    case 1: return run(std::integral_constant<int, 1>(), first);
    case 2: return run(std::integral_constant<int, 2>(), first);
    case 3: return run(std::integral_constant<int, 3>(), first);
    case 4: return run(std::integral_constant<int, 4>(), first);
    case 5: return run(std::integral_constant<int, 5>(), first);
    default: return;
  }
}

constexpr Size rounded(Size size) { return (size + LANES - 1) / LANES * LANES; }

// Tokens [tokens, width] to panels [panels, width, LANES], zeros behind the last token.
inline void to_panels(const float* x, Size tokens, Size width, float* panels) {
  for (Size first = 0; first < tokens; first += LANES, panels += width * LANES) {
    const Size here = std::min(LANES, tokens - first);
    if (here < LANES) std::memset(panels, 0, width * LANES * sizeof(float));
    for (Size t = 0; t < here; ++t) {
      const float* row = x + (first + t) * width;
      for (Size k = 0; k < width; ++k) panels[k * LANES + t] = row[k];
    }
  }
}

// Rows of a tile to columns of tokens [here, width].
template <int R>
CISTRON_INLINE void to_tokens(const Tile<R>& tile, Size here, Size width, float* to) {
  float rows[R][LANES];
  tile.write(rows[0], LANES);
  for (Size t = 0; t < here; ++t, to += width)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) to[r] = rows[r][t];
}

// Room for floats at the start of a cache line.
class Room {
 public:
  explicit Room(Size count)
      : floats_(static_cast<float*>(
            ::operator new[](count * sizeof(float), std::align_val_t(64)))) {}
  float* get() const { return floats_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::unique_ptr<float, Free> floats_;
};

}  // namespace cistron::cpu

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC pop_options
#endif

namespace cistron::cpu {

// Whether this processor runs what is compiled here.
inline bool usable() {
#if defined(__x86_64__) && !defined(__clang__)
  static const bool found = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return found;
#elif defined(__x86_64__)
  return false;
#else
  return true;
#endif
}

}  // namespace cistron::cpu
