// A warp a row, or forwards a block where there are few; a row is read twice where its values do
// not stay in registers, the second time from the first-level cache.
#include "norm.h"

#include "rows.cuh"

namespace cistron::cuda {

namespace {

constexpr int WARPS = 8, STEP = 32 * 8;  // columns that a warp reads at once

__device__ __forceinline__ float sum_over_lanes(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  return value;
}

// The sum over a row, which `TEAM` warps of the block have: one or all.
template <int TEAM>
__device__ __forceinline__ float sum_over_row(float value) {
  static_assert(TEAM == 1 || TEAM == WARPS);
  value = sum_over_lanes(value);
  if constexpr (TEAM == 1) return value;
  __shared__ float parts[WARPS];
  if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = value;
  __syncthreads();
  value = 0;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) value += parts[w];
  return value;
}

__device__ __forceinline__ float silu_gradient(float x, float gate) {
  return gate * (1.0f + x * (1.0f - gate));
}

template <int TEAM>
__global__ void __launch_bounds__(32 * WARPS) add_norm(AddNorm in) {
  const int lane = threadIdx.x % (32 * TEAM);
  const int64_t row = blockIdx.x * static_cast<int64_t>(WARPS / TEAM) + threadIdx.x / (32 * TEAM);
  if (row >= in.rows) return;
  const int64_t start = row * in.width;
  const float* from = in.branch ? in.sum : in.residual;
  float squares = 0;
  for (int64_t c = lane * 8; c < in.width; c += TEAM * STEP) {
    float v[8];
    load<8>(in.residual + start + c, v);
    if (in.branch) {
      float b[8];
      load<8>(in.branch + start + c, b);
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] += b[i];
      store<8>(in.sum + start + c, v);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) squares = fmaf(v[i], v[i], squares);
  }
  const float rstd = rsqrtf(sum_over_row<TEAM>(squares) / in.width + in.eps);
  if (lane == 0) in.rstd[row] = rstd;
  for (int64_t c = lane * 8; c < in.width; c += TEAM * STEP) {
    float v[8], w[8];
    load<8>(from + start + c, v);
    load<8>(in.weight + c, w);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] *= rstd * w[i];
    store<8>(in.y + start + c, v);
  }
}

// Adds the warps' sums in their order and writes the block's.
template <int ITERATIONS>
__device__ void write_weight_gradient(float (&total)[ITERATIONS][8], int64_t width, float* out) {
  __shared__ float parts[WARPS][STEP + 8];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int i = 0; i < ITERATIONS; ++i) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 8; ++j) parts[warp][lane * 8 + j] = total[i][j];
    __syncthreads();
    const int64_t column = i * STEP + threadIdx.x;
    if (column < width) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < WARPS; ++w) sum += parts[w][threadIdx.x];
      out[blockIdx.x * width + column] = sum;
    }
  }
}

template <int ITERATIONS>
__global__ void __launch_bounds__(32 * WARPS) add_norm_gradient(AddNormGradient in) {
  const int lane = threadIdx.x & 31;
  float total[ITERATIONS][8];
#pragma unroll
  for (int i = 0; i < ITERATIONS; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) total[i][j] = 0;
  for (int64_t row = blockIdx.x * static_cast<int64_t>(WARPS) + (threadIdx.x >> 5); row < in.rows;
       row += static_cast<int64_t>(gridDim.x) * WARPS) {
    const int64_t start = row * in.width;
    const float rstd = in.rstd[row];
    float dot = 0;
#pragma unroll
    for (int i = 0; i < ITERATIONS; ++i) {
      const int64_t c = i * STEP + lane * 8;
      if (c >= in.width) continue;
      float v[8], g[8], w[8];
      load<8>(in.sum + start + c, v);
      load<8>(in.dy + start + c, g);
      load<8>(in.weight + c, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float unit = v[j] * rstd;
        total[i][j] = fmaf(g[j], unit, total[i][j]);
        dot = fmaf(g[j] * w[j], unit, dot);
      }
    }
    dot = sum_over_lanes(dot) / in.width;
#pragma unroll
    for (int i = 0; i < ITERATIONS; ++i) {
      const int64_t c = i * STEP + lane * 8;
      if (c >= in.width) continue;
      float v[8], g[8], w[8], out[8];
      load<8>(in.sum + start + c, v);
      load<8>(in.dy + start + c, g);
      load<8>(in.weight + c, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) out[j] = rstd * (g[j] * w[j] - v[j] * rstd * dot);
      if (in.dsum) {
        float d[8];
        load<8>(in.dsum + start + c, d);
#pragma unroll
        for (int j = 0; j < 8; ++j) out[j] += d[j];
      }
      if (in.y) {
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] *= rstd * w[j];
        store<8>(in.y + start + c, v);
      }
      store<8>(in.dresidual + start + c, out);
      if (in.dbranch) store<8>(in.dbranch + start + c, out);
    }
  }
  write_weight_gradient<ITERATIONS>(total, in.width, in.dweight);
}

template <int TEAM>
__global__ void __launch_bounds__(32 * WARPS) gated_norm(GatedNorm in) {
  const int lane = threadIdx.x % (32 * TEAM);
  const int64_t row = blockIdx.x * static_cast<int64_t>(WARPS / TEAM) + threadIdx.x / (32 * TEAM);
  if (row >= in.rows) return;
  const __nv_bfloat16 *x = in.x + row * in.width, *z = in.z + row * in.stride;
  float squares = 0;
  auto gated = [&](int64_t c, float (&v)[8]) {
    float g[8];
    load<8>(x + c, v);
    load<8>(z + c, g);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] *= g[i] * sigmoid_of(g[i]);
  };
  for (int64_t c = lane * 8; c < in.width; c += TEAM * STEP) {
    float v[8];
    gated(c, v);
#pragma unroll
    for (int i = 0; i < 8; ++i) squares = fmaf(v[i], v[i], squares);
  }
  const float rstd = rsqrtf(sum_over_row<TEAM>(squares) / in.width + in.eps);
  if (lane == 0) in.rstd[row] = rstd;
  for (int64_t c = lane * 8; c < in.width; c += TEAM * STEP) {
    float v[8], w[8];
    gated(c, v);
    load<8>(in.weight + c, w);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] *= rstd * w[i];
    store<8>(in.y + row * in.width + c, v);
  }
}

template <int ITERATIONS>
__global__ void __launch_bounds__(32 * WARPS) gated_norm_gradient(GatedNormGradient in) {
  const int lane = threadIdx.x & 31;
  float total[ITERATIONS][8];
#pragma unroll
  for (int i = 0; i < ITERATIONS; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) total[i][j] = 0;
  for (int64_t row = blockIdx.x * static_cast<int64_t>(WARPS) + (threadIdx.x >> 5); row < in.rows;
       row += static_cast<int64_t>(gridDim.x) * WARPS) {
    const int64_t start = row * in.width, gate_start = row * in.stride;
    const float rstd = in.rstd[row];
    float dot = 0;
#pragma unroll
    for (int i = 0; i < ITERATIONS; ++i) {
      const int64_t c = i * STEP + lane * 8;
      if (c >= in.width) continue;
      float x[8], z[8], g[8], w[8];
      load<8>(in.x + start + c, x);
      load<8>(in.z + gate_start + c, z);
      load<8>(in.dy + start + c, g);
      load<8>(in.weight + c, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float unit = x[j] * z[j] * sigmoid_of(z[j]) * rstd;
        total[i][j] = fmaf(g[j], unit, total[i][j]);
        dot = fmaf(g[j] * w[j], unit, dot);
      }
    }
    dot = sum_over_lanes(dot) / in.width;
#pragma unroll
    for (int i = 0; i < ITERATIONS; ++i) {
      const int64_t c = i * STEP + lane * 8;
      if (c >= in.width) continue;
      float x[8], z[8], g[8], w[8], dx[8], dz[8];
      load<8>(in.x + start + c, x);
      load<8>(in.z + gate_start + c, z);
      load<8>(in.dy + start + c, g);
      load<8>(in.weight + c, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float gate = sigmoid_of(z[j]), silu = z[j] * gate;
        const float dv = rstd * (g[j] * w[j] - x[j] * silu * rstd * dot);
        dx[j] = dv * silu;
        dz[j] = dv * x[j] * silu_gradient(z[j], gate);
        x[j] = x[j] * silu * (rstd * w[j]);
      }
      store<8>(in.dx + start + c, dx);
      store<8>(in.dz + row * in.dz_stride + c, dz);
      if (in.y) store<8>(in.y + start + c, x);
    }
  }
  write_weight_gradient<ITERATIONS>(total, in.width, in.dweight);
}

// So few rows leave most of the chip idle with a warp each, and wait for one load after another.
constexpr int64_t FEW = 1024;

unsigned row_blocks(int64_t rows) {
  return static_cast<unsigned>(rows <= FEW ? rows : (rows + WARPS - 1) / WARPS);
}

template <typename F>
void by_width(int64_t width, F&& f) {
  const int64_t iterations = (width + STEP - 1) / STEP;
  if (iterations <= 1) f(std::integral_constant<int, 1>{});
  else if (iterations == 2) f(std::integral_constant<int, 2>{});
  else if (iterations == 3) f(std::integral_constant<int, 3>{});
  else if (iterations == 4) f(std::integral_constant<int, 4>{});
  else if (iterations <= 8) f(std::integral_constant<int, 8>{});
  else if (iterations <= 16) f(std::integral_constant<int, 16>{});
  else throw std::runtime_error("norm: rows of more than 4096 values");
}

}  // namespace

void add_norm_forward(const AddNorm& in, cudaStream_t stream) {
  if (in.rows == 0) return;
  auto* kernel = in.rows <= FEW ? add_norm<WARPS> : add_norm<1>;
  kernel<<<row_blocks(in.rows), 32 * WARPS, 0, stream>>>(in);
  CISTRON_LAUNCH_CHECK("add_norm");
}

void add_norm_backward(const AddNormGradient& in, cudaStream_t stream) {
  by_width(in.width, [&](auto iterations) {
    add_norm_gradient<iterations.value><<<NORM_BLOCKS, 32 * WARPS, 0, stream>>>(in);
  });
  CISTRON_LAUNCH_CHECK("add_norm_gradient");
}

void gated_norm_forward(const GatedNorm& in, cudaStream_t stream) {
  if (in.rows == 0) return;
  auto* kernel = in.rows <= FEW ? gated_norm<WARPS> : gated_norm<1>;
  kernel<<<row_blocks(in.rows), 32 * WARPS, 0, stream>>>(in);
  CISTRON_LAUNCH_CHECK("gated_norm");
}

void gated_norm_backward(const GatedNormGradient& in, cudaStream_t stream) {
  by_width(in.width, [&](auto iterations) {
    gated_norm_gradient<iterations.value><<<NORM_BLOCKS, 32 * WARPS, 0, stream>>>(in);
  });
  CISTRON_LAUNCH_CHECK("gated_norm_gradient");
}

}  // namespace cistron::cuda
