// The dechunk layer: chunks smoothed, brought back to their tokens and added to what went
// past them; scaled by a confidence that is one forwards and has a gradient (H-Net, eq. 5, 8).
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

constexpr int EMA_ROWS = 128;     // chunks that are walked one after another
constexpr int DECHUNK_WIDTH = 2048;  // widest row; widths are multiples of 8

struct Dechunk {
  std::int64_t tokens, chunks;
  int width;
  const __nv_bfloat16* z;           // [chunks, width], rows of `stride` elements
  std::int64_t stride;
  const float* prob;                // [tokens]
  const std::int64_t* boundaries;   // [chunks]: first tokens; every sequence starts with one
  const std::int64_t* source;       // [tokens]: chunk of each
  const std::int64_t* position;     // [tokens]: within the sequence
  float floor, ceiling;             // of the probabilities
};

struct DechunkOutputs {
  const float* residual;  // [tokens, width]
  float* out;             // [tokens, width]
  float* smoothed;        // [chunks, width]
  float* ends;            // scratch [blocks of EMA_ROWS chunks, width]
  float* decay;           // scratch [blocks]
};
void dechunk_forward(const Dechunk& in, const DechunkOutputs& out, cudaStream_t stream);

struct DechunkGradient {
  const float* dout;       // [tokens, width]
  const float* dsmoothed;  // [chunks, width]: from elsewhere, or null
  const float* smoothed;  // of the forward pass
  float* sums;            // scratch [chunks, width]
  float *ends, *decay;    // scratch, as forwards
  float* dprob;           // [tokens]
  __nv_bfloat16* dz;      // [chunks, width]
};
void dechunk_backward(const Dechunk& in, const DechunkGradient& grad, cudaStream_t stream);

}  // namespace cistron::cuda
