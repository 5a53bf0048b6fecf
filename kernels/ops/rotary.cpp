#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/rotary.h"

namespace cistron::ops {
namespace {

__nv_bfloat16* halves(const Tensor& t) { return reinterpret_cast<__nv_bfloat16*>(t.data_ptr()); }

struct Rotary : torch::autograd::Function<Rotary> {
  static void run(const Tensor& joined, const Tensor& frequency, const Tensor& position,
                  const Tensor& q, const Tensor& k, const Tensor& v, bool backward) {
    cuda::rotary({joined.size(0), static_cast<int>(joined.size(2)),
                  static_cast<int>(joined.size(3)), static_cast<int>(frequency.size(0)),
                  float_data(frequency), position.const_data_ptr<std::int64_t>(), halves(joined),
                  halves(q), halves(k), halves(v)},
                 backward, current_stream(joined));
  }

  static variable_list forward(AutogradContext* ctx, const Tensor& given, const Tensor& frequency,
                               const Tensor& position) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor joined = given.contiguous(), at = position.contiguous();
    const std::vector<std::int64_t> shape{joined.size(0), joined.size(2), joined.size(3)};
    Tensor q = made(joined, shape, at::kBFloat16), k = at::empty_like(q), v = at::empty_like(q);
    run(joined, frequency, at, q, k, v, false);
    ctx->save_for_backward({frequency, at});
    ctx->saved_data["shape"] = joined.sizes().vec();
    return {q, k, v};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const auto shape = ctx->saved_data["shape"].toIntVector();
    const auto& any = grads[0].defined() ? grads[0] : grads[1].defined() ? grads[1] : grads[2];
    at::OptionalDeviceGuard guard(any.device());
    auto dense = [&](const Tensor& t) {
      return t.defined() ? t.to(at::kBFloat16).contiguous()
                         : at::zeros({shape[0], shape[2], shape[3]}, any.options().dtype(at::kBFloat16));
    };
    Tensor joined = made(any, shape, at::kBFloat16);
    run(joined, kept[0], kept[1], dense(grads[0]), dense(grads[1]), dense(grads[2]), true);
    return {joined, Tensor(), Tensor()};
  }
};

void rotary(const Call& call) {
  const auto out = Rotary::apply(call.tensor(0), call.tensor(1), call.tensor(2));
  for (int i = 0; i < 3; ++i) call.give(i, out[i]);
}

}  // namespace

CISTRON_OPERATOR(rotary, rotary)

}  // namespace cistron::ops
#endif
