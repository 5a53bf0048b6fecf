#include "gates.h"

#include "rows.cuh"

namespace cistron::cuda {
namespace {

constexpr int BLOCK = 256;

__global__ void __launch_bounds__(BLOCK) forward(Gates2 in, float* delta, float* log_decay) {
  const int64_t count = in.tokens * in.heads;
  for (int64_t i = blockIdx.x * int64_t{BLOCK} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * BLOCK) {
    const int64_t token = i / in.heads;
    const int head = static_cast<int>(i - token * in.heads);
    const float x = __bfloat162float(in.dt[token * in.stride + head]) + in.dt_bias[head];
    const float d = x > 20.0f ? x : log1pf(expf(x));
    delta[i] = d;
    log_decay[i] = -d * expf(in.a_log[head]);
  }
}

// A thread keeps to one head and strides over tokens; `lanes` threads stand side by side.
__global__ void __launch_bounds__(BLOCK)
    backward(Gates2 in, Gates2Gradient grad, int lanes, int64_t per_block) {
  __shared__ float parts[2][BLOCK];
  const int lane = threadIdx.x % lanes, row = threadIdx.x / lanes, rows = BLOCK / lanes;
  const int64_t first = blockIdx.x * per_block;
  const int64_t last = first + per_block < in.tokens ? first + per_block : in.tokens;
  for (int base = 0; base < in.heads + grad.spare; base += lanes) {
    const int head = base + lane;
    const bool real = head < in.heads;
    float bias = 0, decay = 0;
    if (head < in.heads + grad.spare) {
      const float offset = real ? in.dt_bias[head] : 0.0f;
      const float rate = real ? expf(in.a_log[head]) : 0.0f;
      for (int64_t token = first + row; token < last; token += rows) {
        float out = 0;
        if (real) {
          const int64_t i = token * in.heads + head;
          const float x = __bfloat162float(in.dt[token * in.stride + head]) + offset;
          const float down = grad.ddecay[i];
          const float ddelta = grad.dweight[i] + grad.dgamma[i] - down * rate;
          out = x > 20.0f ? ddelta : ddelta / (1.0f + expf(-x));
          bias += out;
          decay = fmaf(down, grad.log_decay[i], decay);
        }
        grad.ddt[token * grad.stride + head] = __float2bfloat16(out);
      }
    }
    __syncthreads();
    parts[0][threadIdx.x] = bias;
    parts[1][threadIdx.x] = decay;
    __syncthreads();
    // The rows' sums in their order.
    if (row == 0 && real) {
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        float sum = 0;
        for (int r = 0; r < rows; ++r) sum += parts[which][r * lanes + lane];
        grad.sums[(blockIdx.x * 2 + which) * in.heads + head] = sum;
      }
    }
  }
}

constexpr float PI = 3.14159265358979f;
constexpr int SLAB = 64;  // tokens of a block

// What the gates of one token and head are made of.
struct Parts {
  float x, rate, delta, decay, share;  // delta before its softplus, raw A; delta, A, lambda
  bool held;                           // A is above its floor
  __device__ __forceinline__ Parts(const Gates3& in, int64_t token, int head) {
    const bf16* row = in.values + token * in.stride + head;
    x = __bfloat162float(row[0]) + in.dt_bias[head];
    rate = __bfloat162float(row[in.heads]);
    share = 1.0f / (1.0f + expf(-__bfloat162float(row[2 * in.heads])));
    delta = x > 20.0f ? x : log1pf(expf(x));
    if (in.heavy_tail)
      decay = rate >= 0 ? rate + 1.0f : 1.0f / (1.0f - rate);
    else
      decay = rate > 20.0f ? rate : log1pf(expf(rate));
    held = decay >= in.floor;
    decay = fmaxf(decay, in.floor);
  }
};

__device__ __forceinline__ float value_of(const float* from, int64_t i) {
  return from ? from[i] : 0.0f;
}

// Even blocks have the angles of SLAB tokens, odd ones their heads: no warp has both to do.
__global__ void __launch_bounds__(BLOCK) forward3(Gates3 in, Gates3Values out, int lanes) {
  const int64_t first = blockIdx.x / 2 * int64_t{SLAB};
  const int64_t last = first + SLAB < in.tokens ? first + SLAB : in.tokens;
  if (blockIdx.x % 2 == 0) {
    for (int64_t token = first + threadIdx.x / 32; token < last; token += BLOCK / 32)
      for (int pair = threadIdx.x % 32; pair < in.angles; pair += 32)
        out.theta[token * in.angles + pair] =
            PI * tanhf(__bfloat162float(in.values[token * in.stride + 3 * in.heads + pair]));
    return;
  }
  for (int64_t token = first + threadIdx.x / lanes; token < last; token += BLOCK / lanes)
    for (int head = threadIdx.x % lanes; head < in.heads; head += lanes) {
      const Parts here(in, token, head);
      const int64_t at = token * in.heads + head;
      const float gamma = here.share * here.delta;
      float weight = gamma;
      if (token + 1 < in.tokens && in.position[token + 1] != 0) {
        const Parts next(in, token + 1, head);
        weight += next.delta - next.share * next.delta;
      }
      out.delta[at] = here.delta;
      out.log_decay[at] = -here.delta * here.decay;
      out.gamma[at] = gamma;
      out.weight[at] = weight;
    }
}

// The first GATE_BLOCKS blocks have the heads: a thread keeps to one and strides over tokens,
// `lanes` side by side. The others have theta.
__global__ void __launch_bounds__(BLOCK)
    backward3(Gates3 in, Gates3Values grad, bf16* out, float* sums, int lanes, int64_t per_block) {
  __shared__ float parts[BLOCK];
  const int width = 3 * in.heads + in.angles;
  if (blockIdx.x >= GATE_BLOCKS) {
    const int64_t first = (blockIdx.x - GATE_BLOCKS) * int64_t{SLAB};
    const int64_t last = first + SLAB < in.tokens ? first + SLAB : in.tokens;
    for (int64_t token = first + threadIdx.x / 32; token < last; token += BLOCK / 32)
      for (int pair = threadIdx.x % 32; pair < in.angles; pair += 32) {
        const int column = 3 * in.heads + pair;
        const float t = tanhf(__bfloat162float(in.values[token * in.stride + column]));
        out[token * width + column] = __float2bfloat16(
            value_of(grad.theta, token * in.angles + pair) * PI * (1.0f - t * t));
      }
    return;
  }
  const int lane = threadIdx.x % lanes, row = threadIdx.x / lanes, rows = BLOCK / lanes;
  const int64_t first = blockIdx.x * per_block;
  const int64_t last = first + per_block < in.tokens ? first + per_block : in.tokens;
  for (int head = lane; head - lane < in.heads; head += lanes) {
    float bias = 0;
    for (int64_t token = first + row; token < last && head < in.heads; token += rows) {
      const Parts here(in, token, head);
      const int64_t at = token * in.heads + head;
      // Its late part has the weight of the token before.
      const float late = in.position[token] != 0 ? value_of(grad.weight, at - in.heads) : 0.0f;
      const float dgamma = value_of(grad.gamma, at) + value_of(grad.weight, at) - late;
      const float down = value_of(grad.log_decay, at);
      const float ddelta =
          value_of(grad.delta, at) + late + here.share * dgamma - here.decay * down;
      const float dx = here.x > 20.0f ? ddelta : ddelta / (1.0f + expf(-here.x));
      float drate = here.held ? -here.delta * down : 0.0f;
      if (in.heavy_tail)
        drate *= here.rate >= 0 ? 1.0f : here.decay * here.decay;
      else if (here.rate <= 20.0f)
        drate /= 1.0f + expf(-here.rate);
      bf16* to = out + token * width + head;
      to[0] = __float2bfloat16(dx);
      to[in.heads] = __float2bfloat16(drate);
      to[2 * in.heads] =
          __float2bfloat16(dgamma * here.delta * here.share * (1.0f - here.share));
      bias += dx;
    }
    __syncthreads();
    parts[threadIdx.x] = bias;
    __syncthreads();
    if (row == 0 && head < in.heads) {
      float sum = 0;
      for (int r = 0; r < rows; ++r) sum += parts[r * lanes + lane];
      sums[blockIdx.x * in.heads + head] = sum;
    }
  }
}

constexpr int SUM_COLUMNS = 16;  // 64 bytes

__global__ void __launch_bounds__(1024)
    sum_of_rows(const float* in, float* out, int64_t rows, int64_t width) {
  constexpr int PARTS = 1024 / SUM_COLUMNS;
  __shared__ float parts[PARTS][SUM_COLUMNS];
  const int lane = threadIdx.x % SUM_COLUMNS, part = threadIdx.x / SUM_COLUMNS;
  const int64_t column = blockIdx.x * int64_t{SUM_COLUMNS} + lane;
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int64_t row = part; row < rows; row += PARTS) sum += in[row * width + column];
  }
  parts[part][lane] = sum;
  for (int half = PARTS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (part < half) parts[part][lane] += parts[part + half][lane];
  }
  if (part == 0 && column < width) out[column] = parts[0][lane];
}

int lanes_of(int heads) {
  int lanes = 1;
  while (lanes < heads && lanes < BLOCK) lanes *= 2;
  return lanes;
}

}  // namespace

void gates3_forward(const Gates3& in, const Gates3Values& out, cudaStream_t stream) {
  if (in.tokens == 0) return;
  const int64_t blocks = (in.tokens + SLAB - 1) / SLAB;
  forward3<<<static_cast<unsigned>(2 * blocks), BLOCK, 0, stream>>>(in, out, lanes_of(in.heads));
  CISTRON_LAUNCH_CHECK("gates3_forward");
}

void gates3_backward(const Gates3& in, const Gates3Values& grad, bf16* out, float* sums,
                     cudaStream_t stream) {
  const int64_t per_block = (in.tokens + GATE_BLOCKS - 1) / GATE_BLOCKS;
  const int64_t slabs = in.angles > 0 ? (in.tokens + SLAB - 1) / SLAB : 0;
  backward3<<<static_cast<unsigned>(GATE_BLOCKS + slabs), BLOCK, 0, stream>>>(
      in, grad, out, sums, lanes_of(in.heads), per_block);
  CISTRON_LAUNCH_CHECK("gates3_backward");
}

void sum_rows(const float* in, float* out, int64_t rows, int64_t width, cudaStream_t stream) {
  if (width == 0) return;
  sum_of_rows<<<static_cast<unsigned>((width + SUM_COLUMNS - 1) / SUM_COLUMNS), 1024, 0, stream>>>(
      in, out, rows, width);
  CISTRON_LAUNCH_CHECK("sum_rows");
}

void gates_forward(const Gates2& in, float* delta, float* log_decay, cudaStream_t stream) {
  if (in.tokens * in.heads == 0) return;
  const int64_t blocks = (in.tokens * in.heads + BLOCK - 1) / BLOCK;
  forward<<<static_cast<unsigned>(blocks < 4096 ? blocks : 4096), BLOCK, 0, stream>>>(in, delta,
                                                                                       log_decay);
  CISTRON_LAUNCH_CHECK("gates_forward");
}

void gates_backward(const Gates2& in, const Gates2Gradient& grad, cudaStream_t stream) {
  const int64_t per_block = (in.tokens + GATE_BLOCKS - 1) / GATE_BLOCKS;
  backward<<<GATE_BLOCKS, BLOCK, 0, stream>>>(in, grad, lanes_of(in.heads + grad.spare), per_block);
  CISTRON_LAUNCH_CHECK("gates_backward");
}

}  // namespace cistron::cuda
