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

// Tiles are cut into panels of 64 columns, stored one after another: a row of a panel is
// 128 bytes, as the 128-byte swizzle of wgmma has it. ROWS_ is the height of the tile.
template <int W>
constexpr int PITCH = W < 64 ? W : 64;

template <int W, int ROWS_ = 64>
__device__ __forceinline__ int at(int row, int column) {
  if (W < 64)
    return row * W + ((((column >> 3) ^ ((row >> 1) & (W / 8 - 1))) << 3) | (column & 7));
  return (column >> 6) * (ROWS_ * 64) + row * 64 +
         (((((column >> 3) & 7) ^ (row & 7)) << 3) | (column & 7));
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ float2 unpack(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Addresses within a tile change from one step of a product to the next by constants
// that are added or, within a row, exclusive-ored: each operand computes its address once.
// Tiles start at multiples of 1024 bytes; steps along a row never carry into the next.
template <int W, int ROWS_ = 64>
__device__ __forceinline__ uint32_t place(const bf16* tile, int row, int piece) {
  return shared_address(tile + at<W, ROWS_>(row, piece * 8));
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

// Matrix descriptors of wgmma for the 128-byte swizzle (PTX ISA, "Shared memory matrix
// layout"): eight rows of a panel lie 1024 bytes apart. Steps are added to the low word.
__device__ __forceinline__ uint32_t descriptor_word(uint32_t address) {
  return (address & 0x3ffff) >> 4 | 1u << 16;
}

__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t word, int bytes) {
  return uint64_t{1024 >> 4 | 1u << 30} << 32 | (word + (bytes >> 4));
}

// This thread's warp, which the compiler then knows to be the same for all lanes: what follows
// from it is computed once a warp.
__device__ __forceinline__ int warp_number() { return __shfl_sync(~0u, threadIdx.x >> 5, 0); }

// Left operand of all 64 rows: rows m.. of a tile stored [m][k] are this warp's.
template <int W, int ROWS_ = 64>
struct Left {
  static constexpr bool TRANSPOSED = false, WIDE = W >= 64, REGISTERS = false;
  uint32_t base;
  const bf16* tile;
  __device__ __forceinline__ Left(const bf16* from, int m) : tile(from) {
    const int lane = threadIdx.x & 31;
    base = place<W, ROWS_>(tile, m + (lane & 15), lane >> 4);
  }
  __device__ __forceinline__ void load(uint32_t (&a)[4], int k) const {
    load_matrices(a, (base ^ (2 * (k & 63))) + (k >> 6) * (ROWS_ * 128));
  }
  __device__ __forceinline__ uint64_t descriptor(int k) const {
    return matrix_descriptor(descriptor_word(shared_address(tile)),
                             2 * (k & 63) + (k >> 6) * (ROWS_ * 128));
  }
};

// Left operand: columns m.. of a tile stored [k][m] are this warp's.
template <int W, int ROWS_ = 64>
struct LeftTransposed {
  static constexpr bool TRANSPOSED = true, WIDE = W >= 64, REGISTERS = false;
  uint32_t base;
  const bf16* tile;
  __device__ __forceinline__ LeftTransposed(const bf16* from, int m) : tile(from) {
    const int lane = threadIdx.x & 31;
    base = place<W, ROWS_>(tile, (lane & 7) + ((lane >> 4) << 3), m / 8 + ((lane >> 3) & 1));
  }
  __device__ __forceinline__ void load(uint32_t (&a)[4], int k) const {
    load_matrices_transposed(a, base + k * (2 * PITCH<W>));
  }
  __device__ __forceinline__ uint64_t descriptor(int k) const {
    return matrix_descriptor(descriptor_word(shared_address(tile)), k * 128);
  }
};

// Left operand in registers: rows m.. of a tile stored [m][k].
template <int W>
struct LeftHeld {
  static constexpr bool TRANSPOSED = false, WIDE = true, REGISTERS = true;
  uint32_t value[W / 16][4];
  __device__ __forceinline__ LeftHeld(const bf16* tile, int m) {
    const Left<W> from(tile, m);
#pragma unroll
    for (int k = 0; k < W / 16; ++k) from.load(value[k], 16 * k);
  }
  __device__ __forceinline__ const uint32_t (&part(int k) const)[4] { return value[k / 16]; }
  __device__ __forceinline__ void load(uint32_t (&a)[4], int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = value[k / 16][i];
  }
};

// The same, each row times a factor: for m + lane / 4 and eight below.
template <int W>
struct LeftScaled : LeftHeld<W> {
  __device__ __forceinline__ LeftScaled(const bf16* tile, int m, float low, float high)
      : LeftHeld<W>(tile, m) {
#pragma unroll
    for (int k = 0; k < W / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t& pair = this->value[k][i];
        const float2 v = unpack(pair);
        const float by = i & 1 ? high : low;
        pair = pack(v.x * by, v.y * by);
      }
  }
};

// Left operand in registers: columns m.. of a tile stored [k][m] with 64 rows, each row times a
// factor, or what its rounding leaves out.
template <int W>
struct LeftTransposedScaled {
  static constexpr bool TRANSPOSED = false, WIDE = true, REGISTERS = true;
  uint32_t value[4][4];
  __device__ __forceinline__ LeftTransposedScaled(const bf16* tile, int m, const float* factors,
                                                  bool rest = false) {
    const LeftTransposed<W> from(tile, m);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      from.load(value[k], 16 * k);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 by = *reinterpret_cast<const float2*>(
            factors + 16 * k + 8 * (i >> 1) + 2 * (threadIdx.x & 3));
        const float2 v = unpack(value[k][i]);
        const float2 whole{v.x * by.x, v.y * by.y};
        value[k][i] = pack(whole.x, whole.y);
        if (rest) {
          const float2 rounded = unpack(value[k][i]);
          value[k][i] = pack(whole.x - rounded.x, whole.y - rounded.y);
        }
      }
    }
  }
  __device__ __forceinline__ const uint32_t (&part(int k) const)[4] { return value[k / 16]; }
  __device__ __forceinline__ void load(uint32_t (&a)[4], int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = value[k / 16][i];
  }
};

// Right operand: rows n.. of a tile stored [n][k]; two fragments of eight at a time.
template <int W, int ROWS_ = 64>
struct Right {
  static constexpr bool TRANSPOSED = false, WIDE = W >= 64;
  uint32_t base, start;
  __device__ __forceinline__ Right(const bf16* tile, int n) {
    const int lane = threadIdx.x & 31;
    base = place<W, ROWS_>(tile, n + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
    start = shared_address(tile) + n * (2 * PITCH<W>);
  }
  __device__ __forceinline__ void load(uint32_t (&b)[4], int k, int fragment) const {
    load_matrices(b, (base ^ (2 * (k & 63))) + (k >> 6) * (ROWS_ * 128) +
                         fragment * (16 * PITCH<W>));
  }
  __device__ __forceinline__ uint64_t descriptor(int k) const {
    return matrix_descriptor(descriptor_word(start), 2 * (k & 63) + (k >> 6) * (ROWS_ * 128));
  }
};

// Right operand: columns n.. of a tile stored [k][n]; n is a multiple of the warp's columns.
template <int W, int ROWS_ = 64>
struct RightTransposed {
  static constexpr bool TRANSPOSED = true, WIDE = W >= 64;
  uint32_t base, start;
  __device__ __forceinline__ RightTransposed(const bf16* tile, int n) {
    const int lane = threadIdx.x & 31;
    base = place<W, ROWS_>(tile, lane & 15, n / 8 + (lane >> 4));
    start = shared_address(tile) + (n >> 6) * (ROWS_ * 128) + 2 * (n & 63);
  }
  __device__ __forceinline__ void load(uint32_t (&b)[4], int k, int fragment) const {
    load_matrices_transposed(b, (base ^ (16 * fragment)) + k * (2 * PITCH<W>));
  }
  __device__ __forceinline__ uint64_t descriptor(int k) const {
    return matrix_descriptor(descriptor_word(start), k * 128);
  }
};

__device__ __forceinline__ uint32_t load_word(uint32_t address) {
  uint32_t value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_word(uint32_t address, uint32_t value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

// The pairs of neighbouring elements that a thread holds of a 16-row accumulator.
template <int W, int ROWS_ = 64>
struct Elements {
  uint32_t base;
  __device__ __forceinline__ Elements(const bf16* tile, int row, int column) {
    const int lane = threadIdx.x & 31;
    base = place<W, ROWS_>(tile, row + (lane >> 2), column / 8) + 4 * (lane & 3);
  }
  __device__ __forceinline__ uint32_t address(int fragment, int half) const {
    return (base ^ (16 * fragment)) + half * (16 * PITCH<W>);
  }
  __device__ __forceinline__ uint32_t load(int fragment, int half) const {
    return load_word(address(fragment, half));
  }
  __device__ __forceinline__ void store(int fragment, int half, uint32_t value) const {
    store_word(address(fragment, half), value);
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

// The asynchronous product of a warpgroup's 64 rows, on sm_90a.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <bool TA, bool TB>
__device__ __forceinline__ void multiply_async(float (&c)[4][4], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, 1, 1, 1, %18, %19;"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3])
      : "l"(a), "l"(b), "n"(int(TA)), "n"(int(TB)));
}

// The first of a sum.
template <bool TA, bool TB>
__device__ __forceinline__ void multiply_first(float (&c)[4][4], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, 0, 1, 1, %18, %19;"
      : "=f"(c[0][0]), "=f"(c[0][1]), "=f"(c[0][2]), "=f"(c[0][3]), "=f"(c[1][0]), "=f"(c[1][1]),
        "=f"(c[1][2]), "=f"(c[1][3]), "=f"(c[2][0]), "=f"(c[2][1]), "=f"(c[2][2]), "=f"(c[2][3]),
        "=f"(c[3][0]), "=f"(c[3][1]), "=f"(c[3][2]), "=f"(c[3][3])
      : "l"(a), "l"(b), "n"(int(TA)), "n"(int(TB)));
}

template <bool TA, bool TB>
__device__ __forceinline__ void multiply_async(float (&c)[8][4], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "%32, %33, 1, 1, 1, %34, %35;"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]),
        "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
        "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]),
        "+f"(c[7][2]), "+f"(c[7][3])
      : "l"(a), "l"(b), "n"(int(TA)), "n"(int(TB)));
}

// The same with this warp's 16 rows of the left operand in registers.
template <bool TB>
__device__ __forceinline__ void multiply_async(float (&c)[4][4], const uint32_t (&a)[4],
                                               uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20, 1, 1, 1, "
      "%21;"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int(TB)));
}

template <bool TB>
__device__ __forceinline__ void multiply_async(float (&c)[8][4], const uint32_t (&a)[4],
                                               uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, %36, 1, 1, 1, %37;"
      : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]),
        "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),
        "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]), "+f"(c[4][1]),
        "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
        "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]),
        "+f"(c[7][2]), "+f"(c[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int(TB)));
}

__device__ __forceinline__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most PENDING groups are under way. The accumulators are operands, so that
// nothing reads them earlier.
template <int PENDING, int F>
__device__ __forceinline__ void products_wait(float (&c)[F][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
#pragma unroll
  for (int f = 0; f < F; ++f)
    asm volatile("" : "+f"(c[f][0]), "+f"(c[f][1]), "+f"(c[f][2]), "+f"(c[f][3])::"memory");
}

// Orders this thread's stores to shared memory before later products of any thread.
__device__ __forceinline__ void stores_done() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
#else
template <int PENDING, int F>
__device__ __forceinline__ void products_wait(float (&)[F][4]) {}
__device__ __forceinline__ void stores_done() {}
#endif

__device__ __forceinline__ uint32_t& word(bf16* element) {
  return *reinterpret_cast<uint32_t*>(element);
}

__device__ __forceinline__ uint32_t word(const bf16* element) {
  return *reinterpret_cast<const uint32_t*>(element);
}

// Sixteen bytes from device to shared memory, or zeros, for which `from` is not read.
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

// Writes a tile of SIZE elements to device memory as it lies in shared memory; the whole block
// calls it after a barrier, and tile_read before the one after which the tile may change.
template <int SIZE>
__device__ __forceinline__ void write_tile(bf16* to, const bf16* tile) {
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0)
    asm volatile(
        "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n"
        "cp.async.bulk.commit_group;" ::"l"(to), "r"(shared_address(tile)), "n"(SIZE * 2)
        : "memory");
#else
  for (int i = threadIdx.x * 8; i < SIZE; i += blockDim.x * 8)
    *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(tile + i);
#endif
}

__device__ __forceinline__ void tile_read() {
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
#endif
}

// Waits until at most PENDING groups of copies, of which the last ends here, are under way.
template <int PENDING = 0>
__device__ __forceinline__ void copies_done() {
  asm volatile("cp.async.commit_group;\ncp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

}  // namespace cistron::cuda
