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

}  // namespace

void gates_forward(const Gates2& in, float* delta, float* log_decay, cudaStream_t stream) {
  if (in.tokens * in.heads == 0) return;
  const int64_t blocks = (in.tokens * in.heads + BLOCK - 1) / BLOCK;
  forward<<<static_cast<unsigned>(blocks < 4096 ? blocks : 4096), BLOCK, 0, stream>>>(in, delta,
                                                                                       log_decay);
  CISTRON_LAUNCH_CHECK("gates_forward");
}

void gates_backward(const Gates2& in, const Gates2Gradient& grad, cudaStream_t stream) {
  int lanes = 1;
  while (lanes < in.heads + grad.spare && lanes < BLOCK) lanes *= 2;
  const int64_t per_block = (in.tokens + GATE_BLOCKS - 1) / GATE_BLOCKS;
  backward<<<GATE_BLOCKS, BLOCK, 0, stream>>>(in, grad, lanes, per_block);
  CISTRON_LAUNCH_CHECK("gates_backward");
}

}  // namespace cistron::cuda
