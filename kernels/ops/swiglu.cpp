#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/swiglu.h"

namespace cistron::ops {
namespace {

Tensor product(const Tensor& value, const Tensor& gate) {
  const std::int64_t tokens = value.size(0), hidden = value.size(1);
  Tensor y = made(value, {tokens, hidden}, value.scalar_type());
  cuda::swiglu_forward(is_bfloat16(value), width_of(hidden, {&value, &gate, &y}), tokens, hidden,
                       rows_of(value), rows_of(gate), rows_of(y), current_stream(value));
  return y;
}

// Gradients of values and gates; with `y` also the product once more.
void gradient(const Tensor& value, const Tensor& gate, const Tensor& dy, const Tensor& dvalue,
              const Tensor& dgate, const MaybeTensor& y) {
  const std::int64_t tokens = value.size(0), hidden = value.size(1);
  const cuda::Width width = width_of(hidden, {&value, &gate, &dy, &dvalue, &dgate, y ? &*y : nullptr});
  cuda::swiglu_backward(is_bfloat16(value), width, tokens, hidden, rows_of(value), rows_of(gate),
                        rows_of(dy), rows_of(dvalue), rows_of(dgate), rows_of(y),
                        current_stream(value));
}

Tensor half_of(const Tensor& x, int half) {
  return x.narrow(1, half * (x.size(1) / 2), x.size(1) / 2);
}

Tensor product(const Tensor& x) { return product(half_of(x, 0), half_of(x, 1)); }

Tensor gradient(const Tensor& x, const Tensor& dy, const MaybeTensor& y) {
  Tensor dx = made(x, x.sizes(), x.scalar_type());
  gradient(half_of(x, 0), half_of(x, 1), dy, half_of(dx, 0), half_of(dx, 1), y);
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

// The same of values and gates that lie apart.
struct GatedLinear : torch::autograd::Function<GatedLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& given_value, const Tensor& given_gate,
                        const Tensor& weight) {
    at::OptionalDeviceGuard guard(given_value.device());
    const Tensor value = dense_rows(given_value), gate = dense_rows(given_gate);
    const Tensor w = weight.to(at::kBFloat16);
    ctx->save_for_backward({value, gate, w});
    ctx->saved_data["kind"] = weight.scalar_type();
    return at::mm(product(value, gate), w.t());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &value = kept[0], &gate = kept[1], &w = kept[2];
    at::OptionalDeviceGuard guard(value.device());
    const Tensor dout = gradients[0].contiguous();
    const Tensor dy = at::mm(dout, w);
    const Tensor y = at::empty_like(dy), dvalue = at::empty_like(dy), dgate = at::empty_like(dy);
    gradient(value, gate, dy, dvalue, dgate, y);
    return {dvalue, dgate, weight_gradient(dout, y, ctx->saved_data["kind"].toScalarType())};
  }
};

void swiglu(const Call& call) { call.give(0, SwiGlu::apply(call.tensor(0))); }

void swiglu_linear(const Call& call) {
  call.give(0, SwiGluLinear::apply(call.tensor(0), call.tensor(1)));
}

void gated_linear(const Call& call) {
  call.give(0, GatedLinear::apply(call.tensor(0), call.tensor(1), call.tensor(2)));
}

}  // namespace

CISTRON_OPERATOR(swiglu, swiglu)
CISTRON_OPERATOR(swiglu_linear, swiglu_linear)
CISTRON_OPERATOR(gated_linear, gated_linear)

}  // namespace cistron::ops
#endif
