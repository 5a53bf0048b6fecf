// The average is a linear recurrence over chunks: blocks of EMA_ROWS chunks run side by
// side from nothing, what they hand on is a second recurrence over blocks, and then each
// block runs again from what it was handed. Gradients run the same way from the end.
#include "dechunk.h"

#include "rows.cuh"

namespace cistron::cuda {
namespace {

constexpr int LANES = 128, PAIR = 2, AHEAD = 8;  // threads a block, channels a thread
constexpr int WARPS = 8;

__device__ __forceinline__ float smoothing(const Dechunk& in, int64_t chunk) {
  return fminf(fmaxf(in.prob[in.boundaries[chunk]], in.floor), in.ceiling);
}

__device__ __forceinline__ bool starts_sequence(const Dechunk& in, int64_t chunk) {
  return in.position[in.boundaries[chunk]] == 0;
}

__device__ __forceinline__ void load_pair(const bf16* p, float (&v)[2]) {
  const uint32_t raw = *reinterpret_cast<const uint32_t*>(p);
  v[0] = __uint_as_float(raw << 16), v[1] = __uint_as_float(raw & 0xffff0000u);
}
__device__ __forceinline__ void load_pair(const float* p, float (&v)[2]) {
  const float2 a = *reinterpret_cast<const float2*>(p);
  v[0] = a.x, v[1] = a.y;
}

// y_j = factor_j y_{j-1} + weight_j x_j over a block's chunks. Forwards the factor is what
// chunk j keeps of the average and the weight its probability; from the end they are what the
// next chunk keeps, and one. APPLY writes y from `ends`, the value before the block; else the
// value after the block goes to `ends` and the product of its factors to `decay`.
template <bool BACK, bool APPLY, typename T>
__global__ void __launch_bounds__(LANES)
    walk(Dechunk in, const T* x, int64_t stride, float* y, float* ends, float* decay) {
  __shared__ float factor[EMA_ROWS], weight[EMA_ROWS];
  const int64_t first = blockIdx.x * int64_t{EMA_ROWS};
  const int rows = static_cast<int>(in.chunks - first < EMA_ROWS ? in.chunks - first : EMA_ROWS);
  for (int i = threadIdx.x; i < rows; i += LANES) {
    const int64_t chunk = first + (BACK ? rows - 1 - i : i);
    const int64_t keeps = BACK ? chunk + 1 : chunk;
    factor[i] = keeps < in.chunks && !starts_sequence(in, keeps) ? 1.0f - smoothing(in, keeps) : 0.0f;
    weight[i] = BACK ? 1.0f : smoothing(in, chunk);
  }
  __syncthreads();
  const int channel = (blockIdx.y * LANES + threadIdx.x) * PAIR;
  const bool inside = channel < in.width;
  float* end = ends + blockIdx.x * static_cast<int64_t>(in.width) + channel;
  float value[2] = {0, 0}, product = 1;
  if (APPLY && inside) load_pair(end, value);
  auto chunk_of = [&](int i) { return first + (BACK ? rows - 1 - i : i); };
  for (int base = 0; base < rows; base += AHEAD) {
    float v[AHEAD][2];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      v[i][0] = v[i][1] = 0;
      if (inside && base + i < rows) load_pair(x + chunk_of(base + i) * stride + channel, v[i]);
    }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      if (base + i >= rows) continue;
      const float f = factor[base + i], w = weight[base + i];
#pragma unroll
      for (int k = 0; k < 2; ++k) value[k] = fmaf(f, value[k], w * v[i][k]);
      product *= f;
      if (APPLY && inside)
        *reinterpret_cast<float2*>(y + chunk_of(base + i) * in.width + channel) =
            make_float2(value[0], value[1]);
    }
  }
  if (!APPLY) {
    if (inside) *reinterpret_cast<float2*>(end) = make_float2(value[0], value[1]);
    if (blockIdx.y == 0 && threadIdx.x == 0) decay[blockIdx.x] = product;
  }
}

// Replaces the value after each block by the value before it, in the order of the walk.
template <bool BACK>
__global__ void __launch_bounds__(64)
    hand_on(int64_t blocks, int width, float* ends, const float* decay) {
  const int channel = blockIdx.x * 64 + threadIdx.x;
  if (channel >= width) return;
  float carried = 0;
  for (int64_t base = 0; base < blocks; base += AHEAD) {
    float end[AHEAD], keep[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      const int64_t b = BACK ? blocks - 1 - (base + i) : base + i;
      const bool there = base + i < blocks;
      end[i] = there ? ends[b * width + channel] : 0.0f;
      keep[i] = there ? decay[b] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      if (base + i >= blocks) continue;
      const int64_t b = BACK ? blocks - 1 - (base + i) : base + i;
      ends[b * width + channel] = carried;
      carried = fmaf(keep[i], carried, end[i]);
    }
  }
}

__global__ void __launch_bounds__(256) expand(Dechunk in, DechunkOutputs out) {
  const int columns = in.width / 4;
  const int64_t item = blockIdx.x * 256LL + threadIdx.x;
  if (item >= in.tokens * columns) return;
  const int64_t t = item / columns;
  const int at = static_cast<int>(item - t * columns) * 4;
  float u[4], r[4];
  load<4>(out.smoothed + in.source[t] * in.width + at, u);
  load<4>(out.residual + item * 4, r);
#pragma unroll
  for (int i = 0; i < 4; ++i) r[i] += u[i];
  store<4>(out.out + item * 4, r);
}

// A warp a chunk: the sum of its tokens' gradients, and the gradient of each one's confidence,
// which is the probability at the first token and one less it at the others.
template <int ITERATIONS>
__global__ void __launch_bounds__(32 * WARPS) collect(Dechunk in, DechunkGradient grad) {
  const int lane = threadIdx.x & 31;
  const int64_t chunk = blockIdx.x * int64_t{WARPS} + (threadIdx.x >> 5);
  if (chunk >= in.chunks) return;
  const int64_t first = in.boundaries[chunk];
  const int64_t last = chunk + 1 < in.chunks ? in.boundaries[chunk + 1] : in.tokens;
  float u[ITERATIONS][4], sum[ITERATIONS][4];
#pragma unroll
  for (int k = 0; k < ITERATIONS; ++k) {
    const int c = k * 128 + lane * 4;
    fill(u[k], 0.0f);
    fill(sum[k], 0.0f);
    if (c >= in.width) continue;
    load<4>(grad.smoothed + chunk * in.width + c, u[k]);
    if (grad.dsmoothed) load<4>(grad.dsmoothed + chunk * in.width + c, sum[k]);
  }
  constexpr int TOKENS = ITERATIONS <= 4 ? 4 : 1;  // in flight
  for (int64_t base = first; base < last; base += TOKENS) {
    float d[TOKENS][ITERATIONS][4];
#pragma unroll
    for (int j = 0; j < TOKENS; ++j)
#pragma unroll
      for (int k = 0; k < ITERATIONS; ++k) {
        const int c = k * 128 + lane * 4;
        fill(d[j][k], 0.0f);
        if (base + j < last && c < in.width) load<4>(grad.dout + (base + j) * in.width + c, d[j][k]);
      }
#pragma unroll
    for (int j = 0; j < TOKENS; ++j) {
      float dot = 0;
#pragma unroll
      for (int k = 0; k < ITERATIONS; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          dot = fmaf(u[k][i], d[j][k][i], dot);
          sum[k][i] += d[j][k][i];
        }
      dot = sum_over<32>(dot);
      if (lane == 0 && base + j < last) grad.dprob[base + j] = base + j == first ? dot : -dot;
    }
  }
#pragma unroll
  for (int k = 0; k < ITERATIONS; ++k) {
    const int c = k * 128 + lane * 4;
    if (c < in.width) store<4>(grad.sums + chunk * in.width + c, sum[k]);
  }
}

// A warp a chunk: gradients of z and, added to that of the confidence, of the probability.
__global__ void __launch_bounds__(32 * WARPS) finish(Dechunk in, DechunkGradient grad) {
  const int lane = threadIdx.x & 31;
  const int64_t chunk = blockIdx.x * int64_t{WARPS} + (threadIdx.x >> 5);
  if (chunk >= in.chunks) return;
  const float p = smoothing(in, chunk);
  const bool starts = starts_sequence(in, chunk);
  float dot = 0;
  for (int c = lane * 4; c < in.width; c += 128) {
    float g[4], z[4], before[4];
    load<4>(grad.sums + chunk * in.width + c, g);
    load<4>(in.z + chunk * in.stride + c, z);
    fill(before, 0.0f);
    if (!starts) load<4>(grad.smoothed + (chunk - 1) * in.width + c, before);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      dot = fmaf(g[i], z[i] - before[i], dot);
      g[i] *= p;
    }
    store<4>(grad.dz + chunk * in.width + c, g);
  }
  dot = sum_over<32>(dot);
  const int64_t token = in.boundaries[chunk];
  const float prob = in.prob[token];
  if (lane == 0 && prob >= in.floor && prob <= in.ceiling) grad.dprob[token] += dot;
}

template <bool BACK, typename T>
void recurrence(const Dechunk& in, const T* x, int64_t stride, float* y, float* ends, float* decay,
                cudaStream_t stream) {
  const dim3 grid(blocks_for(in.chunks, EMA_ROWS), blocks_for(in.width, LANES * PAIR));
  walk<BACK, false><<<grid, LANES, 0, stream>>>(in, x, stride, y, ends, decay);
  CISTRON_LAUNCH_CHECK("walk");
  hand_on<BACK><<<blocks_for(in.width, 64), 64, 0, stream>>>(grid.x, in.width, ends, decay);
  CISTRON_LAUNCH_CHECK("hand_on");
  walk<BACK, true><<<grid, LANES, 0, stream>>>(in, x, stride, y, ends, decay);
  CISTRON_LAUNCH_CHECK("walk");
}

}  // namespace

void dechunk_forward(const Dechunk& in, const DechunkOutputs& out, cudaStream_t stream) {
  if (in.tokens == 0) return;
  recurrence<false>(in, in.z, in.stride, out.smoothed, out.ends, out.decay, stream);
  expand<<<blocks_for(in.tokens * (in.width / 4), 256), 256, 0, stream>>>(in, out);
  CISTRON_LAUNCH_CHECK("expand");
}

void dechunk_backward(const Dechunk& in, const DechunkGradient& grad, cudaStream_t stream) {
  if (in.tokens == 0) return;
  const unsigned warps = blocks_for(in.chunks, WARPS);
  if (in.width <= 256) collect<2><<<warps, 32 * WARPS, 0, stream>>>(in, grad);
  else if (in.width <= 512) collect<4><<<warps, 32 * WARPS, 0, stream>>>(in, grad);
  else if (in.width <= 1024) collect<8><<<warps, 32 * WARPS, 0, stream>>>(in, grad);
  else if (in.width <= DECHUNK_WIDTH) collect<16><<<warps, 32 * WARPS, 0, stream>>>(in, grad);
  else throw std::runtime_error("dechunk: rows of more than 2048 values");
  CISTRON_LAUNCH_CHECK("collect");
  recurrence<true, float>(in, grad.sums, in.width, grad.sums, grad.ends, grad.decay, stream);
  finish<<<warps, 32 * WARPS, 0, stream>>>(in, grad);
  CISTRON_LAUNCH_CHECK("finish");
}

}  // namespace cistron::cuda
