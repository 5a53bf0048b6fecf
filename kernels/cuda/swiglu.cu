#include "swiglu.h"

#include "rows.cuh"

namespace cistron::cuda {
namespace {

constexpr int BLOCK = 256;

template <typename T>
__device__ __forceinline__ T* place(Rows rows, std::int64_t token, std::int64_t at) {
  return static_cast<T*>(rows.data) + token * rows.stride + at;
}

template <typename T, int V>
__global__ void __launch_bounds__(BLOCK)
    forward(std::int64_t items, int columns, Rows values, Rows gates, Rows y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * BLOCK + threadIdx.x;
  if (item >= items) return;
  const std::int64_t token = item / columns, at = (item - token * columns) * V;
  float value[V], gate[V];
  load(place<const T>(values, token, at), value);
  load(place<const T>(gates, token, at), gate);
#pragma unroll
  for (int i = 0; i < V; ++i) value[i] *= gate[i] * sigmoid_of(gate[i]);
  store(place<T>(y, token, at), value);
}

template <typename T, int V>
__global__ void __launch_bounds__(BLOCK) backward(std::int64_t items, int columns, Rows values,
                                                  Rows gates, Rows dy, Rows dvalues, Rows dgates,
                                                  Rows y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * BLOCK + threadIdx.x;
  if (item >= items) return;
  const std::int64_t token = item / columns, at = (item - token * columns) * V;
  float value[V], gate[V], dout[V], product[V];
  load(place<const T>(values, token, at), value);
  load(place<const T>(gates, token, at), gate);
  load(place<const T>(dy, token, at), dout);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float s = sigmoid_of(gate[i]);
    product[i] = value[i] * (gate[i] * s);
    const float dgate = dout[i] * value[i] * s * (1.0f + gate[i] * (1.0f - s));
    value[i] = dout[i] * gate[i] * s;
    gate[i] = dgate;
  }
  store(place<T>(dvalues, token, at), value);
  store(place<T>(dgates, token, at), gate);
  if (y.data != nullptr) store(place<T>(y, token, at), product);
}

template <typename F>
void each(bool bfloat16, Width width, F&& f) {
  with_kind(bfloat16, [&](auto* type) {
    if (width == Width::vector) f(type, std::integral_constant<int, 8>());
    else f(type, std::integral_constant<int, 1>());
  });
}

}  // namespace

void swiglu_forward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden,
                    Rows value, Rows gate, Rows y, cudaStream_t stream) {
  if (tokens * hidden == 0) return;
  each(bfloat16, width, [&](auto* type, auto values) {
    constexpr int V = decltype(values)::value;
    const std::int64_t items = tokens * hidden / V;
    forward<std::remove_pointer_t<decltype(type)>, V><<<blocks_for(items, BLOCK), BLOCK, 0, stream>>>(
        items, static_cast<int>(hidden / V), value, gate, y);
  });
  CISTRON_LAUNCH_CHECK("swiglu_forward");
}

void swiglu_backward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden,
                     Rows value, Rows gate, Rows dy, Rows dvalue, Rows dgate, Rows y,
                     cudaStream_t stream) {
  if (tokens * hidden == 0) return;
  each(bfloat16, width, [&](auto* type, auto values) {
    constexpr int V = decltype(values)::value;
    const std::int64_t items = tokens * hidden / V;
    backward<std::remove_pointer_t<decltype(type)>, V>
        <<<blocks_for(items, BLOCK), BLOCK, 0, stream>>>(items, static_cast<int>(hidden / V), value,
                                                         gate, dy, dvalue, dgate, y);
  });
  CISTRON_LAUNCH_CHECK("swiglu_backward");
}

}  // namespace cistron::cuda
