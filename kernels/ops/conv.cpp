// The causal convolution as a differentiable operator over packed bf16 tensors.
#include "../shim.h"

#include <ATen/ATen.h>
#include <ATen/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#ifdef CISTRON_CUDA
#include "../cuda/conv.h"
#include "ops.h"

namespace {

using at::Tensor;
using cistron::ops::current_stream;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
namespace cuda = cistron::cuda;

__nv_bfloat16* halves(const Tensor& t) {
  return reinterpret_cast<__nv_bfloat16*>(t.data_ptr());
}

cuda::Conv inputs_of(const Tensor& x, const Tensor& weight, const Tensor& bias,
                     const Tensor& position, const Tensor& offsets, const Tensor& tail) {
  cuda::Conv in{};
  in.tokens = x.size(0);
  in.channels = x.size(1);
  in.sequences = offsets.size(0) - 1;
  in.width = weight.size(-1);
  in.x = halves(x);
  in.stride = x.stride(0);
  in.weight = weight.const_data_ptr<float>();
  in.bias = bias.const_data_ptr<float>();
  in.position = position.const_data_ptr<std::int64_t>();
  in.offsets = offsets.const_data_ptr<std::int64_t>();
  in.tail = tail.defined() ? tail.const_data_ptr<float>() : nullptr;
  return in;
}

Tensor single(const Tensor& t) { return t.to(at::kFloat).contiguous(); }

struct Conv : torch::autograd::Function<Conv> {
  static Tensor forward(AutogradContext* ctx, const Tensor& given, const Tensor& weight,
                        const Tensor& bias, const Tensor& position, const Tensor& offsets,
                        const std::optional<Tensor>& tail) {
    const bool aligned = given.stride(1) == 1 && given.stride(0) % 8 == 0 &&
                         reinterpret_cast<std::uintptr_t>(given.data_ptr()) % 16 == 0;
    const Tensor x = aligned ? given : given.contiguous();
    const at::OptionalDeviceGuard guard(x.device());
    const Tensor w = single(weight), b = single(bias), t = tail ? single(*tail) : Tensor();
    Tensor y = at::empty({x.size(0), x.size(1)}, x.options());
    cuda::conv_forward(inputs_of(x, w, b, position, offsets, t), halves(y), current_stream(x));
    ctx->save_for_backward({x, w, b, position, offsets, t});
    ctx->saved_data["shape"] = weight.sizes().vec();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const auto &x = kept[0], &w = kept[1], &b = kept[2], &tail = kept[5];
    const at::OptionalDeviceGuard guard(x.device());
    const auto in = inputs_of(x, w, b, kept[3], kept[4], tail);
    const Tensor dy = grads[0].to(at::kBFloat16).contiguous();
    constexpr std::int64_t block = cuda::CONV_RUN * cuda::CONV_RUNS;
    Tensor dx = at::empty({in.tokens, in.channels}, x.options());
    Tensor sums = at::empty({(in.tokens + block - 1) / block, in.channels, in.width + 1}, w.options());
    Tensor dtail = tail.defined() ? at::empty_like(tail) : Tensor();
    cuda::conv_backward(in, halves(dy), halves(dx), in.channels, sums.data_ptr<float>(),
                        dtail.defined() ? dtail.data_ptr<float>() : nullptr, current_stream(x));
    const Tensor total = sums.sum(0);
    return {dx,
            total.narrow(1, 0, in.width).reshape(ctx->saved_data["shape"].toIntVector()),
            total.select(1, in.width),
            Tensor(),
            Tensor(),
            dtail};
  }
};

}  // namespace
#endif

extern "C" bool cistron_conv(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                             const at::Tensor* position, const at::Tensor* offsets,
                             const at::Tensor* tail, at::Tensor** y, char* error,
                             std::size_t size) {
  return guarded(error, size, [&] {
#ifdef CISTRON_CUDA
    *y = new at::Tensor(Conv::apply(*x, *weight, *bias, *position, *offsets,
                                    tail ? std::optional<at::Tensor>(*tail) : std::nullopt));
#else
    TORCH_CHECK(false, "this build has no CUDA kernels");
#endif
  });
}
