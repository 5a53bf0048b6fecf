// Which sizes the scan is compiled for, and launch helpers.
#pragma once
#include "common.cuh"
#include "scan_common.cuh"

namespace cistron::cuda {

// What follows the gradients of states: those within chunks, and those of angles.
void scan_chunks(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
                 cudaStream_t stream);
void scan_turns(const ScanInputs& in, const ScanGradients& grad, cudaStream_t stream);

// Chunks of an item on average, rounded up: blocks take those of longer ones in turn.
inline int chunks_per_item(const ScanInputs& in) {
  return static_cast<int>((in.chunks + in.items - 1) / in.items);
}

// At most MOST pairs turn.
template <int P_, int N_, int R_, bool TURN_, int MOST_>
struct ScanShape {
  static constexpr int P = P_, N = N_, R = R_, MOST = MOST_;
  static constexpr bool TURN = TURN_;
};

// Calls `f` with the compiled shape, or returns false where there is none. Code for few angles
// needs fewer registers.
template <typename F>
bool dispatch(int head_dim, int state, int rank, int angles, F&& f) {
#define CISTRON_SHAPE(P, N, R, TURN)                                                     \
  if (head_dim == P && state == N && rank == R && (angles >= 0) == TURN) {               \
    if (TURN && angles > 32)                                                             \
      f(ScanShape<P, N, R, TURN, TURN ? N / 2 : 32>{});                                  \
    else                                                                                 \
      f(ScanShape<P, N, R, TURN, 32>{});                                                 \
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

// Whether the copy engine finds `rows` of `heads` heads with boxes of 64 columns and 64 rows.
inline bool rows_map(CUtensorMap& map, const ScanRows& rows, int width, int rank, int heads,
                     int64_t tokens) {
  const uint64_t sizes[] = {static_cast<uint64_t>(width), static_cast<uint64_t>(rank),
                            static_cast<uint64_t>(heads), static_cast<uint64_t>(tokens)};
  // A stride that is never taken may be anything.
  auto bytes = [](int64_t stride, int64_t size) { return size > 1 ? uint64_t(stride) * 2 : 16; };
  const uint64_t strides[] = {bytes(rows.rank, rank), bytes(rows.head, heads),
                              bytes(rows.token, tokens)};
  const uint32_t box[] = {64, static_cast<uint32_t>(rank), 1, static_cast<uint32_t>(64 / rank)};
  return tensor_map(map, false, rows.data, 4, sizes, strides, box, true);
}

// `dy` may be null.
template <typename S>
ScanMaps scan_maps(const ScanInputs& in, const ScanRows* dy) {
  ScanMaps maps{};
  if (S::P < 64 || in.tokens >= int64_t{1} << 31) return maps;
  maps.ready = rows_map(maps.x, in.x, S::P, S::R, in.heads, in.tokens) &&
               rows_map(maps.b, in.b, S::N, S::R, in.groups, in.tokens) &&
               rows_map(maps.c, in.c, S::N, S::R, in.groups, in.tokens) &&
               (dy == nullptr || rows_map(maps.dy, *dy, S::P, S::R, in.heads, in.tokens));
  if (S::TURN && maps.ready) {
    const uint64_t sizes[] = {static_cast<uint64_t>(in.angles), static_cast<uint64_t>(in.tokens)};
    const uint64_t strides[] = {sizes[0] * sizeof(float)};
    const uint32_t box[] = {S::MOST, chunk_tokens<S::R>()};
    maps.ready = tensor_map(maps.theta, true, in.theta, 2, sizes, strides, box, false);
  }
  return maps;
}

template <typename K>
void allow(K* kernel, size_t bytes) {
  const cudaError_t error = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("shared memory: ") + cudaGetErrorString(error));
}

}  // namespace cistron::cuda
