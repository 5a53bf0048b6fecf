// Cross-entropy over a small vocabulary, in fp32.
#pragma once
#include <cstdint>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

struct Entropy {
  std::int64_t tokens;
  int vocabulary;
  const float* logits;           // [tokens, vocabulary]
  const std::int64_t* targets;   // [tokens]
  std::int64_t ignored;          // a target that costs nothing
};

constexpr int ENTROPY_BLOCKS = 528;  // partial sums

// `total` [tokens]: logarithm of the sum of exponentials; `sums` [ENTROPY_BLOCKS]: nats.
void entropy_forward(const Entropy& in, float* total, float* sums, cudaStream_t stream);

// dlogits = scale * (softmax - target), zeros where ignored; `scale` lies on the device.
void entropy_backward(const Entropy& in, const float* total, const float* scale, float* dlogits,
                      cudaStream_t stream);

}  // namespace cistron::cuda
