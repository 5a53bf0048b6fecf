#include "chunk.h"

#include "rows.cuh"

namespace cistron::cuda {
namespace {

constexpr int WARPS = 8, BLOCK = 32 * WARPS;

// A warp a token. Values are read 4 at a time.
__global__ void __launch_bounds__(BLOCK) route(Router in, RouterOutputs out) {
  const int lane = threadIdx.x & 31;
  const int64_t t = blockIdx.x * int64_t{WARPS} + (threadIdx.x >> 5);
  if (t >= in.tokens) return;
  const bool first = in.position[t] == 0;
  float dot = 0, qq = 0, kk = 0;
  if (!first) {
    const float* q = in.qk + (t - 1) * 2 * in.width;
    const float* k = in.qk + t * 2 * in.width + in.width;
#pragma unroll 2
    for (int c = lane * 4; c < in.width; c += 128) {
      float a[4], b[4];
      load<4>(q + c, a);
      load<4>(k + c, b);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        dot = fmaf(a[i], b[i], dot);
        qq = fmaf(a[i], a[i], qq);
        kk = fmaf(b[i], b[i], kk);
      }
    }
  }
  dot = sum_over<32>(dot);
  qq = sum_over<32>(qq);
  kk = sum_over<32>(kk);
  if (lane != 0) return;
  const float iq = 1.0f / fmaxf(sqrtf(qq), 1e-12f), ik = 1.0f / fmaxf(sqrtf(kk), 1e-12f);
  const float cosine = dot * iq * ik;
  const float prob = first ? 1.0f : fminf(fmaxf(0.5f * (1.0f - cosine), 0.0f), 1.0f);
  out.prob[t] = prob;
  out.cosine[t] = cosine;
  out.iq[t] = iq;
  out.ik[t] = ik;
  const int64_t scattered = static_cast<int64_t>(static_cast<uint32_t>(t * 0x9E3779B1LL));
  out.mask[t] = first || (out.limit < 0 ? prob > 0.5f : scattered < out.limit);
}

// A warp a token: its k turned with the q before it, its q with the k behind it.
__global__ void __launch_bounds__(BLOCK)
    route_gradient(Router in, const float* cosine, const float* iq, const float* ik,
                   const float* dprob, float* dqk) {
  const int lane = threadIdx.x & 31;
  const int64_t t = blockIdx.x * int64_t{WARPS} + (threadIdx.x >> 5);
  if (t >= in.tokens) return;
  // Gradient of the cosine at a token; none where the probability is clamped or set.
  auto along = [&](int64_t token) {
    if (token >= in.tokens || in.position[token] == 0) return 0.0f;
    const float p = 0.5f * (1.0f - cosine[token]);
    return p >= 0.0f && p <= 1.0f ? -0.5f * dprob[token] : 0.0f;
  };
  const float here = along(t), next = along(t + 1);
  const float* row = in.qk + t * 2 * in.width;
  float* out = dqk + t * 2 * in.width;
  const float ch = cosine[t], ih = ik[t], jh = iq[t];
  const bool follows = t + 1 < in.tokens;
  const float cn = follows ? cosine[t + 1] : 0.0f, ihn = follows ? ik[t + 1] : 0.0f,
              jn = follows ? iq[t + 1] : 0.0f;
  for (int c = lane * 4; c < in.width; c += 128) {
    float q[4], k[4], dq[4], dk[4];
    fill(dq, 0.0f);
    fill(dk, 0.0f);
    if (here != 0.0f) {
      float before[4];
      load<4>(row - 2 * in.width + c, before);
      load<4>(row + in.width + c, k);
#pragma unroll
      for (int i = 0; i < 4; ++i) dk[i] = here * ih * (before[i] * jh - ch * (k[i] * ih));
    }
    if (next != 0.0f) {
      float behind[4];
      load<4>(row + 3 * in.width + c, behind);
      load<4>(row + c, q);
#pragma unroll
      for (int i = 0; i < 4; ++i) dq[i] = next * jn * (behind[i] * ihn - cn * (q[i] * jn));
    }
    store<4>(out + c, dq);
    store<4>(out + in.width + c, dk);
  }
}

__global__ void __launch_bounds__(BLOCK) place(Places in) {
  const int64_t t = blockIdx.x * int64_t{BLOCK} + threadIdx.x;
  if (t <= in.sequences) {
    const int64_t end = in.offsets[t];
    in.totals[t] = end > 0 ? in.count[end - 1] : 0;
  }
  if (t >= in.tokens) return;
  const int64_t chunk = in.count[t] - 1;
  in.source[t] = chunk;
  if (in.mask[t]) in.boundaries[chunk] = t;
}

__global__ void __launch_bounds__(BLOCK)
    spread(int64_t items, int columns, const bool* mask, const int64_t* source, const uint4* dout,
           uint4* dx) {
  const int64_t item = blockIdx.x * int64_t{BLOCK} + threadIdx.x;
  if (item >= items) return;
  const int64_t t = item / columns;
  dx[item] = mask[t] ? dout[source[t] * columns + (item - t * columns)] : make_uint4(0, 0, 0, 0);
}

}  // namespace

void router_forward(const Router& in, const RouterOutputs& out, cudaStream_t stream) {
  if (in.tokens == 0) return;
  route<<<blocks_for(in.tokens, WARPS), BLOCK, 0, stream>>>(in, out);
  CISTRON_LAUNCH_CHECK("router_forward");
}

void router_backward(const Router& in, const float* cosine, const float* iq, const float* ik,
                     const float* dprob, float* dqk, cudaStream_t stream) {
  if (in.tokens == 0) return;
  route_gradient<<<blocks_for(in.tokens, WARPS), BLOCK, 0, stream>>>(in, cosine, iq, ik, dprob,
                                                                     dqk);
  CISTRON_LAUNCH_CHECK("router_backward");
}

void places(const Places& in, cudaStream_t stream) {
  const int64_t threads = in.tokens > in.sequences + 1 ? in.tokens : in.sequences + 1;
  place<<<blocks_for(threads, BLOCK), BLOCK, 0, stream>>>(in);
  CISTRON_LAUNCH_CHECK("places");
}

void gather_backward(int64_t tokens, int width, const bool* mask, const int64_t* source,
                     const bf16* dout, bf16* dx, cudaStream_t stream) {
  const int64_t items = tokens * (width / 8);
  if (items == 0) return;
  spread<<<blocks_for(items, BLOCK), BLOCK, 0, stream>>>(
      items, width / 8, mask, source, reinterpret_cast<const uint4*>(dout),
      reinterpret_cast<uint4*>(dx));
  CISTRON_LAUNCH_CHECK("gather_backward");
}

}  // namespace cistron::cuda
