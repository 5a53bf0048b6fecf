#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/norm.h"

namespace cistron::ops {
namespace {

constexpr float EPS = 1e-5f;

__nv_bfloat16* halves(const Tensor& t) {
  return t.defined() ? reinterpret_cast<__nv_bfloat16*>(t.data_ptr()) : nullptr;
}
float* floats(const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

Tensor as_halves(const Tensor& t) { return t.to(at::kBFloat16).contiguous(); }

struct AddNorm : torch::autograd::Function<AddNorm> {
  static variable_list forward(AutogradContext* ctx, const Tensor& residual,
                               const MaybeTensor& branch, const Tensor& weight) {
    at::OptionalDeviceGuard guard(residual.device());
    const Tensor from = as_floats(residual), w = as_floats(weight);
    const Tensor added = branch ? as_halves(*branch) : Tensor();
    const std::int64_t rows = from.size(0), width = from.size(1);
    const Tensor sum = branch ? at::empty_like(from) : from;
    Tensor y = made(from, {rows, width}, at::kBFloat16), rstd = made(from, {rows}, at::kFloat);
    cuda::add_norm_forward({rows, width, floats(from), halves(added), floats(w), floats(sum),
                            halves(y), floats(rstd), EPS},
                           current_stream(from));
    ctx->save_for_backward({sum, w, rstd});
    ctx->saved_data["branch"] = branch.has_value();
    ctx->saved_data["kind"] = branch ? branch->scalar_type() : at::kFloat;
    ctx->set_materialize_grads(false);
    return {branch ? sum : residual.view_as(residual), y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &sum = kept[0], &w = kept[1], &rstd = kept[2];
    at::OptionalDeviceGuard guard(sum.device());
    const std::int64_t rows = sum.size(0), width = sum.size(1);
    const bool branch = ctx->saved_data["branch"].toBool();
    const Tensor dsum = grads[0].defined() ? as_floats(grads[0]) : Tensor();
    const Tensor dy = grads[1].defined() ? as_halves(grads[1])
                                         : at::zeros({rows, width}, sum.options().dtype(at::kBFloat16));
    Tensor dresidual = at::empty_like(sum);
    Tensor dbranch = branch ? made(sum, {rows, width}, at::kBFloat16) : Tensor();
    Tensor dweight = made(sum, {cuda::NORM_BLOCKS, width}, at::kFloat);
    cuda::add_norm_backward({rows, width, floats(sum), floats(w), floats(rstd), floats(dsum),
                             halves(dy), floats(dresidual), halves(dbranch), floats(dweight), nullptr},
                            current_stream(sum));
    if (branch) dbranch = dbranch.to(ctx->saved_data["kind"].toScalarType());
    return {dresidual, dbranch, dweight.sum(0)};
  }
};

struct GatedNorm : torch::autograd::Function<GatedNorm> {
  static Tensor forward(AutogradContext* ctx, const Tensor& given, const Tensor& gate,
                        const Tensor& weight) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor x = as_halves(given), w = as_floats(weight);
    const bool aligned = gate.stride(1) == 1 && gate.stride(0) % 8 == 0 &&
                         reinterpret_cast<std::uintptr_t>(gate.data_ptr()) % 16 == 0;
    const Tensor z = aligned ? gate : gate.contiguous();
    const std::int64_t rows = x.size(0), width = x.size(1);
    Tensor y = at::empty_like(x), rstd = made(x, {rows}, at::kFloat);
    cuda::gated_norm_forward({rows, width, z.stride(0), halves(x), halves(z), floats(w), halves(y),
                              floats(rstd), EPS},
                             current_stream(x));
    ctx->save_for_backward({x, z, w, rstd});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &x = kept[0], &z = kept[1], &w = kept[2], &rstd = kept[3];
    at::OptionalDeviceGuard guard(x.device());
    const std::int64_t rows = x.size(0), width = x.size(1);
    const Tensor dy = as_halves(grads[0]);
    Tensor dx = at::empty_like(x), dz = at::empty_like(x);
    Tensor dweight = made(x, {cuda::NORM_BLOCKS, width}, at::kFloat);
    cuda::gated_norm_backward({rows, width, z.stride(0), halves(x), halves(z), halves(dy), floats(w),
                               floats(rstd), halves(dx), halves(dz), width, floats(dweight), nullptr},
                              current_stream(x));
    return {dx, dz, dweight.sum(0)};
  }
};

// The norm times a matrix: the normalised rows are made again in the backward pass.
struct AddNormLinear : torch::autograd::Function<AddNormLinear> {
  static variable_list forward(AutogradContext* ctx, const Tensor& residual,
                               const MaybeTensor& branch, const Tensor& norm, const Tensor& weight,
                               std::int64_t spare) {
    at::OptionalDeviceGuard guard(residual.device());
    const Tensor from = as_floats(residual), n = as_floats(norm);
    const Tensor added = branch ? as_halves(*branch) : Tensor();
    Tensor w = weight.to(at::kBFloat16);
    if (spare > 0) w = at::constant_pad_nd(w, {0, 0, 0, spare});
    const std::int64_t rows = from.size(0), width = from.size(1);
    const Tensor sum = branch ? at::empty_like(from) : from;
    Tensor y = made(from, {rows, width}, at::kBFloat16), rstd = made(from, {rows}, at::kFloat);
    cuda::add_norm_forward({rows, width, floats(from), halves(added), floats(n), floats(sum),
                            halves(y), floats(rstd), EPS},
                           current_stream(from));
    ctx->save_for_backward({sum, n, rstd, w});
    ctx->saved_data["branch"] = branch.has_value();
    ctx->saved_data["kind"] = branch ? branch->scalar_type() : at::kFloat;
    ctx->saved_data["weight"] = weight.scalar_type();
    ctx->saved_data["rows"] = weight.size(0);
    ctx->set_materialize_grads(false);
    return {branch ? sum : residual.view_as(residual), at::mm(y, w.t())};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &sum = kept[0], &n = kept[1], &rstd = kept[2], &w = kept[3];
    at::OptionalDeviceGuard guard(sum.device());
    const std::int64_t rows = sum.size(0), width = sum.size(1);
    const bool branch = ctx->saved_data["branch"].toBool();
    const Tensor dsum = grads[0].defined() ? as_floats(grads[0]) : Tensor();
    const Tensor dout = grads[1].defined() ? as_halves(grads[1])
                                           : at::zeros({rows, w.size(0)}, w.options());
    const Tensor dy = at::mm(dout, w);
    Tensor y = at::empty_like(dy), dresidual = at::empty_like(sum);
    Tensor dbranch = branch ? at::empty_like(dy) : Tensor();
    Tensor dnorm = made(sum, {cuda::NORM_BLOCKS, width}, at::kFloat);
    cuda::add_norm_backward({rows, width, floats(sum), floats(n), floats(rstd), floats(dsum),
                             halves(dy), floats(dresidual), halves(dbranch), floats(dnorm),
                             halves(y)},
                            current_stream(sum));
    if (branch) dbranch = dbranch.to(ctx->saved_data["kind"].toScalarType());
    const Tensor dweight = weight_gradient(dout, y, ctx->saved_data["weight"].toScalarType());
    return {dresidual, dbranch, dnorm.sum(0),
            dweight.narrow(0, 0, ctx->saved_data["rows"].toInt()), Tensor()};
  }
};

void add_norm_linear(const Call& call) {
  const auto out = AddNormLinear::apply(call.tensor(0), call.maybe(1), call.tensor(2),
                                        call.tensor(3), call.numbers[0]);
  call.give(0, out[0]);
  call.give(1, out[1]);
}

void add_norm(const Call& call) {
  const auto out = AddNorm::apply(call.tensor(0), call.maybe(1), call.tensor(2));
  call.give(0, out[0]);
  call.give(1, out[1]);
}

void gated_norm(const Call& call) {
  call.give(0, GatedNorm::apply(call.tensor(0), call.tensor(1), call.tensor(2)));
}

}  // namespace

CISTRON_OPERATOR(add_norm, add_norm)
CISTRON_OPERATOR(add_norm_linear, add_norm_linear)
CISTRON_OPERATOR(gated_norm, gated_norm)

}  // namespace cistron::ops
#endif
