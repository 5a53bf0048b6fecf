// Rows of fp32 or bf16 values: vector loads and stores, reductions over lanes, and the
// place of a token among packed sequences.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "common.cuh"
#include "kind.h"

namespace cistron::cuda {
namespace {

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float sigmoid_of(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}

// V neighbouring values. V is 1, 4 or 8; the address is a multiple of their size.
template <int V>
__device__ __forceinline__ void load(const float* p, float (&v)[V]) {
  if constexpr (V % 4 == 0) {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      const float4 a = *reinterpret_cast<const float4*>(p + i);
      v[i] = a.x, v[i + 1] = a.y, v[i + 2] = a.z, v[i + 3] = a.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = p[i];
  }
}

template <int V>
__device__ __forceinline__ void load(const bf16* p, float (&v)[V]) {
  if constexpr (V % 4 == 0) {
    unsigned raw[V / 2];
    if constexpr (V == 8) {
      const uint4 a = *reinterpret_cast<const uint4*>(p);
      raw[0] = a.x, raw[1] = a.y, raw[2] = a.z, raw[3] = a.w;
    } else {
      static_assert(V == 4);
      const uint2 a = *reinterpret_cast<const uint2*>(p);
      raw[0] = a.x, raw[1] = a.y;
    }
#pragma unroll
    for (int i = 0; i < V / 2; ++i) {
      v[2 * i] = __uint_as_float(raw[i] << 16);
      v[2 * i + 1] = __uint_as_float(raw[i] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = __bfloat162float(p[i]);
  }
}

template <int V>
__device__ __forceinline__ void store(float* p, const float (&v)[V]) {
  if constexpr (V % 4 == 0) {
#pragma unroll
    for (int i = 0; i < V; i += 4)
      *reinterpret_cast<float4*>(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) p[i] = v[i];
  }
}

template <int V>
__device__ __forceinline__ void store(bf16* p, const float (&v)[V]) {
  if constexpr (V % 4 == 0) {
    unsigned raw[V / 2];
#pragma unroll
    for (int i = 0; i < V / 2; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
      raw[i] = *reinterpret_cast<const unsigned*>(&pair);
    }
    if constexpr (V == 8) {
      *reinterpret_cast<uint4*>(p) = make_uint4(raw[0], raw[1], raw[2], raw[3]);
    } else {
      *reinterpret_cast<uint2*>(p) = make_uint2(raw[0], raw[1]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) p[i] = __float2bfloat16(v[i]);
  }
}

template <int V>
__device__ __forceinline__ void fill(float (&v)[V], float x) {
#pragma unroll
  for (int i = 0; i < V; ++i) v[i] = x;
}

// The sum over LANES neighbouring lanes, in all of them. All lanes of the warp call it.
template <int LANES>
__device__ __forceinline__ float sum_over(float x) {
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

// The sequence of a token. Empty sequences hold none.
struct Cursor {
  const std::int64_t* offsets;  // [sequences + 1]
  std::int64_t sequence, start, end;

  // 0 <= token < offsets[sequences].
  __device__ __forceinline__ Cursor(const std::int64_t* offsets, std::int64_t sequences,
                                    std::int64_t token)
      : offsets(offsets) {
    std::int64_t low = 0, high = sequences;  // offsets[low] <= token < offsets[high]
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      if (offsets[middle] <= token) low = middle;
      else high = middle;
    }
    sequence = low, start = offsets[low], end = offsets[low + 1];
  }

  // The first sequence at or after this one that ends after `token`.
  __device__ __forceinline__ void advance(std::int64_t token) {
    while (end <= token) {
      ++sequence;
      start = end, end = offsets[sequence + 1];
    }
  }
};

inline unsigned blocks_for(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

// Calls `f` with a null pointer of the type.
template <typename F>
void with_kind(bool bfloat16, F&& f) {
  if (bfloat16) f(static_cast<bf16*>(nullptr));
  else f(static_cast<float*>(nullptr));
}

}  // namespace
}  // namespace cistron::cuda
