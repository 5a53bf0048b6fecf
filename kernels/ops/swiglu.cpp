#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/swiglu.h"

namespace cistron::ops {
namespace {

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& given) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor x = dense_rows(given);
    const std::int64_t hidden = x.size(1) / 2;
    Tensor y = made(x, {x.size(0), hidden}, x.scalar_type());
    cuda::swiglu_forward(is_bfloat16(x), width_of(hidden, {&x, &y}), x.size(0), hidden, rows_of(x),
                         rows_of(y), current_stream(x));
    ctx->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Tensor x = ctx->get_saved_variables()[0];
    at::OptionalDeviceGuard guard(x.device());
    const Tensor dy = dense_rows(gradients[0]);
    Tensor dx = made(x, x.sizes(), x.scalar_type());
    const std::int64_t hidden = x.size(1) / 2;
    cuda::swiglu_backward(is_bfloat16(x), width_of(hidden, {&x, &dy, &dx}), x.size(0), hidden,
                          rows_of(x), rows_of(dy), rows_of(dx), current_stream(x));
    return {dx};
  }
};

void swiglu(const Call& call) { call.give(0, SwiGlu::apply(call.tensor(0))); }

}  // namespace

CISTRON_OPERATOR(swiglu, swiglu)

}  // namespace cistron::ops
#endif
