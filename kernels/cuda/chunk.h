// Dynamic chunking: the router, the places of chunks, and the rows that come back.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

// Cosine of q(previous) and k(current). Rows hold q and k, `width` values each.
struct Router {
  std::int64_t tokens;
  int width;                     // a multiple of 4
  const float* qk;               // [tokens, 2 width]
  const std::int64_t* position;  // [tokens]: within the sequence
};

struct RouterOutputs {
  float* prob;              // [tokens]; 1 where a sequence starts
  bool* mask;               // [tokens]
  float *cosine, *iq, *ik;  // [tokens]: for the gradient; 1/|q| is that of the token before
  std::int64_t limit;       // starts of chunks where a scattered number is below it; < 0: where prob > 1/2
};
void router_forward(const Router& in, const RouterOutputs& out, cudaStream_t stream);

// `dqk` like qk.
void router_backward(const Router& in, const float* cosine, const float* iq, const float* ik,
                     const float* dprob, float* dqk, cudaStream_t stream);

// From the mask and its running count: the tokens that start a chunk, in order; for each
// token the chunk that it is in; and for each sequence the chunks before it, with the total
// behind them.
struct Places {
  std::int64_t tokens, sequences;
  const bool* mask;
  const std::int64_t *count, *offsets;
  std::int64_t *boundaries, *source, *totals;
};
void places(const Places& in, cudaStream_t stream);

// dx[t] = mask[t] ? dout[source[t]] : 0, rows of `width` bf16 values, a multiple of 8.
void gather_backward(std::int64_t tokens, int width, const bool* mask, const std::int64_t* source,
                     const __nv_bfloat16* dout, __nv_bfloat16* dx, cudaStream_t stream);

}  // namespace cistron::cuda
