// Causal depthwise convolution with SiLU over packed sequences, in bf16.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

struct Conv {
  std::int64_t tokens, channels, sequences;  // channels: a multiple of 8
  int width;                                 // 2 to 4
  const __nv_bfloat16* x;                    // rows of `stride` elements
  std::int64_t stride;
  const float *weight, *bias;      // [channels, width], [channels]
  const std::int64_t* position;    // [tokens]: within the sequence
  const std::int64_t* offsets;     // [sequences + 1]
  const float* tail;               // [sequences, width - 1, channels]: inputs before the first token, or null
};

constexpr int CONV_RUN = 32, CONV_RUNS = 8;  // tokens a thread, runs a block

void conv_forward(const Conv& in, __nv_bfloat16* y, cudaStream_t stream);

// `sums`: [blocks, channels, width + 1] with blocks = ceil(tokens / (CONV_RUN * CONV_RUNS)):
// partial gradients of the weights and, last, of the bias.
// Rows of `dx` are `stride` elements apart.
void conv_backward(const Conv& in, const __nv_bfloat16* dy, __nv_bfloat16* dx, std::int64_t stride,
                   float* sums, float* dtail, cudaStream_t stream);

}  // namespace cistron::cuda
