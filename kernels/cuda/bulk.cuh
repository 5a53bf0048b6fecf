// Copies to shared memory that the machine's copy engine makes for a whole block (sm_90), and
// barriers in shared memory: those that copies complete, and those of some of a block's threads.
#pragma once
#include "mma.cuh"

#include <cuda.h>

namespace cistron::cuda {

// `place` is in shared memory. compute-sanitizer's racecheck follows these barriers, but not the
// machine's own of a part of a block.
__device__ __forceinline__ void barrier_begin(uint32_t place, int threads) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(place), "r"(threads) : "memory");
}

__device__ __forceinline__ uint64_t barrier_arrive(uint32_t place) {
  uint64_t phase;
  asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" : "=l"(phase) : "r"(place) : "memory");
  return phase;
}

__device__ __forceinline__ void barrier_sync(uint32_t place) {
  const uint64_t phase = barrier_arrive(place);
  uint32_t passed;
  do {
    asm volatile(
#if __CUDA_ARCH__ >= 900
        "{\n.reg .pred p;\nmbarrier.try_wait.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
#else
        "{\n.reg .pred p;\nmbarrier.test_wait.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
#endif
        : "=r"(passed)
        : "r"(place), "l"(phase)
        : "memory");
  } while (!__all_sync(~0u, passed));
}

// A barrier of one thread, which says how many bytes are to come and starts the copies: it completes
// when they are there.
__device__ __forceinline__ void bulk_begin(uint32_t barrier) {
  barrier_begin(barrier, 1);
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void bulk_expect(uint32_t barrier, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}

// Waits for the barrier's `turn`-th completion.
__device__ __forceinline__ void bulk_wait(uint32_t barrier, uint32_t turn) {
#if __CUDA_ARCH__ >= 900
  uint32_t passed;
  do {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(passed)
        : "r"(barrier), "r"(turn & 1)
        : "memory");
  } while (!__all_sync(~0u, passed));
#endif
}

// Policy of lines that no one reads again: they are the first to leave the second-level cache.
__device__ __forceinline__ uint64_t brief_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Neighbouring bytes, a multiple of 16 at multiples of 16.
template <bool BRIEF = false>
__device__ __forceinline__ void bulk_copy(void* to, const void* from, int bytes,
                                          uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  if constexpr (BRIEF)
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
        "[%1], %2, [%3], %4;" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(barrier), "l"(brief_policy())
        : "memory");
  else
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(barrier)
        : "memory");
#endif
}

// A box of a tensor of two or four dimensions, from the given place on.
__device__ __forceinline__ void bulk_copy(void* to, const CUtensorMap& map, int column, int row,
                                          uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
#endif
}

template <bool BRIEF = false>
__device__ __forceinline__ void bulk_copy(void* to, const CUtensorMap& map, int column, int rank,
                                          int head, int token, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  if constexpr (BRIEF)
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared_address(to)),
        "l"(&map), "r"(column), "r"(rank), "r"(head), "r"(token), "r"(barrier), "l"(brief_policy())
        : "memory");
  else
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
        "l"(&map), "r"(column), "r"(rank), "r"(head), "r"(token), "r"(barrier)
        : "memory");
#endif
}

// Brings what will be copied to the second-level cache.
__device__ __forceinline__ void bulk_prefetch(const void* from, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

__device__ __forceinline__ void bulk_prefetch(const CUtensorMap& map, int column, int rank,
                                              int head, int token) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(&map),
               "r"(column), "r"(rank), "r"(head), "r"(token)
               : "memory");
#endif
}

// A map of `data` with `rank` dimensions, the first of which lies together; strides of the others in
// bytes. False where the machine or its driver knows no maps, or these sizes do not fit one.
bool tensor_map(CUtensorMap& map, bool single, const void* data, int rank, const uint64_t* sizes,
                const uint64_t* strides, const uint32_t* box, bool swizzle);

}  // namespace cistron::cuda
