#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/swiglu.h"

namespace cistron::ops {
namespace {

Tensor product(const Tensor& x) {
  const std::int64_t hidden = x.size(1) / 2;
  Tensor y = made(x, {x.size(0), hidden}, x.scalar_type());
  cuda::swiglu_forward(is_bfloat16(x), width_of(hidden, {&x, &y}), x.size(0), hidden, rows_of(x),
                       rows_of(y), current_stream(x));
  return y;
}

// The gradient of `x`; with `y` also the product once more.
Tensor gradient(const Tensor& x, const Tensor& dy, const MaybeTensor& y) {
  Tensor dx = made(x, x.sizes(), x.scalar_type());
  const std::int64_t hidden = x.size(1) / 2;
  cuda::swiglu_backward(is_bfloat16(x), width_of(hidden, {&x, &dy, &dx, y ? &*y : nullptr}),
                        x.size(0), hidden, rows_of(x), rows_of(dy), rows_of(dx), rows_of(y),
                        current_stream(x));
  return dx;
}

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& given) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor x = dense_rows(given);
    ctx->save_for_backward({x});
    return product(x);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Tensor x = ctx->get_saved_variables()[0];
    at::OptionalDeviceGuard guard(x.device());
    return {gradient(x, dense_rows(gradients[0]), std::nullopt)};
  }
};

// The product times a matrix, in bf16: the product is made again in the backward pass.
struct SwiGluLinear : torch::autograd::Function<SwiGluLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& given, const Tensor& weight) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor x = dense_rows(given), w = weight.to(at::kBFloat16);
    ctx->save_for_backward({x, w});
    ctx->saved_data["kind"] = weight.scalar_type();
    return at::mm(product(x), w.t());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &x = kept[0], &w = kept[1];
    at::OptionalDeviceGuard guard(x.device());
    const Tensor dout = gradients[0].contiguous();
    const Tensor dy = at::mm(dout, w);
    const Tensor y = at::empty_like(dy);
    const Tensor dx = gradient(x, dy, y);
    return {dx, weight_gradient(dout, y, ctx->saved_data["kind"].toScalarType())};
  }
};

void swiglu(const Call& call) { call.give(0, SwiGlu::apply(call.tensor(0))); }

void swiglu_linear(const Call& call) {
  call.give(0, SwiGluLinear::apply(call.tensor(0), call.tensor(1)));
}

}  // namespace

CISTRON_OPERATOR(swiglu, swiglu)
CISTRON_OPERATOR(swiglu_linear, swiglu_linear)

}  // namespace cistron::ops
#endif
