// RMSNorm with the residual sum before it, and the gated RMSNorm of Mamba-2.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

constexpr int NORM_BLOCKS = 528;  // partial sums of a weight's gradient
constexpr int NORM_WIDTH = 4096;  // widest row; widths are multiples of 8

// sum = residual + branch; y = sum * rstd * weight. All rows are contiguous.
struct AddNorm {
  std::int64_t rows, width;
  const float* residual;
  const __nv_bfloat16* branch;  // null: sum is not written
  const float* weight;
  float* sum;
  __nv_bfloat16* y;
  float* rstd;  // [rows]
  float eps;
};
void add_norm_forward(const AddNorm& in, cudaStream_t stream);

struct AddNormGradient {
  std::int64_t rows, width;
  const float *sum, *weight, *rstd;
  const float* dsum;        // gradient of the sum from elsewhere, or null
  const __nv_bfloat16* dy;
  float* dresidual;
  __nv_bfloat16* dbranch;  // or null
  float* dweight;          // [NORM_BLOCKS, width]
  __nv_bfloat16* y;        // the output once more, or null
};
void add_norm_backward(const AddNormGradient& in, cudaStream_t stream);

// y = v * rstd * weight with v = x * silu(z); rows of z are `stride` apart.
struct GatedNorm {
  std::int64_t rows, width, stride;
  const __nv_bfloat16 *x, *z;
  const float* weight;
  __nv_bfloat16* y;
  float* rstd;
  float eps;
};
void gated_norm_forward(const GatedNorm& in, cudaStream_t stream);

struct GatedNormGradient {
  std::int64_t rows, width, stride;
  const __nv_bfloat16 *x, *z, *dy;
  const float *weight, *rstd;
  __nv_bfloat16 *dx, *dz;
  std::int64_t dz_stride;
  float* dweight;    // [NORM_BLOCKS, width]
  __nv_bfloat16* y;  // the output once more, or null
};
void gated_norm_backward(const GatedNormGradient& in, cudaStream_t stream);

}  // namespace cistron::cuda
