// A thread walks a run of tokens with a few channels, the last inputs in registers: every
// input is read once, and three more times at the start of a run.
#include "conv.h"

#include "common.cuh"

#include <type_traits>

namespace cistron::cuda {

namespace {

constexpr int CHANNELS = 4;  // of a thread

struct Values {
  float value[CHANNELS];
};

__device__ __forceinline__ uint2 words_at(const __nv_bfloat16* from) {
  return __ldg(reinterpret_cast<const uint2*>(from));
}

__device__ __forceinline__ Values values_of(uint2 words) {
  Values out;
  out.value[0] = __uint_as_float(words.x << 16);
  out.value[1] = __uint_as_float(words.x & 0xffff0000u);
  out.value[2] = __uint_as_float(words.y << 16);
  out.value[3] = __uint_as_float(words.y & 0xffff0000u);
  return out;
}

__device__ __forceinline__ Values load(const __nv_bfloat16* from) {
  return values_of(words_at(from));
}

__device__ __forceinline__ void store(__nv_bfloat16* to, const Values& from) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(from.value[0], from.value[1]);
  const __nv_bfloat162 high = __floats2bfloat162_rn(from.value[2], from.value[3]);
  *reinterpret_cast<uint2*>(to) = make_uint2(*reinterpret_cast<const uint32_t*>(&low),
                                             *reinterpret_cast<const uint32_t*>(&high));
}

__device__ __forceinline__ Values zeros() {
  Values out;
#pragma unroll
  for (int i = 0; i < CHANNELS; ++i) out.value[i] = 0;
  return out;
}

// The sequence of a token.
__device__ int64_t sequence_of(const Conv& in, int64_t token) {
  int64_t low = 0, high = in.sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (in.offsets[middle] <= token) low = middle;
    else high = middle;
  }
  return low;
}

// The input `back` tokens before `token`, which stands at `position` < back.
__device__ Values from_tail(const Conv& in, int64_t token, int64_t position, int back,
                           int64_t channel) {
  Values out = zeros();
  if (in.tail == nullptr) return out;
  const int64_t row = sequence_of(in, token) * (in.width - 1) + in.width - 1 + position - back;
#pragma unroll
  for (int i = 0; i < CHANNELS; ++i) out.value[i] = in.tail[row * in.channels + channel + i];
  return out;
}

// The position within the sequence, W where it is that or more.
template <int W>
__device__ __forceinline__ int place_of(const Conv& in, int64_t token) {
  const int64_t position = __ldg(in.position + token);
  return position < W ? static_cast<int>(position) : W;
}

// window[j] is the input j tokens back; those of other sequences are replaced.
template <int W>
__device__ __forceinline__ Values before_silu(const Conv& in, const Values (&window)[W],
                                             const float (&weight)[W][CHANNELS], const Values& bias,
                                             int64_t token, int position, int64_t channel) {
  Values sum = bias;
#pragma unroll
  for (int j = 0; j < W; ++j) {
    if (position >= j) {
#pragma unroll
      for (int i = 0; i < CHANNELS; ++i)
        sum.value[i] = fmaf(weight[W - 1 - j][i], window[j].value[i], sum.value[i]);
    } else if (in.tail != nullptr) {
      const Values other = from_tail(in, token, position, j, channel);
#pragma unroll
      for (int i = 0; i < CHANNELS; ++i)
        sum.value[i] = fmaf(weight[W - 1 - j][i], other.value[i], sum.value[i]);
    }
  }
  return sum;
}

template <int W>
__device__ __forceinline__ void load_weights(const Conv& in, int64_t channel,
                                             float (&weight)[W][CHANNELS], Values& bias) {
#pragma unroll
  for (int i = 0; i < CHANNELS; ++i) {
    bias.value[i] = in.bias[channel + i];
#pragma unroll
    for (int k = 0; k < W; ++k) weight[k][i] = in.weight[(channel + i) * W + k];
  }
}

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

template <int W>
__global__ void __launch_bounds__(32 * CONV_RUNS) forward(Conv in, __nv_bfloat16* y) {
  const int64_t channel = (blockIdx.y * 32LL + threadIdx.x) * CHANNELS;
  const int64_t first = (blockIdx.x * static_cast<int64_t>(CONV_RUNS) + threadIdx.y) * CONV_RUN;
  if (channel >= in.channels || first >= in.tokens) return;
  float weight[W][CHANNELS];
  Values bias, window[W];
  load_weights<W>(in, channel, weight, bias);
#pragma unroll
  for (int j = 1; j < W; ++j)
    window[j - 1] = first >= j ? load(in.x + (first - j) * in.stride + channel) : zeros();
  const int64_t last = first + CONV_RUN < in.tokens ? first + CONV_RUN : in.tokens;
  constexpr int AHEAD = 8;  // tokens that are read before any of them is used
  for (int64_t base = first; base < last; base += AHEAD) {
    uint2 words[AHEAD];
    int place[AHEAD];
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const int64_t t = base + a < last ? base + a : last - 1;
      words[a] = words_at(in.x + t * in.stride + channel);
      place[a] = place_of<W>(in, t);
    }
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const int64_t t = base + a;
      if (t >= last) break;
#pragma unroll
      for (int j = W - 1; j > 0; --j) window[j] = window[j - 1];
      window[0] = values_of(words[a]);
      Values sum = before_silu<W>(in, window, weight, bias, t, place[a], channel);
#pragma unroll
      for (int i = 0; i < CHANNELS; ++i) sum.value[i] *= sigmoid(sum.value[i]);
      store(y + t * in.channels + channel, sum);
    }
  }
}

template <int W>
__global__ void __launch_bounds__(32 * CONV_RUNS) backward(Conv in, const __nv_bfloat16* dy,
                                                           __nv_bfloat16* dx, int64_t stride,
                                                           float* sums) {
  const int64_t channel = (blockIdx.y * 32LL + threadIdx.x) * CHANNELS;
  const int64_t first = (blockIdx.x * static_cast<int64_t>(CONV_RUNS) + threadIdx.y) * CONV_RUN;
  float total[W + 1][CHANNELS];
#pragma unroll
  for (int k = 0; k <= W; ++k)
#pragma unroll
    for (int i = 0; i < CHANNELS; ++i) total[k][i] = 0;
  if (channel < in.channels && first < in.tokens) {
    float weight[W][CHANNELS];
    Values bias, window[W], inner[W];  // inner[j]: gradient before SiLU j tokens back
    int place[W];                     // place[j]: position j tokens back
    load_weights<W>(in, channel, weight, bias);
#pragma unroll
    for (int j = 1; j < W; ++j)
      window[j - 1] = first >= j ? load(in.x + (first - j) * in.stride + channel) : zeros();
#pragma unroll
    for (int j = 0; j < W; ++j) {
      inner[j] = zeros();
      place[j] = -1;
    }
    const int64_t last = first + CONV_RUN < in.tokens ? first + CONV_RUN : in.tokens;
    constexpr int AHEAD = 4;  // tokens that are read before any of them is used
    uint2 inputs[AHEAD], outputs[AHEAD];
    int places[AHEAD];
    for (int64_t base = first; base < last + W - 1; base += AHEAD) {
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) {
        const int64_t t = base + a < in.tokens ? base + a : in.tokens - 1;
        inputs[a] = words_at(in.x + t * in.stride + channel);
        outputs[a] = words_at(dy + t * in.channels + channel);
        places[a] = place_of<W>(in, t);
      }
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) {
        const int64_t t = base + a;
        if (t >= last + W - 1) break;
#pragma unroll
        for (int j = W - 1; j > 0; --j) {
          window[j] = window[j - 1];
          inner[j] = inner[j - 1];
          place[j] = place[j - 1];
        }
        inner[0] = zeros();
        place[0] = -1;
        if (t < in.tokens) {
          window[0] = values_of(inputs[a]);
          const int position = places[a];
          place[0] = position;
          const Values sum = before_silu<W>(in, window, weight, bias, t, position, channel);
          const Values dout = values_of(outputs[a]);
#pragma unroll
          for (int i = 0; i < CHANNELS; ++i) {
            const float gate = sigmoid(sum.value[i]);
            inner[0].value[i] = dout.value[i] * gate * (1.0f + sum.value[i] * (1.0f - gate));
          }
          if (t < last) {
#pragma unroll
            for (int j = 0; j < W; ++j) {
              const Values input = position >= j ? window[j] : from_tail(in, t, position, j, channel);
#pragma unroll
              for (int i = 0; i < CHANNELS; ++i)
                total[W - 1 - j][i] = fmaf(inner[0].value[i], input.value[i], total[W - 1 - j][i]);
            }
#pragma unroll
            for (int i = 0; i < CHANNELS; ++i) total[W][i] += inner[0].value[i];
          }
        }
        const int64_t s = t - (W - 1);
        if (s >= first && s < last) {
          Values out = zeros();
#pragma unroll
          for (int j = 0; j < W; ++j)
            // Token t - j, W - 1 - j after this one, is of the same sequence.
            if (place[j] >= W - 1 - j) {
#pragma unroll
              for (int i = 0; i < CHANNELS; ++i)
                out.value[i] = fmaf(weight[j][i], inner[j].value[i], out.value[i]);
            }
          store(dx + s * stride + channel, out);
        }
      }
    }
  }
  // Sums of the block's runs, in their order.
  __shared__ float parts[CONV_RUNS][32 * CHANNELS + CHANNELS];
#pragma unroll
  for (int k = 0; k <= W; ++k) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < CHANNELS; ++i) parts[threadIdx.y][threadIdx.x * CHANNELS + i] = total[k][i];
    __syncthreads();
    const int i = threadIdx.y * 32 + threadIdx.x;
    const int64_t out = blockIdx.y * (32LL * CHANNELS) + i;
    if (i < 32 * CHANNELS && out < in.channels) {
      float sum = 0;
#pragma unroll
      for (int run = 0; run < CONV_RUNS; ++run) sum += parts[run][i];
      sums[(blockIdx.x * in.channels + out) * (W + 1) + k] = sum;
    }
  }
}

template <int W>
__global__ void __launch_bounds__(256) tail_gradient(Conv in, const __nv_bfloat16* dy,
                                                     float* dtail) {
  const int64_t sequence = blockIdx.y;
  const int64_t channel = blockIdx.x * 256LL + threadIdx.x;
  if (channel >= in.channels) return;
  const int64_t start = in.offsets[sequence], length = in.offsets[sequence + 1] - start;
  const float* tail = in.tail + sequence * (W - 1) * in.channels + channel;
  float inner[W - 1];
#pragma unroll
  for (int t = 0; t < W - 1; ++t) {
    inner[t] = 0;
    if (t >= length) continue;
    float sum = in.bias[channel];
#pragma unroll
    for (int j = 0; j < W; ++j) {
      const float input = t >= j ? __bfloat162float(in.x[(start + t - j) * in.stride + channel])
                                 : tail[(W - 1 + t - j) * in.channels];
      sum = fmaf(in.weight[channel * W + W - 1 - j], input, sum);
    }
    const float gate = sigmoid(sum);
    inner[t] = __bfloat162float(dy[(start + t) * in.channels + channel]) * gate *
               (1.0f + sum * (1.0f - gate));
  }
#pragma unroll
  for (int r = 0; r < W - 1; ++r) {
    float out = 0;
#pragma unroll
    for (int t = 0; t <= r; ++t) out = fmaf(in.weight[channel * W + r - t], inner[t], out);
    dtail[(sequence * (W - 1) + r) * in.channels + channel] = out;
  }
}

template <typename F>
void by_width(int width, F&& f) {
  if (width == 2) f(std::integral_constant<int, 2>{});
  else if (width == 3) f(std::integral_constant<int, 3>{});
  else if (width == 4) f(std::integral_constant<int, 4>{});
  else throw std::runtime_error("convolutions are 2 to 4 wide");
}

dim3 grid(const Conv& in) {
  constexpr int block = CONV_RUN * CONV_RUNS;
  return dim3(static_cast<unsigned>((in.tokens + block - 1) / block),
              static_cast<unsigned>((in.channels + 32 * CHANNELS - 1) / (32 * CHANNELS)));
}

}  // namespace

void conv_forward(const Conv& in, __nv_bfloat16* y, cudaStream_t stream) {
  if (in.tokens == 0) return;
  by_width(in.width, [&](auto width) {
    forward<width.value><<<grid(in), dim3(32, CONV_RUNS), 0, stream>>>(in, y);
  });
  CISTRON_LAUNCH_CHECK("conv_forward");
}

void conv_backward(const Conv& in, const __nv_bfloat16* dy, __nv_bfloat16* dx, int64_t stride,
                   float* sums, float* dtail, cudaStream_t stream) {
  by_width(in.width, [&](auto width) {
    if (in.tokens > 0)
      backward<width.value><<<grid(in), dim3(32, CONV_RUNS), 0, stream>>>(in, dy, dx, stride, sums);
    if (dtail != nullptr && in.sequences > 0)
      tail_gradient<width.value>
          <<<dim3(static_cast<unsigned>((in.channels + 255) / 256),
                  static_cast<unsigned>(in.sequences)),
             256, 0, stream>>>(in, dy, dtail);
  });
  CISTRON_LAUNCH_CHECK("conv_backward");
}

}  // namespace cistron::cuda
