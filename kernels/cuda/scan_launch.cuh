// Which sizes the scan is compiled for, and launch helpers.
#pragma once
#include "common.cuh"

namespace cistron::cuda {

template <int P_, int N_, int R_, bool TURN_>
struct ScanShape {
  static constexpr int P = P_, N = N_, R = R_;
  static constexpr bool TURN = TURN_;
};

// Calls `f` with the compiled shape, or returns false where there is none.
template <typename F>
bool dispatch(int head_dim, int state, int rank, bool turn, F&& f) {
#define CISTRON_SHAPE(P, N, R, TURN)                                                     \
  if (head_dim == P && state == N && rank == R && turn == TURN) {                        \
    f(ScanShape<P, N, R, TURN>{});                                                       \
    return true;                                                                         \
  }
#define CISTRON_SHAPES(P, N)   \
  CISTRON_SHAPE(P, N, 1, false) \
  CISTRON_SHAPE(P, N, 1, true)
  CISTRON_SHAPES(64, 128)
#ifndef CISTRON_FEW_SHAPES
  CISTRON_SHAPES(64, 64)
  CISTRON_SHAPES(32, 64)
  CISTRON_SHAPE(64, 128, 2, true)
  CISTRON_SHAPE(64, 128, 8, true)
#endif
  CISTRON_SHAPE(64, 128, 4, true)
#undef CISTRON_SHAPES
#undef CISTRON_SHAPE
  return false;
}

template <typename K>
void allow(K* kernel, size_t bytes) {
  const cudaError_t error = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("shared memory: ") + cudaGetErrorString(error));
}

}  // namespace cistron::cuda
