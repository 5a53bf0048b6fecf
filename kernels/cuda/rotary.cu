#include "rotary.h"

#include "rows.cuh"

namespace cistron::cuda {

namespace {

// A thread turns or copies eight neighbouring channels.
template <bool BACKWARD>
__global__ void __launch_bounds__(256) turn(Rotary in) {
  const int vectors = in.head_dim / 8;
  const int64_t count = in.tokens * 3 * in.heads * vectors;
  for (int64_t i = blockIdx.x * 256LL + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * 256) {
    const int vector = i % vectors;
    const int64_t rest = i / vectors;
    const int head = rest % in.heads;
    const int part = rest / in.heads % 3;
    const int64_t token = rest / in.heads / 3;
    __nv_bfloat16* own = part == 0 ? in.q : part == 1 ? in.k : in.v;
    own += (token * in.heads + head) * in.head_dim;
    __nv_bfloat16* joined = in.joined + ((token * 3 + part) * in.heads + head) * in.head_dim;
    const __nv_bfloat16* from = BACKWARD ? own : joined;
    __nv_bfloat16* to = BACKWARD ? joined : own;
    const int channel = vector * 8;
    float x[8];
    load<8>(from + channel, x);
    if (part < 2 && channel < 2 * in.half) {
      const bool first = channel < in.half;
      float other[8];
      load<8>(from + channel + (first ? in.half : -in.half), other);
      const float position = static_cast<float>(in.position[token]);
      const float sign = first == BACKWARD ? 1.0f : -1.0f;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float sine, cosine;
        sincosf(position * in.frequency[channel + j - (first ? 0 : in.half)], &sine, &cosine);
        x[j] = x[j] * cosine + sign * other[j] * sine;
      }
    }
    store<8>(to + channel, x);
  }
}

}  // namespace

void rotary(const Rotary& in, bool backward, cudaStream_t stream) {
  const int64_t count = in.tokens * 3 * in.heads * (in.head_dim / 8);
  if (count == 0) return;
  const int64_t blocks = (count + 255) / 256;
  const unsigned grid = static_cast<unsigned>(blocks < 65536 ? blocks : 65536);
  if (backward)
    turn<true><<<grid, 256, 0, stream>>>(in);
  else
    turn<false><<<grid, 256, 0, stream>>>(in);
  CISTRON_LAUNCH_CHECK("rotary");
}

}  // namespace cistron::cuda
