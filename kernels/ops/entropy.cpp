// The end of a language model: logits in fp32 and their cross-entropy.
#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/entropy.h"

namespace cistron::ops {
namespace {

// x weight^T in fp32 from an x of another kind, which alone is kept.
struct FloatLinear : torch::autograd::Function<FloatLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight) {
    at::OptionalDeviceGuard guard(x.device());
    ctx->save_for_backward({x, weight});
    return at::mm(x.to(at::kFloat), weight.t());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &x = kept[0], &weight = kept[1];
    at::OptionalDeviceGuard guard(x.device());
    const Tensor dout = as_floats(grads[0]);
    return {at::mm(dout, weight).to(x.scalar_type()), at::mm(dout.t(), x.to(at::kFloat))};
  }
};

struct Entropy : torch::autograd::Function<Entropy> {
  static cuda::Entropy input_of(const Tensor& logits, const Tensor& targets, std::int64_t ignored) {
    return {logits.size(0), static_cast<int>(logits.size(1)), float_data(logits),
            targets.const_data_ptr<std::int64_t>(), ignored};
  }

  static Tensor forward(AutogradContext* ctx, const Tensor& given, const Tensor& wanted,
                        std::int64_t ignored) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor logits = as_floats(given), targets = wanted.contiguous();
    Tensor total = made(logits, {logits.size(0)}, at::kFloat);
    Tensor sums = made(logits, {cuda::ENTROPY_BLOCKS}, at::kFloat);
    cuda::entropy_forward(input_of(logits, targets, ignored), float_target(total),
                          float_target(sums), current_stream(logits));
    ctx->save_for_backward({logits, targets, total});
    ctx->saved_data["ignored"] = ignored;
    return sums.sum();
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor& logits = kept[0];
    at::OptionalDeviceGuard guard(logits.device());
    const Tensor scale = as_floats(grads[0]);
    Tensor dlogits = at::empty_like(logits);
    cuda::entropy_backward(input_of(logits, kept[1], ctx->saved_data["ignored"].toInt()),
                           float_data(kept[2]), float_data(scale), float_target(dlogits),
                           current_stream(logits));
    return {dlogits, Tensor(), Tensor()};
  }
};

void float_linear(const Call& call) {
  call.give(0, FloatLinear::apply(call.tensor(0), call.tensor(1)));
}

void entropy(const Call& call) {
  call.give(0, Entropy::apply(call.tensor(0), call.tensor(1), call.numbers[0]));
}

}  // namespace

CISTRON_OPERATOR(float_linear, float_linear)
CISTRON_OPERATOR(entropy, entropy)

}  // namespace cistron::ops
#endif
