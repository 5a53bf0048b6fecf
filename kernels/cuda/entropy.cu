// A few lanes a token: as many as the vocabulary, 32 at most.
#include "entropy.h"

#include "rows.cuh"

namespace cistron::cuda {
namespace {

constexpr int BLOCK = 256;

template <int LANES>
__device__ __forceinline__ float most_over(float x) {
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

template <int LANES>
__global__ void __launch_bounds__(BLOCK) forward(Entropy in, float* total, float* sums) {
  constexpr int ROWS = BLOCK / LANES;
  __shared__ float parts[ROWS];
  const int lane = threadIdx.x % LANES, row = threadIdx.x / LANES;
  float nats = 0;
  // All lanes of a warp make the same number of turns.
  for (int64_t base = blockIdx.x * int64_t{ROWS}; base < in.tokens;
       base += int64_t{gridDim.x} * ROWS) {
    const int64_t t = base + row;
    const bool there = t < in.tokens;
    const float* logits = in.logits + (there ? t : 0) * in.vocabulary;
    float most = -INFINITY;
    for (int c = lane; c < in.vocabulary; c += LANES) most = fmaxf(most, logits[c]);
    most = most_over<LANES>(most);
    float sum = 0;
    for (int c = lane; c < in.vocabulary; c += LANES) sum += expf(logits[c] - most);
    sum = sum_over<LANES>(sum);
    const float all = most + logf(sum);
    if (lane == 0 && there) {
      total[t] = all;
      const int64_t target = in.targets[t];
      if (target != in.ignored) nats += all - logits[target];
    }
  }
  if (lane == 0) parts[row] = nats;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int r = 0; r < ROWS; ++r) sum += parts[r];
    sums[blockIdx.x] = sum;
  }
}

__global__ void __launch_bounds__(BLOCK)
    backward(Entropy in, const float* total, const float* scale, float* dlogits) {
  const float by = *scale;
  const int64_t count = in.tokens * in.vocabulary;
  for (int64_t i = blockIdx.x * int64_t{BLOCK} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * BLOCK) {
    const int64_t t = i / in.vocabulary, target = in.targets[t];
    const float share = expf(in.logits[i] - total[t]);
    const bool own = i - t * in.vocabulary == target;
    dlogits[i] = target == in.ignored ? 0.0f : by * (share - (own ? 1.0f : 0.0f));
  }
}

}  // namespace

void entropy_forward(const Entropy& in, float* total, float* sums, cudaStream_t stream) {
  if (in.vocabulary <= 8)
    forward<8><<<ENTROPY_BLOCKS, BLOCK, 0, stream>>>(in, total, sums);
  else
    forward<32><<<ENTROPY_BLOCKS, BLOCK, 0, stream>>>(in, total, sums);
  CISTRON_LAUNCH_CHECK("entropy_forward");
}

void entropy_backward(const Entropy& in, const float* total, const float* scale, float* dlogits,
                      cudaStream_t stream) {
  const int64_t count = in.tokens * in.vocabulary;
  if (count == 0) return;
  const int64_t blocks = (count + BLOCK - 1) / BLOCK;
  backward<<<static_cast<unsigned>(blocks < 4096 ? blocks : 4096), BLOCK, 0, stream>>>(
      in, total, scale, dlogits);
  CISTRON_LAUNCH_CHECK("entropy_backward");
}

}  // namespace cistron::cuda
