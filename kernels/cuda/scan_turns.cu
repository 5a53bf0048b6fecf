// Gradients of what turns.
#include "scan_common.cuh"
#include "scan_launch.cuh"

namespace cistron::cuda {

// Gradients of theta and of delta through the angles: what is turned at a token or later, summed
// from the end of `rank` chunks, that is ROWS tokens; what turns over that end is there. A warp has
// eight heads, each in four lanes of eight pairs, as chunk_gradients orders them.
template <int PAIRS>
__global__ void __launch_bounds__(32) turn_gradients(ScanInputs in, ScanGradients grad,
                                                     int per_item, int parts_of_end) {
  constexpr int AHEAD = 4;
  static_assert(SCAN_HEADS == 8);
  const int lane = threadIdx.x, pitch = angle_pitch(in.angles);
  const int head = blockIdx.y * SCAN_HEADS + lane / 4, of_lane = lane % 4 * 8;
  auto pair_of = [&](int k, int i) {
    return 32 * k + (of_lane & 16) + 4 * (i & 3) + (of_lane & 8) / 4 + i / 4;
  };
  const bool works = head < in.heads;
  const int64_t number = blockIdx.x / per_item;
  const ScanItem item = in.item[number];
  const int chunks = (item.tokens - 1) / (ROWS / in.rank) + 1;
  for (int first = blockIdx.x % per_item * ROWS; first < item.tokens; first += per_item * ROWS) {
    const int end = item.tokens - first < ROWS ? item.tokens : first + ROWS;
    float sum[PAIRS][8];
    const int next = first / ROWS * in.rank + in.rank;
    const bool within = next < chunks;
    const float* from =
        within ? grad.chunk_turning + ((item.chunk + next) * int64_t{in.heads} + head) * in.angles
               : grad.turning + (number * in.heads + head) * parts_of_end * in.angles;
#pragma unroll
    for (int k = 0; k < PAIRS; ++k)
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        sum[k][i] = 0;
        if (!works || pair_of(k, i) >= in.angles) continue;
        for (int part = 0; part < (within ? 1 : parts_of_end); ++part)
          sum[k][i] += from[part * in.angles + pair_of(k, i)];
      }
    uint4 next_changes[AHEAD][PAIRS];
    float next_delta[AHEAD];
    auto ask = [&](int last) {
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        const bool valid = last - j >= first && works;
        const int64_t place = (item.start + last - j) * in.heads + head;
        next_delta[j] = valid ? in.delta[place] : 0.0f;
#pragma unroll
        for (int k = 0; k < PAIRS; ++k)
          next_changes[j][k] = valid && 32 * k + of_lane < pitch
                                   ? __ldcs(reinterpret_cast<const uint4*>(
                                         grad.dangle + place * pitch + 32 * k + of_lane))
                                   : make_uint4(0, 0, 0, 0);
      }
    };
    ask(end - 1);
    for (int last = end - 1; last >= first; last -= AHEAD) {
      uint4 changes[AHEAD][PAIRS];
      float theta[AHEAD][PAIRS][8], delta[AHEAD];
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        const float* thetas = in.theta + (item.start + last - j) * in.angles;
        delta[j] = next_delta[j];
#pragma unroll
        for (int k = 0; k < PAIRS; ++k) {
          changes[j][k] = next_changes[j][k];
#pragma unroll
          for (int i = 0; i < 8; ++i)
            theta[j][k][i] =
                last - j >= first && pair_of(k, i) < in.angles ? thetas[pair_of(k, i)] : 0.0f;
        }
      }
      ask(last - AHEAD);
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        const int64_t token = item.start + last - j;
        float along = 0;
#pragma unroll
        for (int k = 0; k < PAIRS; ++k) {
          const uint32_t words[4] = {changes[j][k].x, changes[j][k].y, changes[j][k].z,
                                     changes[j][k].w};
          float by_pair[8];
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            const float2 two = unpack(words[i / 2]);
            sum[k][i] += i % 2 ? two.y : two.x;
            along = fmaf(sum[k][i], theta[j][k][i], along);
            by_pair[i] = sum[k][i] * delta[j];
          }
          sum_columns(by_pair);  // over the heads
          const int pair = pair_of(k, lane / 4);
          if (last - j >= first && pair < in.angles)
            grad.dtheta[(blockIdx.y * in.tokens + token) * in.angles + pair] = by_pair[0];
        }
        along = sum_row(along);
        if (lane % 4 == 0 && last - j >= first && works) grad.ddelta[token * in.heads + head] = along;
      }
    }
  }
}

void scan_turns(const ScanInputs& in, const ScanGradients& grad, cudaStream_t stream) {
  const int spans = (chunks_per_item(in) + in.rank - 1) / in.rank;
  const dim3 grid(static_cast<unsigned>(in.items * spans),
                  (in.heads + SCAN_HEADS - 1) / SCAN_HEADS);
  const int parts_of_end = in.head_dim / 8;
  if (in.angles <= 32)
    turn_gradients<1><<<grid, 32, 0, stream>>>(in, grad, spans, parts_of_end);
  else
    turn_gradients<2><<<grid, 32, 0, stream>>>(in, grad, spans, parts_of_end);
  CISTRON_LAUNCH_CHECK("turn_gradients");
}

}  // namespace cistron::cuda
