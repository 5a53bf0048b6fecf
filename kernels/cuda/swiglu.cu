#include "swiglu.h"

#include "rows.cuh"

namespace cistron::cuda {
namespace {

constexpr int BLOCK = 256;

template <typename T, int V>
__global__ void __launch_bounds__(BLOCK)
    forward(std::int64_t items, int columns, Rows x, Rows y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * BLOCK + threadIdx.x;
  if (item >= items) return;
  const std::int64_t token = item / columns, at = (item - token * columns) * V;
  const T* in = static_cast<const T*>(x.data) + token * x.stride + at;
  float value[V], gate[V];
  load(in, value);
  load(in + std::int64_t{columns} * V, gate);
#pragma unroll
  for (int i = 0; i < V; ++i) value[i] *= gate[i] * sigmoid_of(gate[i]);
  store(static_cast<T*>(y.data) + token * y.stride + at, value);
}

template <typename T, int V>
__global__ void __launch_bounds__(BLOCK)
    backward(std::int64_t items, int columns, Rows x, Rows dy, Rows dx, Rows y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * BLOCK + threadIdx.x;
  if (item >= items) return;
  const std::int64_t token = item / columns, at = (item - token * columns) * V;
  const T* in = static_cast<const T*>(x.data) + token * x.stride + at;
  const std::int64_t hidden = std::int64_t{columns} * V;
  float value[V], gate[V], dout[V], product[V];
  load(in, value);
  load(in + hidden, gate);
  load(static_cast<const T*>(dy.data) + token * dy.stride + at, dout);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float s = sigmoid_of(gate[i]);
    product[i] = value[i] * (gate[i] * s);
    const float dgate = dout[i] * value[i] * s * (1.0f + gate[i] * (1.0f - s));
    value[i] = dout[i] * gate[i] * s;
    gate[i] = dgate;
  }
  T* out = static_cast<T*>(dx.data) + token * dx.stride + at;
  store(out, value);
  store(out + hidden, gate);
  if (y.data != nullptr) store(static_cast<T*>(y.data) + token * y.stride + at, product);
}

template <typename F>
void each(bool bfloat16, Width width, F&& f) {
  with_kind(bfloat16, [&](auto* type) {
    if (width == Width::vector) f(type, std::integral_constant<int, 8>());
    else f(type, std::integral_constant<int, 1>());
  });
}

}  // namespace

void swiglu_forward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden, Rows x,
                    Rows y, cudaStream_t stream) {
  if (tokens * hidden == 0) return;
  each(bfloat16, width, [&](auto* type, auto values) {
    constexpr int V = decltype(values)::value;
    const std::int64_t items = tokens * hidden / V;
    forward<std::remove_pointer_t<decltype(type)>, V><<<blocks_for(items, BLOCK), BLOCK, 0, stream>>>(
        items, static_cast<int>(hidden / V), x, y);
  });
  CISTRON_LAUNCH_CHECK("swiglu_forward");
}

void swiglu_backward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden, Rows x,
                     Rows dy, Rows dx, Rows y, cudaStream_t stream) {
  if (tokens * hidden == 0) return;
  each(bfloat16, width, [&](auto* type, auto values) {
    constexpr int V = decltype(values)::value;
    const std::int64_t items = tokens * hidden / V;
    backward<std::remove_pointer_t<decltype(type)>, V>
        <<<blocks_for(items, BLOCK), BLOCK, 0, stream>>>(items, static_cast<int>(hidden / V), x, dy,
                                                         dx, y);
  });
  CISTRON_LAUNCH_CHECK("swiglu_backward");
}

}  // namespace cistron::cuda
