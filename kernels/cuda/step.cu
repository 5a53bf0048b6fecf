#include "step.h"

#include "common.cuh"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace cistron::cuda {
namespace {

using bf16 = __nv_bfloat16;
constexpr int BLOCK = 256;
// State rows that a group of lanes holds at once: enough loads in flight to hide memory.
constexpr int HELD = 4;

__device__ __forceinline__ float value(const float* p) { return *p; }
__device__ __forceinline__ float value(const bf16* p) { return __bfloat162float(*p); }
__device__ __forceinline__ void put(float* p, float x) { *p = x; }
__device__ __forceinline__ void put(bf16* p, float x) { *p = __float2bfloat16(x); }

__device__ __forceinline__ float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }

template <int LANES>
__device__ __forceinline__ float sum_lanes(float x) {
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

// VEC values at once: 16 bytes of fp32 where VEC is 4.
template <int VEC>
struct Pack {
  float v[VEC];
};

template <int VEC>
__device__ __forceinline__ Pack<VEC> load(const float* p) {
  Pack<VEC> out;
  if constexpr (VEC == 4) {
    const float4 four = *reinterpret_cast<const float4*>(p);
    out.v[0] = four.x, out.v[1] = four.y, out.v[2] = four.z, out.v[3] = four.w;
  } else {
    out.v[0] = *p;
  }
  return out;
}

template <int VEC>
__device__ __forceinline__ Pack<VEC> load(const bf16* p) {
  Pack<VEC> out;
  if constexpr (VEC == 4) {
    const uint2 four = *reinterpret_cast<const uint2*>(p);
    const float2 a = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(four.x));
    const float2 b = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(four.y));
    out.v[0] = a.x, out.v[1] = a.y, out.v[2] = b.x, out.v[3] = b.y;
  } else {
    out.v[0] = value(p);
  }
  return out;
}

template <int VEC>
__device__ __forceinline__ void store(float* p, const Pack<VEC>& x) {
  if constexpr (VEC == 4)
    *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  else
    *p = x.v[0];
}

// The row of the states, or -1 where the row is off.
__device__ __forceinline__ int64_t state_row(const StepRows& rows, int64_t row) {
  if (rows.mask != nullptr && !rows.mask[row]) return -1;
  return rows.index == nullptr ? row : rows.index[row];
}

// Lets the blocks of the next kernel start where there is room, and waits for all of the one
// before. Before the wait a kernel may read only what that one does not write.
__device__ __forceinline__ void next_may_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_for_last() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// One thread a channel: dots the tail and the new input with the taps and moves the tail on.
// WIDTH taps, or with 0 as many as there are.
template <typename T, int WIDTH>
__global__ void conv_step(Mamba2Step step) {
  next_may_start();
  const int64_t inner = step.heads * step.head_dim;
  const int64_t channels = inner + 2 * step.groups * step.state;
  const int64_t blocks = (channels + BLOCK - 1) / BLOCK;
  const int64_t row = blockIdx.x / blocks;
  const int64_t channel = blockIdx.x % blocks * BLOCK + threadIdx.x;
  const int64_t at = state_row(step.rows, row);
  if (at < 0 || channel >= channels) return;
  const T* projected = static_cast<const T*>(step.projected) + row * step.stride + inner;
  const int64_t width = WIDTH > 0 ? WIDTH : step.width;
  const float* taps = step.conv_weight + channel * width;
  float* tail = step.tail + at * (width - 1) * channels + channel;
  const float now = value(projected + channel);
  float sum = step.conv_bias[channel];
  if constexpr (WIDTH > 0) {
    float held[WIDTH];
#pragma unroll
    for (int k = 0; k + 1 < WIDTH; ++k) held[k] = tail[k * channels];
    held[WIDTH - 1] = now;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
      sum = fmaf(taps[k], held[k], sum);
      if (k > 0) tail[(k - 1) * channels] = held[k];
    }
  } else {
    for (int64_t k = 0; k + 1 < width; ++k) {
      const float held = tail[k * channels];
      sum = fmaf(taps[k], held, sum);
      if (k > 0) tail[(k - 1) * channels] = held;
    }
    sum = fmaf(taps[width - 1], now, sum);
    if (width > 1) tail[(width - 2) * channels] = now;
  }
  step.mixed[row * channels + channel] = silu(sum);
}

// A group of LANES lanes holds HELD rows of the state of one head, VEC values a lane. The first
// values of the state are asked for before the convolution is waited for.
template <typename T, int VEC, int LANES>
__global__ void __launch_bounds__(BLOCK, 4) mamba2_scan_step(Mamba2Step step) {
  constexpr int GROUPS = BLOCK / LANES;
  const int64_t P = step.head_dim, N = step.state, H = step.heads;
  const int64_t tiles = (P + GROUPS * HELD - 1) / (GROUPS * HELD);
  const int64_t row = blockIdx.x / (tiles * H);
  const int64_t head = blockIdx.x / tiles % H;
  const int64_t first = (blockIdx.x % tiles * GROUPS + threadIdx.x / LANES) * HELD;
  const int lane = threadIdx.x % LANES;
  T* y = static_cast<T*>(step.y) + (row * H + head) * P;
  const int64_t at = state_row(step.rows, row);
  if (at < 0) {
    wait_for_last();
    for (int64_t p = first + lane; p < min(first + HELD, P); p += LANES) put(y + p, 0.0f);
    return;
  }
  float* state = step.ssm + ((at * H + head) * P + first) * N;
  Pack<VEC> held[HELD];
  auto load_state = [&](int64_t n) {
#pragma unroll
    for (int i = 0; i < HELD; ++i)
      if (first + i < P && n < N) held[i] = load<VEC>(state + i * N + n);
  };
  load_state(lane * VEC);
  wait_for_last();
  const int64_t inner = H * P, channels = inner + 2 * step.groups * N;
  const int64_t group = head / (H / step.groups);
  const float* mixed = step.mixed + row * channels;
  const float* x = mixed + head * P;
  const float* b = mixed + inner + group * N;
  const float* c = b + step.groups * N;
  const T* dt = static_cast<const T*>(step.projected) + row * step.stride + inner + channels + head;
  const float delta = softplus(value(dt) + step.dt_bias[head]);
  const float keep = expf(-delta * expf(step.a_log[head]));
  float in[HELD], out[HELD];
#pragma unroll
  for (int i = 0; i < HELD; ++i) {
    in[i] = first + i < P ? delta * x[first + i] : 0.0f;
    out[i] = 0.0f;
  }
  for (int64_t n = lane * VEC; n < N; n += LANES * VEC) {
    if (n != lane * VEC) load_state(n);
    const Pack<VEC> bn = load<VEC>(b + n), cn = load<VEC>(c + n);
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
      if (first + i >= P) continue;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        held[i].v[j] = fmaf(held[i].v[j], keep, in[i] * bn.v[j]);
        out[i] = fmaf(held[i].v[j], cn.v[j], out[i]);
      }
      store<VEC>(state + i * N + n, held[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < HELD; ++i) {
    const float sum = sum_lanes<LANES>(out[i]);
    if (lane == 0 && first + i < P) put(y + first + i, fmaf(step.skip[head], x[first + i], sum));
  }
}

// Shared memory of a Mamba-3 step, in floats.
struct Mamba3Shared {
  int64_t b, c, k, cosine, sine, x, before, y, total;
  __host__ __device__ explicit Mamba3Shared(const Mamba3Step& step) {
    const int64_t wide = step.rank * step.state;
    const int64_t pad = 3;  // every part starts at 16 bytes
    auto next = [&](int64_t& at, int64_t size) {
      at = total;
      total = (total + size + pad) / 4 * 4;
    };
    total = 0;
    next(b, wide), next(c, wide), next(k, wide);
    next(cosine, step.angles), next(sine, step.angles);
    next(x, step.head_dim), next(before, step.head_dim);
    next(y, step.rank * step.head_dim);
  }
};

// `weight * u / rms(u) + bias` of one vector, by one warp.
template <typename T>
__device__ __forceinline__ void normalise(float* out, const T* u, const float* weight,
                                          const float* bias, int64_t size, float eps) {
  const int lane = threadIdx.x & 31;
  float squares = 0.0f;
  for (int64_t n = lane; n < size; n += 32) {
    const float x = value(u + n);
    squares = fmaf(x, x, squares);
    out[n] = x;
  }
  const float scale = 1.0f / sqrtf(sum_lanes<32>(squares) / size + eps);
  for (int64_t n = lane; n < size; n += 32) out[n] = fmaf(out[n] * scale, weight[n], bias[n]);
}

// One block a row and head: everything that belongs to them is its own.
template <typename T, int VEC, int LANES>
__global__ void __launch_bounds__(BLOCK) mamba3_head_step(Mamba3Step step) {
  extern __shared__ __align__(16) float shared[];
  constexpr int GROUPS = BLOCK / LANES;
  constexpr float TURN = 6.28318530717958648f;
  const Mamba3Shared part(step);
  const int64_t H = step.heads, P = step.head_dim, N = step.state, R = step.rank, S = step.angles;
  const int64_t row = blockIdx.x / H, head = blockIdx.x % H;
  const int warp = threadIdx.x / 32;
  T* y = static_cast<T*>(step.y) + (row * H + head) * P;
  const int64_t at = state_row(step.rows, row);
  if (at < 0) {
    for (int64_t p = threadIdx.x; p < P; p += BLOCK) put(y + p, 0.0f);
    return;
  }
  const int64_t inner = H * P, wide = step.groups * R * N;
  const int64_t group = head / (H / step.groups);
  const T* z = static_cast<const T*>(step.projected) + row * step.stride;
  const T* x = z + inner;
  const T* b = x + inner;
  const T* gates = b + 2 * wide;
  const T* theta = gates + 3 * H;

  const float delta = softplus(value(gates + head) + step.dt_bias[head]);
  const float u = value(gates + H + head);
  const float rate =
      !step.heavy_tail ? softplus(u) : u >= 0.0f ? 1.0f + u : 1.0f / (1.0f - u);
  const float keep = expf(-delta * fmaxf(rate, step.floor));
  const float trap = sigmoid(value(gates + 2 * H + head));
  const float gamma = trap * delta, beta = (1.0f - trap) * delta * keep;

  for (int64_t i = warp; i < 2 * R; i += BLOCK / 32) {
    const int64_t r = i % R;
    const bool first = i < R;
    const T* from = b + (first ? 0 : wide) + (r * step.groups + group) * N;
    normalise(shared + (first ? part.b : part.c) + r * N, from,
              first ? step.b_norm : step.c_norm,
              (first ? step.b_bias : step.c_bias) + (head * R + r) * N, N, step.eps);
  }
  for (int64_t s = threadIdx.x; s < S; s += BLOCK) {
    float* held = step.angle + (at * H + head) * S + s;
    float angle = fmaf(delta, 3.14159265358979324f * tanhf(value(theta + s)), *held);
    angle -= TURN * floorf(angle / TURN);
    *held = angle;
    sincosf(angle, shared + part.sine + s, shared + part.cosine + s);
  }
  for (int64_t p = threadIdx.x; p < P; p += BLOCK) {
    float* held = step.v + (at * H + head) * P + p;
    const float now = value(x + head * P + p);
    shared[part.before + p] = *held;
    shared[part.x + p] = now;
    *held = now;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < 2 * R * S; i += BLOCK) {
    const int64_t s = i % S, r = i / S % R;
    float* base = shared + (i < R * S ? part.b : part.c) + r * N;
    float* even = base + (step.halves ? s : 2 * s);
    float* odd = base + (step.halves ? s + N / 2 : 2 * s + 1);
    const float cosine = shared[part.cosine + s], sine = shared[part.sine + s];
    const float a = *even, o = *odd;
    *even = a * cosine - o * sine;
    *odd = a * sine + o * cosine;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < R * N; i += BLOCK) {
    float* held = step.k + ((at * R + i / N) * H + head) * N + i % N;
    shared[part.k + i] = *held;
    *held = shared[part.b + i];
  }
  __syncthreads();

  const int lane = threadIdx.x % LANES;
  for (int64_t base = 0; base < P; base += GROUPS * HELD) {
    const int64_t first = base + threadIdx.x / LANES * HELD;
    float* state = step.ssm + ((at * H + head) * P + first) * N;
    // The bounds of the loop are the same for all lanes of a warp, which shuffle together.
    for (int64_t start = 0; start < N; start += LANES * VEC) {
      const int64_t n = start + lane * VEC;
      Pack<VEC> held[HELD];
#pragma unroll
      for (int i = 0; i < HELD; ++i)
        if (first + i < P && n < N) held[i] = load<VEC>(state + i * N + n);
#pragma unroll
      for (int i = 0; i < HELD; ++i)
#pragma unroll
        for (int j = 0; j < VEC; ++j) held[i].v[j] = first + i < P && n < N ? held[i].v[j] * keep : 0.0f;
      for (int64_t r = 0; r < R && n < N; ++r) {
        const Pack<VEC> now = load<VEC>(shared + part.b + r * N + n);
        const Pack<VEC> then = load<VEC>(shared + part.k + r * N + n);
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
          const int64_t p = first + i;
          if (p >= P) continue;
          const float up = step.up == nullptr ? 1.0f : step.up[(head * R + r) * P + p];
          const float in = gamma * up * shared[part.x + p];
          const float late = beta * up * shared[part.before + p];
#pragma unroll
          for (int j = 0; j < VEC; ++j)
            held[i].v[j] = fmaf(in, now.v[j], fmaf(late, then.v[j], held[i].v[j]));
        }
      }
#pragma unroll
      for (int i = 0; i < HELD; ++i)
        if (first + i < P && n < N) store<VEC>(state + i * N + n, held[i]);
      for (int64_t r = 0; r < R; ++r) {
        Pack<VEC> cn = {};
        if (n < N) cn = load<VEC>(shared + part.c + r * N + n);
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
          float sum = 0.0f;
#pragma unroll
          for (int j = 0; j < VEC; ++j) sum = fmaf(held[i].v[j], cn.v[j], sum);
          sum = sum_lanes<LANES>(sum);
          if (lane == 0 && first + i < P) {
            float* out = shared + part.y + r * P + first + i;
            *out = start == 0 ? sum : *out + sum;
          }
        }
      }
    }
  }
  __syncthreads();

  // Skip; then the norm of each rank's vector, which one warp holds.
  for (int64_t r = warp; r < R; r += BLOCK / 32) {
    float squares = 0.0f;
    float* out = shared + part.y + r * P;
    for (int64_t p = threadIdx.x & 31; p < P; p += 32) {
      const float up = step.up == nullptr ? 1.0f : step.up[(head * R + r) * P + p];
      out[p] = fmaf(step.skip[head] * up, shared[part.x + p], out[p]);
      squares = fmaf(out[p], out[p], squares);
    }
    if (step.norm == nullptr) continue;
    const float scale = 1.0f / sqrtf(sum_lanes<32>(squares) / P + step.eps);
    for (int64_t p = threadIdx.x & 31; p < P; p += 32) out[p] *= scale * step.norm[head * P + p];
  }
  __syncthreads();
  for (int64_t p = threadIdx.x; p < P; p += BLOCK) {
    const float zp = value(z + head * P + p);
    float sum = 0.0f;
    for (int64_t r = 0; r < R; ++r) {
      const int64_t i = (head * R + r) * P + p;
      const float gate = silu(step.gate == nullptr ? zp : zp * step.gate[i]);
      const float down = step.down == nullptr ? 1.0f : step.down[i];
      sum = fmaf(shared[part.y + r * P + p] * gate, down, sum);
    }
    put(y + p, sum);
  }
}

// One block a row and head. Eight lanes share a key; each group walks every 32nd key with
// a softmax of its own, and the groups are joined at the end.
constexpr int KEY_LANES = 8;
constexpr int KEY_GROUPS = BLOCK / KEY_LANES;

template <typename T, int VEC, int CHUNKS>
__global__ void __launch_bounds__(BLOCK) attention_head_step(AttentionStep step) {
  constexpr int WIDTH = KEY_LANES * VEC * CHUNKS;
  __shared__ __align__(16) float query[WIDTH];
  __shared__ float joined[KEY_GROUPS * WIDTH];
  __shared__ float peaks[KEY_GROUPS], sums[KEY_GROUPS];
  const int64_t H = step.heads, D = step.head_dim;
  const int64_t row = blockIdx.x / H, head = blockIdx.x % H;
  T* y = static_cast<T*>(step.y) + (row * H + head) * D;
  const int64_t at = state_row(step.rows, row);
  if (at < 0) {
    for (int64_t d = threadIdx.x; d < D; d += BLOCK) put(y + d, 0.0f);
    return;
  }
  const int64_t position = step.seen[at];
  const int64_t apart = H * D;
  T* keys = static_cast<T*>(step.k) + at * step.slots * apart + head * D;
  T* values = static_cast<T*>(step.v) + at * step.slots * apart + head * D;
  const T* q = static_cast<const T*>(step.projected) + row * step.stride + head * D;
  {
    const int64_t slot = position % step.slots * apart;
    const int64_t half = step.rotary / 2;
    for (int64_t d = threadIdx.x; d < WIDTH; d += BLOCK) {
      float qd = 0.0f;
      if (d < D) {
        qd = value(q + d);
        float kd = value(q + apart + d);
        if (d < 2 * half) {
          const int64_t i = d % half;
          const float angle = position * expf(i * (2.0f / step.rotary) * -9.210340371976184f);
          float sine, cosine;
          sincosf(angle, &sine, &cosine);
          const int64_t other = d < half ? d + half : d - half;
          if (d < half) sine = -sine;
          qd = qd * cosine + value(q + other) * sine;
          kd = kd * cosine + value(q + apart + other) * sine;
        }
        put(keys + slot + d, kd);
        put(values + slot + d, value(q + 2 * apart + d));
      }
      query[d] = qd * rsqrtf(static_cast<float>(D));
    }
  }
  __syncthreads();

  const int lane = threadIdx.x % KEY_LANES, group = threadIdx.x / KEY_LANES;
  float peak = -INFINITY, total = 0.0f, sum[CHUNKS * VEC] = {};
  int64_t first = step.window < 0 ? 0 : position - step.window;
  if (first < 0) first = 0;
  if (position - first >= step.slots) first = position - step.slots + 1;
  // All lanes of a warp take the same number of turns, since they shuffle together.
  for (int64_t base = first; base <= position; base += KEY_GROUPS) {
    const int64_t key = base + group;
    const bool here = key <= position;
    const int64_t slot = (here ? key : first) % step.slots * apart;
    float score = 0.0f;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const int d = (i * KEY_LANES + lane) * VEC;
      if (d >= D) continue;
      const Pack<VEC> k = load<VEC>(keys + slot + d);
#pragma unroll
      for (int j = 0; j < VEC; ++j) score = fmaf(query[d + j], k.v[j], score);
    }
    score = sum_lanes<KEY_LANES>(score);
    if (!here) continue;
    const float higher = fmaxf(peak, score);
    const float old = expf(peak - higher), now = expf(score - higher);
    peak = higher;
    total = fmaf(total, old, now);
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const int d = (i * KEY_LANES + lane) * VEC;
      if (d >= D) continue;
      const Pack<VEC> v = load<VEC>(values + slot + d);
#pragma unroll
      for (int j = 0; j < VEC; ++j)
        sum[i * VEC + j] = fmaf(sum[i * VEC + j], old, now * v.v[j]);
    }
  }
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i)
#pragma unroll
    for (int j = 0; j < VEC; ++j)
      joined[group * WIDTH + (i * KEY_LANES + lane) * VEC + j] = sum[i * VEC + j];
  if (lane == 0) peaks[group] = peak, sums[group] = total;
  __syncthreads();
  float highest = -INFINITY, whole = 0.0f;
  for (int g = 0; g < KEY_GROUPS; ++g) highest = fmaxf(highest, peaks[g]);
  for (int g = 0; g < KEY_GROUPS; ++g) whole += sums[g] * expf(peaks[g] - highest);
  for (int64_t d = threadIdx.x; d < D; d += BLOCK) {
    float out = 0.0f;
    for (int g = 0; g < KEY_GROUPS; ++g)
      out = fmaf(joined[g * WIDTH + d], expf(peaks[g] - highest), out);
    put(y + d, out / whole);
  }
}

// A block a row.
__global__ void __launch_bounds__(BLOCK) route_row(RouteStep step) {
  __shared__ float parts[3][BLOCK / 32];
  const int64_t row = blockIdx.x, first = row * step.width;
  const bool runs = step.mask[row];
  float sums[3] = {0, 0, 0};
  for (int64_t i = threadIdx.x; i < step.width; i += BLOCK) {
    const float q = step.q[first + i], k = step.k[first + i];
    sums[0] = fmaf(q, k, sums[0]);
    sums[1] = fmaf(q, q, sums[1]);
    sums[2] = fmaf(k, k, sums[2]);
    if (runs) step.last[first + i] = step.now[first + i];
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const float sum = sum_lanes<32>(sums[i]);
    if (threadIdx.x % 32 == 0) parts[i][threadIdx.x / 32] = sum;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    sums[i] = 0;
    for (int w = 0; w < BLOCK / 32; ++w) sums[i] += parts[i][w];
  }
  const float cosine =
      sums[0] / (fmaxf(sqrtf(sums[1]), 1e-12f) * fmaxf(sqrtf(sums[2]), 1e-12f));
  const float apart = fminf(fmaxf(0.5f * (1.0f - cosine), 0.0f), 1.0f);
  const float prob = step.seen[row] == 0 ? 1.0f : apart;
  step.prob[row] = prob;
  step.starting[row] = runs && prob > 0.5f;
  step.seen[row] += runs;
}

template <typename T>
__global__ void __launch_bounds__(BLOCK) dechunk_row(DechunkStep step) {
  const int64_t row = blockIdx.x, first = row * step.width;
  const T* z = static_cast<const T*>(step.z) + row * step.stride;
  const float by = fminf(fmaxf(step.prob[row], step.floor), step.ceiling);
  const bool moves = step.starting[row];
  for (int64_t i = threadIdx.x; i < step.width; i += BLOCK) {
    float average = step.average[first + i];
    if (moves) step.average[first + i] = average = fmaf(value(z + i), by, average * (1.0f - by));
    step.out[first + i] = average + step.residual[first + i];
  }
}

bool aligned(const void* p, int64_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

template <typename T, int VEC, int LANES>
void launch_mamba2(const Mamba2Step& step, cudaStream_t stream) {
  const int64_t channels = step.heads * step.head_dim + 2 * step.groups * step.state;
  auto* conv = step.width == 4 ? conv_step<T, 4> : conv_step<T, 0>;
  conv<<<step.rows.count * ((channels + BLOCK - 1) / BLOCK), BLOCK, 0, stream>>>(step);
  CISTRON_LAUNCH_CHECK("conv_step");
  constexpr int64_t tile = BLOCK / LANES * HELD;
  const int64_t tiles = (step.head_dim + tile - 1) / tile;
  // Starts while the convolution runs, on chips that can.
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(step.rows.count * step.heads * tiles));
  launch.blockDim = dim3(BLOCK);
  launch.stream = stream;
  launch.attrs = &early;
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  launch.numAttrs = major >= 9 ? 1 : 0;
  cudaLaunchKernelEx(&launch, mamba2_scan_step<T, VEC, LANES>, step);
  CISTRON_LAUNCH_CHECK("mamba2_scan_step");
}

template <typename T, int VEC, int LANES>
void launch_mamba3(const Mamba3Step& step, cudaStream_t stream) {
  mamba3_head_step<T, VEC, LANES>
      <<<step.rows.count * step.heads, BLOCK, mamba3_step_shared(step), stream>>>(step);
  CISTRON_LAUNCH_CHECK("mamba3_head_step");
}

// Calls `launch` with the widest loads that the state allows and the lanes that a row fills.
#define CISTRON_STEP_DISPATCH(launch, T, vector, step, stream)          \
  do {                                                                  \
    const int64_t lanes = (step).state / ((vector) ? 4 : 1);            \
    if ((vector) && lanes > 16)                                         \
      launch<T, 4, 32>(step, stream);                                   \
    else if ((vector) && lanes > 8)                                     \
      launch<T, 4, 16>(step, stream);                                   \
    else if (vector)                                                    \
      launch<T, 4, 8>(step, stream);                                    \
    else                                                                \
      launch<T, 1, 32>(step, stream);                                   \
  } while (false)

template <typename T, int VEC>
void launch_attention(const AttentionStep& step, cudaStream_t stream) {
  const int64_t blocks = step.rows.count * step.heads;
  const int64_t chunks = (step.head_dim + KEY_LANES * VEC - 1) / (KEY_LANES * VEC);
  if (chunks <= 1)
    attention_head_step<T, VEC, 1><<<blocks, BLOCK, 0, stream>>>(step);
  else if (chunks <= 2)
    attention_head_step<T, VEC, 2><<<blocks, BLOCK, 0, stream>>>(step);
  else if (chunks <= 4)
    attention_head_step<T, VEC, 4><<<blocks, BLOCK, 0, stream>>>(step);
  else if (chunks <= 8)
    attention_head_step<T, VEC, 8><<<blocks, BLOCK, 0, stream>>>(step);
  else if (VEC == 1 && chunks <= 32)
    attention_head_step<T, 1, 32><<<blocks, BLOCK, 0, stream>>>(step);
  else
    throw std::runtime_error("attention_step: heads wider than 256 are not supported");
  CISTRON_LAUNCH_CHECK("attention_step");
}

}  // namespace

void mamba2_step(const Mamba2Step& step, cudaStream_t stream) {
  if (step.rows.count == 0) return;
  const bool vector = step.state % 4 == 0 && aligned(step.ssm, 16) && aligned(step.mixed, 16) &&
                      step.heads * step.head_dim % 4 == 0;
  if (step.bfloat16)
    CISTRON_STEP_DISPATCH(launch_mamba2, bf16, vector, step, stream);
  else
    CISTRON_STEP_DISPATCH(launch_mamba2, float, vector, step, stream);
}

std::int64_t mamba3_step_shared(const Mamba3Step& step) {
  return Mamba3Shared(step).total * static_cast<std::int64_t>(sizeof(float));
}

void mamba3_step(const Mamba3Step& step, cudaStream_t stream) {
  if (step.rows.count == 0) return;
  if (mamba3_step_shared(step) > 48 * 1024)
    throw std::runtime_error("mamba3_step: rank * state is too large for shared memory");
  const bool vector = step.state % 4 == 0 && aligned(step.ssm, 16);
  if (step.bfloat16)
    CISTRON_STEP_DISPATCH(launch_mamba3, bf16, vector, step, stream);
  else
    CISTRON_STEP_DISPATCH(launch_mamba3, float, vector, step, stream);
}

void attention_step(const AttentionStep& step, cudaStream_t stream) {
  if (step.rows.count == 0) return;
  const bool vector = step.head_dim % 4 == 0 && aligned(step.k, 16) && aligned(step.v, 16);
  if (step.bfloat16)
    vector ? launch_attention<bf16, 4>(step, stream) : launch_attention<bf16, 1>(step, stream);
  else
    vector ? launch_attention<float, 4>(step, stream) : launch_attention<float, 1>(step, stream);
}

void route_step(const RouteStep& step, cudaStream_t stream) {
  if (step.count == 0) return;
  route_row<<<step.count, BLOCK, 0, stream>>>(step);
  CISTRON_LAUNCH_CHECK("route_step");
}

void dechunk_step(const DechunkStep& step, cudaStream_t stream) {
  if (step.count == 0) return;
  if (step.bfloat16)
    dechunk_row<bf16><<<step.count, BLOCK, 0, stream>>>(step);
  else
    dechunk_row<float><<<step.count, BLOCK, 0, stream>>>(step);
  CISTRON_LAUNCH_CHECK("dechunk_step");
}

}  // namespace cistron::cuda
