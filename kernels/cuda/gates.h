// The gates of Mamba-2 and Mamba-3 scans, read from the projection's rows.
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

struct Gates3 {
  std::int64_t tokens;
  int heads, angles;
  bool heavy_tail;
  float floor;                    // of A
  const __nv_bfloat16* values;    // rows of `stride` elements: delta, A, lambda by head, and theta
  std::int64_t stride;
  const float* dt_bias;           // [heads]
  const std::int64_t* position;   // of each token in its sequence
};

// theta [tokens, angles], the others [tokens, heads]; log_decay is a, weight that in later states.
struct Gates3Values {
  float *theta, *delta, *log_decay, *gamma, *weight;
};
void gates3_forward(const Gates3& in, const Gates3Values& out, cudaStream_t stream);

// Gradients of the values, null where zero, to rows of 3 heads + angles elements; `sums`:
// [GATE_BLOCKS, heads], parts of the gradient of dt_bias.
void gates3_backward(const Gates3& in, const Gates3Values& grad, __nv_bfloat16* out, float* sums,
                     cudaStream_t stream);

// out = sum of the rows of in [rows, width], in one order.
void sum_rows(const float* in, float* out, std::int64_t rows, std::int64_t width,
              cudaStream_t stream);

}  // namespace cistron::cuda
