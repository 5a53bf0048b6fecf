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

// Addresses within a tile change from one step of a product to the next by constants
// that are added or, within a row, exclusive-ored: each operand computes its address once.
// Tiles start at multiples of 256 bytes; steps along a row never carry into the next.
template <int W>
__device__ __forceinline__ uint32_t place(const bf16* tile, int row, int piece) {
  constexpr int pieces = W / 8;
  const int mask = pieces >= 8 ? (row & 7) : ((row >> 1) & (pieces - 1));
  return shared_address(tile) + row * (2 * W) + ((piece ^ mask) << 4);
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// Left operand: rows m.. of a tile stored [m][k].
template <int W>
struct Left {
  uint32_t base;
  __device__ __forceinline__ Left(const bf16* tile, int m) {
    const int lane = threadIdx.x & 31;
    base = place<W>(tile, m + (lane & 15), lane >> 4);
  }
  __device__ __forceinline__ void load(uint32_t (&a)[4], int k) const {
    load_matrices(a, base ^ (2 * k));
  }
};

// Left operand: columns m.. of a tile stored [k][m].
template <int W>
struct LeftTransposed {
  uint32_t base;
  __device__ __forceinline__ LeftTransposed(const bf16* tile, int m) {
    const int lane = threadIdx.x & 31;
    base = place<W>(tile, (lane & 7) + ((lane >> 4) << 3), m / 8 + ((lane >> 3) & 1));
  }
  __device__ __forceinline__ void load(uint32_t (&a)[4], int k) const {
    load_matrices_transposed(a, base + k * (2 * W));
  }
};

// Right operand: rows n.. of a tile stored [n][k]; two fragments of eight at a time.
template <int W>
struct Right {
  uint32_t base;
  __device__ __forceinline__ Right(const bf16* tile, int n) {
    const int lane = threadIdx.x & 31;
    base = place<W>(tile, n + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
  }
  __device__ __forceinline__ void load(uint32_t (&b)[4], int k, int fragment) const {
    load_matrices(b, (base ^ (2 * k)) + fragment * (16 * W));
  }
};

// Right operand: columns n.. of a tile stored [k][n]; n is a multiple of the warp's columns.
template <int W>
struct RightTransposed {
  uint32_t base;
  __device__ __forceinline__ RightTransposed(const bf16* tile, int n) {
    const int lane = threadIdx.x & 31;
    base = place<W>(tile, lane & 15, n / 8 + (lane >> 4));
  }
  __device__ __forceinline__ void load(uint32_t (&b)[4], int k, int fragment) const {
    load_matrices_transposed(b, (base ^ (16 * fragment)) + k * (2 * W));
  }
};

// The pairs of neighbouring elements that a thread holds of a 16-row accumulator.
template <int W>
struct Elements {
  uint32_t base;
  __device__ __forceinline__ Elements(const bf16* tile, int row, int column) {
    const int lane = threadIdx.x & 31;
    base = place<W>(tile, row + (lane >> 2), column / 8) + 4 * (lane & 3);
  }
  __device__ __forceinline__ uint32_t address(int fragment, int half) const {
    return (base ^ (16 * fragment)) + half * (16 * W);
  }
  __device__ __forceinline__ uint32_t load(int fragment, int half) const {
    uint32_t value;
    asm volatile("ld.shared.b32 %0, [%1];"
                 : "=r"(value)
                 : "r"(address(fragment, half))
                 : "memory");
    return value;
  }
  __device__ __forceinline__ void store(int fragment, int half, uint32_t value) const {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address(fragment, half)), "r"(value) : "memory");
  }
};

// 2^x; results below the smallest normal number are zero.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
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

// Scales columns k.. of a left operand by `by[k..]` in shared memory.
__device__ __forceinline__ void scale_columns(uint32_t (&a)[4], const float* by) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float2 scale = *reinterpret_cast<const float2*>(by + 2 * (threadIdx.x & 3) + 8 * half);
#pragma unroll
    for (int i = 2 * half; i < 2 * half + 2; ++i) {
      const float2 value = unpack(a[i]);
      a[i] = pack(value.x * scale.x, value.y * scale.y);
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

// Four bytes, or zero.
__device__ __forceinline__ void copy_word_async(void* to, const void* from, bool valid) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes)
               : "memory");
}

// Asks for a line that the next chunk will read.
__device__ __forceinline__ void prefetch(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

__device__ __forceinline__ void copies_done() {
  asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
}

}  // namespace cistron::cuda
