// Tiles of bf16 in shared memory and the warp-level matrix product m16n8k16.
//
// A tile has W bf16 a row; its 16-byte pieces are permuted within a row so that the
// eight rows of one ldmatrix fall into different banks. Fragments follow the PTX ISA,
// "Matrix fragments for mma.m16n8k16".
#pragma once
#include <cstdint>
#include <cuda_bf16.h>

namespace cistron::cuda {

using bf16 = __nv_bfloat16;

template <int W>
__device__ __forceinline__ int at(int row, int column) {
  constexpr int pieces = W / 8;
  const int mask = pieces >= 8 ? (row & 7) : ((row >> 1) & (pieces - 1));
  return row * W + ((((column >> 3) ^ mask) << 3) | (column & 7));
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// The 16 x 16 left operand at (m, k) of a tile stored [m][k].
template <int W>
__device__ __forceinline__ void left(uint32_t (&a)[4], const bf16* tile, int m, int k) {
  const int lane = threadIdx.x & 31;
  load_matrices(a, tile + at<W>(m + (lane & 15), k + ((lane >> 4) << 3)));
}

// The same of a tile stored [k][m].
template <int W>
__device__ __forceinline__ void left_transposed(uint32_t (&a)[4], const bf16* tile, int m, int k) {
  const int lane = threadIdx.x & 31;
  load_matrices_transposed(
      a, tile + at<W>(k + (lane & 7) + ((lane >> 4) << 3), m + (((lane >> 3) & 1) << 3)));
}

// The 16 x 16 right operand at (k, n) of a tile stored [n][k]: two 16 x 8 fragments.
template <int W>
__device__ __forceinline__ void right(uint32_t (&b)[4], const bf16* tile, int k, int n) {
  const int lane = threadIdx.x & 31;
  load_matrices(b,
                tile + at<W>(n + (lane & 7) + ((lane >> 4) << 3), k + (((lane >> 3) & 1) << 3)));
}

// The same of a tile stored [k][n].
template <int W>
__device__ __forceinline__ void right_transposed(uint32_t (&b)[4], const bf16* tile, int k, int n) {
  const int lane = threadIdx.x & 31;
  load_matrices_transposed(b, tile + at<W>(k + (lane & 15), n + ((lane >> 4) << 3)));
}

__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ float2 unpack(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ __forceinline__ uint32_t& word(bf16* element) {
  return *reinterpret_cast<uint32_t*>(element);
}

__device__ __forceinline__ uint32_t word(const bf16* element) {
  return *reinterpret_cast<const uint32_t*>(element);
}

// Columns k, k + 1 and k + 8, k + 9 of a left operand are scaled by what `scale` gives for them.
template <typename F>
__device__ __forceinline__ void scale_columns(uint32_t (&a)[4], int k, F&& scale) {
  const int column = k + 2 * (threadIdx.x & 3);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float low = scale(column + 8 * half), high = scale(column + 8 * half + 1);
#pragma unroll
    for (int i = 2 * half; i < 2 * half + 2; ++i) {
      const float2 value = unpack(a[i]);
      a[i] = pack(value.x * low, value.y * high);
    }
  }
}

// Sixteen bytes from device to shared memory, or zeros.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void copies_done() {
  asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
}

}  // namespace cistron::cuda
