// What the passes of the scan share: loading a chunk, its decays, its rotation.
#pragma once
#include "mma.cuh"
#include "scan.h"

#include <cuda_fp16.h>

namespace cistron::cuda {

constexpr int ROWS = 64;      // rows of a chunk: tokens times ranks
constexpr int THREADS = 256;  // eight warps: four row tiles by two column halves

// Decays of one chunk, by token. Logarithms are to base 2.
struct Gates {
  float decay[ROWS];   // from before the chunk to after this token
  float weight[ROWS];  // s
  float gamma[ROWS];
  float end[2];  // of the whole chunk; token counts are not needed: tails decay nothing
};

template <int R>
__host__ __device__ constexpr int chunk_tokens() {
  return ROWS / R;
}

// Loads 64 rows of W values into a tile; rows past the last token are zeros.
template <int W, int R>
__device__ __forceinline__ void load_tile(bf16* tile, const ScanRows& rows, int64_t head,
                                          int64_t token, int tokens) {
  const bf16* base = rows.data + head * rows.head + token * rows.token;
  constexpr int pieces = W / 8;
#pragma unroll
  for (int i = threadIdx.x; i < ROWS * pieces; i += THREADS) {
    const int row = i / pieces, piece = i % pieces, t = row / R;
    const bool valid = t < tokens;
    const bf16* from = valid ? base + t * rows.token + (row % R) * rows.rank + piece * 8 : rows.data;
    copy_async(tile + at<W>(row, piece * 8), from, valid);
  }
}

template <int W, int R>
__device__ __forceinline__ void store_tile(const bf16* tile, const ScanGradientRows& rows,
                                           int64_t head, int64_t token, int tokens) {
  bf16* base = rows.data + head * rows.head + token * rows.token;
  constexpr int pieces = W / 8;
#pragma unroll
  for (int i = threadIdx.x; i < ROWS * pieces; i += THREADS) {
    const int row = i / pieces, piece = i % pieces, t = row / R;
    if (t < tokens)
      *reinterpret_cast<uint4*>(base + t * rows.token + (row % R) * rows.rank + piece * 8) =
          *reinterpret_cast<const uint4*>(tile + at<W>(row, piece * 8));
  }
}

// The first warp reads the decays of a chunk and sums them up.
template <int R>
__device__ __forceinline__ void load_gates(Gates& gates, const ScanInputs& in, int head,
                                           int64_t token, int tokens) {
  if (threadIdx.x >= 32) return;
  const int lane = threadIdx.x;
  float before = 0;
#pragma unroll
  for (int first = 0; first < chunk_tokens<R>(); first += 32) {
    const int t = first + lane;
    const bool valid = t < tokens && t < chunk_tokens<R>();
    const int64_t index = (token + t) * in.heads + head;
    float sum = valid ? in.log_decay[index] * 1.4426950408889634f : 0.0f;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float other = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += other;
    }
    sum += before;
    if (t < chunk_tokens<R>()) {
      gates.decay[t] = sum;
      gates.weight[t] = valid ? in.weight[index] : 0.0f;
      gates.gamma[t] = valid ? in.gamma[index] : 0.0f;
    }
    before = __shfl_sync(~0u, sum, 31);
  }
  if (lane == 0) gates.end[0] = before;
}

// e^{decay of t - decay of s}; the difference is never positive but for rounding.
__device__ __forceinline__ float between(float late, float early) {
  return exp2f(fminf(late - early, 0.0f));
}

__device__ __forceinline__ void sine_cosine(float angle, float& sine, float& cosine) {
  // Two-part 2 pi: items of a thousand tokens turn by a few hundred radians.
  const float turns = rintf(angle * 0.15915494309189535f);
  angle = fmaf(turns, -6.28318548202514648f, angle);
  angle = fmaf(turns, 1.7484556000744883e-7f, angle);
  __sincosf(angle, &sine, &cosine);
}

// Angles of a chunk: warp w holds tokens w * SEGMENT .. , lane l the pairs l and l + 32.
template <int N, int R>
struct Angles {
  static constexpr int SEGMENT = chunk_tokens<R>() / 8;
  static constexpr int PAIRS = (N / 2 + 31) / 32;
  float value[SEGMENT][PAIRS];

  // `totals` holds 8 x N/2 floats; `base` the angles before the chunk. Two barriers.
  __device__ __forceinline__ void load(float* totals, const float* base, const ScanInputs& in,
                                       int head, int64_t token, int tokens) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float sum[PAIRS];
#pragma unroll
    for (int k = 0; k < PAIRS; ++k) sum[k] = 0;
#pragma unroll
    for (int j = 0; j < SEGMENT; ++j) {
      const int t = warp * SEGMENT + j;
      const float delta = t < tokens ? in.delta[(token + t) * in.heads + head] : 0.0f;
#pragma unroll
      for (int k = 0; k < PAIRS; ++k) {
        const int pair = lane + 32 * k;
        if (t < tokens && pair < in.angles)
          sum[k] = fmaf(delta, in.theta[(token + t) * in.angles + pair], sum[k]);
        value[j][k] = sum[k];
      }
    }
#pragma unroll
    for (int k = 0; k < PAIRS; ++k)
      if (lane + 32 * k < N / 2) totals[warp * (N / 2) + lane + 32 * k] = sum[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < PAIRS; ++k) {
      const int pair = lane + 32 * k;
      if (pair >= N / 2) continue;
      float before = pair < in.angles ? base[pair] : 0.0f;
      for (int w = 0; w < warp; ++w) before += totals[w * (N / 2) + pair];
#pragma unroll
      for (int j = 0; j < SEGMENT; ++j) value[j][k] += before;
    }
  }
};

// Adds the bias and rotates a tile in place. With `table`, keeps the cosines and sines
// as half2 [tokens][N / 2] for the way back.
template <int N, int R, bool TWO>
__device__ __forceinline__ void rotate_tiles(bf16* first, const float* first_bias, bf16* second,
                                             const float* second_bias, const Angles<N, R>& angles,
                                             int turning, __half2* table) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int j = 0; j < Angles<N, R>::SEGMENT; ++j) {
    const int t = warp * Angles<N, R>::SEGMENT + j;
#pragma unroll
    for (int k = 0; k < Angles<N, R>::PAIRS; ++k) {
      const int pair = lane + 32 * k;
      if (pair >= N / 2) continue;
      float sine = 0, cosine = 1;
      if (pair < turning) sine_cosine(angles.value[j][k], sine, cosine);
      if (table != nullptr) table[t * (N / 2) + pair] = __floats2half2_rn(cosine, sine);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        auto turn = [&](bf16* tile, const float* bias) {
          uint32_t& place = word(tile + at<N>(t * R + r, 2 * pair));
          const float2 add = *reinterpret_cast<const float2*>(bias + r * N + 2 * pair);
          float2 v = unpack(place);
          v.x += add.x;
          v.y += add.y;
          place = pack(v.x * cosine - v.y * sine, v.x * sine + v.y * cosine);
        };
        turn(first, first_bias);
        if (TWO) turn(second, second_bias);
      }
    }
  }
}

// The part of a state [P][N] that one warp accumulates: 16 rows by COLUMNS columns.
template <int P, int N>
struct StatePart {
  static constexpr int TILES = P / 16;
  static constexpr int COLUMNS = N * TILES / 8;
  static constexpr int FRAGMENTS = COLUMNS / 8;
  static_assert(FRAGMENTS % 2 == 0, "two fragments are loaded at once");
  float value[FRAGMENTS][4];
  int row, column;

  __device__ __forceinline__ StatePart() {
    const int warp = threadIdx.x >> 5;
    row = (warp % TILES) * 16;
    column = (warp / TILES) * COLUMNS;
    zero();
  }
  __device__ __forceinline__ void zero() {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) value[f][i] = 0;
  }
  __device__ __forceinline__ void scale(float by) {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) value[f][i] *= by;
  }
  // f(value, row, column) for each pair of neighbouring columns.
  template <typename F>
  __device__ __forceinline__ void each(F&& f) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        f(value[i][2 * half], value[i][2 * half + 1], row + (lane >> 2) + 8 * half,
          column + 8 * i + 2 * (lane & 3));
  }
  __device__ __forceinline__ void read(const bf16* state) {
    each([&](float& a, float& b, int r, int c) {
      const float2 v = unpack(word(state + r * N + c));
      a = v.x;
      b = v.y;
    });
  }
  __device__ __forceinline__ void write(bf16* tile) {
    each([&](float& a, float& b, int r, int c) { word(tile + at<N>(r, c)) = pack(a, b); });
  }
  // Adds sum over rows k of scale(k) * rows[k][P]^T columns[k][N].
  template <typename F>
  __device__ __forceinline__ void accumulate(const bf16* rows, const bf16* columns, F&& by) {
#pragma unroll
    for (int k = 0; k < ROWS; k += 16) {
      uint32_t a[4];
      left_transposed<P>(a, rows, row, k);
      scale_columns(a, k, by);
#pragma unroll
      for (int f = 0; f < FRAGMENTS; f += 2) {
        uint32_t b[4];
        right_transposed<N>(b, columns, k, column + 8 * f);
        multiply(value[f], a, b[0], b[1]);
        multiply(value[f + 1], a, b[2], b[3]);
      }
    }
  }
};

// One warp's 16 x (8 F) part of a product over 64-row operands.
template <int F>
struct Part {
  float value[F][4];
  __device__ __forceinline__ Part() {
#pragma unroll
    for (int f = 0; f < F; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) value[f][i] = 0;
  }
  // Rows `row`.. of a [m][k] tile times a tile stored [n][k].
  template <int WA, int WB>
  __device__ __forceinline__ void add(const bf16* a_tile, int row, const bf16* b_tile, int column,
                                      int first = 0, int last = WA) {
#pragma unroll
    for (int k = 0; k < WA; k += 16) {
      if (k < first || k >= last) continue;
      uint32_t a[4];
      left<WA>(a, a_tile, row, k);
#pragma unroll
      for (int f = 0; f < F; f += 2) {
        uint32_t b[4];
        right<WB>(b, b_tile, k, column + 8 * f);
        multiply(value[f], a, b[0], b[1]);
        multiply(value[f + 1], a, b[2], b[3]);
      }
    }
  }
  // Rows `row`.. of a [m][k] tile times a tile stored [k][n].
  template <int WA, int WB>
  __device__ __forceinline__ void add_transposed(const bf16* a_tile, int row, const bf16* b_tile,
                                                 int column, int first = 0, int last = WA) {
#pragma unroll
    for (int k = 0; k < WA; k += 16) {
      if (k < first || k >= last) continue;
      uint32_t a[4];
      left<WA>(a, a_tile, row, k);
#pragma unroll
      for (int f = 0; f < F; f += 2) {
        uint32_t b[4];
        right_transposed<WB>(b, b_tile, k, column + 8 * f);
        multiply(value[f], a, b[0], b[1]);
        multiply(value[f + 1], a, b[2], b[3]);
      }
    }
  }
  __device__ __forceinline__ void scale_rows(float low, float high) {
#pragma unroll
    for (int f = 0; f < F; ++f) {
      value[f][0] *= low;
      value[f][1] *= low;
      value[f][2] *= high;
      value[f][3] *= high;
    }
  }
  // f(a, b, half, row, column) for each pair of neighbouring columns.
  template <typename G>
  __device__ __forceinline__ void each(int row, int column, G&& g) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int f = 0; f < F; ++f)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        g(value[f][2 * half], value[f][2 * half + 1], half, row + (lane >> 2) + 8 * half,
          column + 8 * f + 2 * (lane & 3));
  }
};

// Sum over the four lanes that share a row of a fragment.
__device__ __forceinline__ float sum_row(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

__device__ __forceinline__ const float* bias_of(const float* bias, int head, int width) {
  return bias + static_cast<int64_t>(head) * width;
}

}  // namespace cistron::cuda
