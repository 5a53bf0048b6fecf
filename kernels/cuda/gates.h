// The gates of a Mamba-2 scan, read from the projection's rows.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

struct Gates2 {
  std::int64_t tokens;
  int heads;
  const __nv_bfloat16* dt;  // rows of `stride` elements, the heads first
  std::int64_t stride;
  const float *dt_bias, *a_log;  // [heads]
};

// delta = softplus(dt + dt_bias), log_decay = -delta * exp(a_log): [tokens, heads].
void gates_forward(const Gates2& in, float* delta, float* log_decay, cudaStream_t stream);

constexpr int GATE_BLOCKS = 264;  // partial sums

struct Gates2Gradient {
  const float *delta, *log_decay;         // of the forward pass
  const float *dweight, *dgamma, *ddecay;  // [tokens, heads]; delta is weight and gamma
  __nv_bfloat16* ddt;                      // rows of `stride` elements
  std::int64_t stride;
  int spare;    // zeros behind the heads
  float* sums;  // [GATE_BLOCKS, 2, heads]: gradients of dt_bias and a_log
};
void gates_backward(const Gates2& in, const Gates2Gradient& grad, cudaStream_t stream);

}  // namespace cistron::cuda
