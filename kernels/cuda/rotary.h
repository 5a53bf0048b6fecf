// Rotary embedding of queries and keys straight from their projection.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

struct Rotary {
  std::int64_t tokens;
  int heads, head_dim, half;  // half: pairs turned in each head; multiples of 8
  const float* frequency;     // [half]
  const std::int64_t* position;  // [tokens]
  __nv_bfloat16* joined;      // [tokens, 3, heads, head_dim]
  __nv_bfloat16 *q, *k, *v;   // [tokens, heads, head_dim]
};

// joined to q, k, v; or, `backward`, the gradients of q, k, v to that of joined.
void rotary(const Rotary& in, bool backward, cudaStream_t stream);

}  // namespace cistron::cuda
