// What the operators over at::Tensor share.
#pragma once
#include "../shim.h"

#include <ATen/ATen.h>
#include <ATen/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#ifdef CISTRON_CUDA
#include "../cuda/kind.h"
#include <c10/core/impl/VirtualGuardImpl.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#endif

namespace cistron::ops {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<Tensor>;

// How Rust calls an operator: tensors (null where absent), numbers, and room for outputs.
struct Call {
  Tensor* const* in;
  const std::int64_t* numbers;
  Tensor** out;

  const Tensor& tensor(int i) const { return *in[i]; }
  MaybeTensor maybe(int i) const { return in[i] == nullptr ? MaybeTensor() : MaybeTensor(*in[i]); }
  void give(int i, Tensor tensor) const { out[i] = new Tensor(std::move(tensor)); }
};

// While one lives, this thread runs what will run again with gradients.
struct GradientsLater {
  static inline thread_local int living = 0;
  GradientsLater() { ++living; }
  GradientsLater(const GradientsLater&) = delete;
  ~GradientsLater() { --living; }
};

#define CISTRON_OPERATOR(name, call)                                                            \
  extern "C" bool cistron_##name(Tensor* const* in, const std::int64_t* numbers, Tensor** out, \
                                 char* error, std::size_t size) {                              \
    const Call call_{in, numbers, out};                                                        \
    return guarded(error, size, [&] { call(call_); });                                         \
  }

#ifdef CISTRON_CUDA

// The stream that libtorch queues work for the tensor's device on.
inline cudaStream_t current_stream(const Tensor& tensor) {
  const auto device = tensor.device();
  return static_cast<cudaStream_t>(
      c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle());
}

inline bool is_bfloat16(const Tensor& tensor) {
  TORCH_CHECK(tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kFloat,
              "a kernel was given ", tensor.scalar_type(), ", expected fp32 or bf16");
  return tensor.scalar_type() == at::kBFloat16;
}

// [rows, width] with neighbouring columns, copied only where they are not.
inline Tensor dense_rows(const Tensor& tensor) {
  return tensor.dim() == 2 && (tensor.stride(1) == 1 || tensor.size(1) == 1) ? tensor
                                                                            : tensor.contiguous();
}

inline cuda::Rows rows_of(const Tensor& tensor) {
  return {tensor.data_ptr(), tensor.stride(0)};
}
inline cuda::Rows rows_of(const MaybeTensor& tensor) {
  return tensor ? rows_of(*tensor) : cuda::Rows{nullptr, 0};
}

// Whether rows can be read 8 values at a time: `width` values from each start.
inline bool in_eights(std::int64_t width, std::initializer_list<const Tensor*> tensors) {
  bool good = width % 8 == 0;
  for (const Tensor* t : tensors)
    if (t != nullptr && t->defined() && t->numel() > 0)
      good = good && reinterpret_cast<std::uintptr_t>(t->data_ptr()) % 16 == 0 &&
             (t->dim() < 2 || t->size(0) == 1 || t->stride(0) % 8 == 0);
  return good;
}
inline cuda::Width width_of(std::int64_t width, std::initializer_list<const Tensor*> tensors) {
  return in_eights(width, tensors) ? cuda::Width::vector : cuda::Width::scalar;
}

// A weight or another small tensor as the kernels read it.
inline Tensor as_floats(const Tensor& tensor) { return tensor.to(at::kFloat).contiguous(); }
inline const float* float_data(const Tensor& tensor) { return tensor.const_data_ptr<float>(); }

inline __nv_bfloat16* half_data(const Tensor& t) {
  return t.defined() ? reinterpret_cast<__nv_bfloat16*>(t.data_ptr()) : nullptr;
}
inline float* float_target(const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

// The gradient of the weight of `x weight^T`, both bf16, in the weight's kind: sums are
// fp32 and stay it where the weight is.
inline Tensor weight_gradient(const Tensor& dout, const Tensor& x, at::ScalarType kind) {
  return kind == at::kFloat ? at::mm(dout.t(), x, at::kFloat) : at::mm(dout.t(), x).to(kind);
}

inline Tensor made(const Tensor& like, at::IntArrayRef sizes, at::ScalarType kind) {
  return at::empty(sizes, like.options().dtype(kind));
}

#endif

}  // namespace cistron::ops
