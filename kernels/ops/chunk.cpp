// Dynamic chunking as differentiable operators.
#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/chunk.h"
#include "../cuda/dechunk.h"

namespace cistron::ops {
namespace {

const std::int64_t* longs(const Tensor& t) { return t.const_data_ptr<std::int64_t>(); }

// From encoded vectors: the probability that a chunk starts at each, whether one does, and
// what goes past the inner stages. Products are fp32.
struct Router : torch::autograd::Function<Router> {
  static cuda::Router input_of(const Tensor& qk, const Tensor& position) {
    return {qk.size(0), static_cast<int>(qk.size(1) / 2), float_data(qk), longs(position)};
  }

  static variable_list forward(AutogradContext* ctx, const Tensor& encoded, const Tensor& q,
                               const Tensor& k, const Tensor& weight, const Tensor& bias,
                               const Tensor& position, std::int64_t limit) {
    at::OptionalDeviceGuard guard(encoded.device());
    const Tensor x = encoded.to(at::kFloat), joined = at::cat({q, k}, 0);
    const Tensor qk = at::mm(x, joined.t());
    Tensor residual = at::addmm(bias, x, weight.t());
    const std::int64_t tokens = x.size(0);
    auto column = [&] { return at::empty({tokens}, x.options()); };
    Tensor prob = column(), cosine = column(), iq = column(), ik = column();
    Tensor mask = made(x, {tokens}, at::kBool);
    cuda::router_forward(input_of(qk, position),
                         {float_target(prob), mask.data_ptr<bool>(), float_target(cosine),
                          float_target(iq), float_target(ik), limit},
                         current_stream(x));
    ctx->save_for_backward({encoded, joined, weight, position, qk, cosine, iq, ik});
    ctx->mark_non_differentiable({mask});
    ctx->set_materialize_grads(false);
    return {prob, mask, residual};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &encoded = kept[0], &joined = kept[1], &weight = kept[2], &qk = kept[4];
    at::OptionalDeviceGuard guard(encoded.device());
    const Tensor x = encoded.to(at::kFloat);
    const std::int64_t width = x.size(1);
    variable_list result(7);
    Tensor dx;
    if (grads[0].defined()) {
      const Tensor dprob = as_floats(grads[0]);
      Tensor dqk = at::empty_like(qk);
      cuda::router_backward(input_of(qk, kept[3]), float_data(kept[5]), float_data(kept[6]),
                            float_data(kept[7]), float_data(dprob), float_target(dqk),
                            current_stream(x));
      dx = at::mm(dqk, joined);
      const Tensor djoined = at::mm(dqk.t(), x);
      result[1] = djoined.narrow(0, 0, width);
      result[2] = djoined.narrow(0, width, width);
    }
    if (grads[2].defined()) {
      const Tensor dresidual = as_floats(grads[2]);
      if (dx.defined()) dx.addmm_(dresidual, weight);
      else dx = at::mm(dresidual, weight);
      result[3] = at::mm(dresidual.t(), x);
      result[4] = dresidual.sum(0);
    }
    if (dx.defined()) result[0] = dx.to(encoded.scalar_type());
    return result;
  }
};

// Rows at the boundaries; each row has one reader at most.
struct Gather : torch::autograd::Function<Gather> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& boundaries,
                        const Tensor& source, const Tensor& mask) {
    at::OptionalDeviceGuard guard(x.device());
    ctx->save_for_backward({source, mask});
    return at::index_select(x, 0, boundaries);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor dout = grads[0].contiguous();
    at::OptionalDeviceGuard guard(dout.device());
    Tensor dx = made(dout, {kept[0].size(0), dout.size(1)}, at::kBFloat16);
    cuda::gather_backward(dx.size(0), static_cast<int>(dx.size(1)), kept[1].const_data_ptr<bool>(),
                          longs(kept[0]), half_data(dout), half_data(dx), current_stream(dx));
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

struct Dechunk : torch::autograd::Function<Dechunk> {
  static cuda::Dechunk input_of(const variable_list& t, double floor, double ceiling) {
    const Tensor &z = t[0], &prob = t[1];
    return {prob.size(0),    z.size(0),          static_cast<int>(z.size(1)),
            half_data(z),    z.stride(0),        float_data(prob),
            longs(t[2]),     longs(t[3]),        longs(t[4]),
            static_cast<float>(floor), static_cast<float>(ceiling)};
  }

  static std::int64_t blocks(const Tensor& z) {
    return (z.size(0) + cuda::EMA_ROWS - 1) / cuda::EMA_ROWS;
  }

  static variable_list forward(AutogradContext* ctx, const Tensor& given, const Tensor& prob,
                               const Tensor& residual, const Tensor& boundaries,
                               const Tensor& source, const Tensor& position, double floor,
                               double ceiling) {
    at::OptionalDeviceGuard guard(given.device());
    const bool good = given.stride(1) == 1 && given.stride(0) % 4 == 0 &&
                      reinterpret_cast<std::uintptr_t>(given.data_ptr()) % 8 == 0;
    const Tensor z = good ? given : given.contiguous(), past = as_floats(residual);
    const variable_list kept{z, as_floats(prob), boundaries, source, position};
    Tensor out = at::empty_like(past);
    Tensor smoothed = made(past, z.sizes(), at::kFloat);
    Tensor ends = made(past, {blocks(z), z.size(1)}, at::kFloat);
    Tensor decay = made(past, {blocks(z)}, at::kFloat);
    cuda::dechunk_forward(input_of(kept, floor, ceiling),
                          {float_data(past), float_target(out), float_target(smoothed),
                           float_target(ends), float_target(decay)},
                          current_stream(z));
    variable_list all = kept;
    all.push_back(smoothed);
    ctx->save_for_backward(all);
    ctx->saved_data["floor"] = floor;
    ctx->saved_data["ceiling"] = ceiling;
    ctx->set_materialize_grads(false);
    return {out, smoothed};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const Tensor &z = kept[0], &prob = kept[1], &smoothed = kept[5];
    at::OptionalDeviceGuard guard(z.device());
    const Tensor dout = grads[0].defined()
                            ? as_floats(grads[0])
                            : at::zeros({prob.size(0), z.size(1)}, prob.options());
    const Tensor dsmoothed = grads[1].defined() ? as_floats(grads[1]) : Tensor();
    Tensor sums = at::empty_like(smoothed), dprob = at::empty_like(prob);
    Tensor ends = made(dout, {blocks(z), z.size(1)}, at::kFloat);
    Tensor decay = made(dout, {blocks(z)}, at::kFloat);
    Tensor dz = made(z, z.sizes(), at::kBFloat16);
    cuda::dechunk_backward(
        input_of(kept, ctx->saved_data["floor"].toDouble(), ctx->saved_data["ceiling"].toDouble()),
        {float_data(dout), dsmoothed.defined() ? float_data(dsmoothed) : nullptr,
         float_data(smoothed), float_target(sums), float_target(ends),
         float_target(decay), float_target(dprob), half_data(dz)},
        current_stream(z));
    return {dz, dprob, dout, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// Encoded, q, k, residual weight and bias, positions; the limit of `RouterOutputs`.
void router(const Call& call) {
  const auto out = Router::apply(call.tensor(0), call.tensor(1), call.tensor(2), call.tensor(3),
                                 call.tensor(4), call.tensor(5), call.numbers[0]);
  for (int i = 0; i < 3; ++i) call.give(i, out[i]);
}

// Mask and offsets: boundaries with room for every token, source, totals.
void places(const Call& call) {
  const Tensor &mask = call.tensor(0), &offsets = call.tensor(1);
  at::OptionalDeviceGuard guard(mask.device());
  at::NoGradGuard no_grad;
  const Tensor count = at::cumsum(mask, 0, at::kLong);
  Tensor boundaries = at::empty_like(count), source = at::empty_like(count);
  Tensor totals = at::empty_like(offsets);
  cuda::places({mask.size(0), offsets.size(0) - 1, mask.const_data_ptr<bool>(), longs(count),
                longs(offsets), boundaries.data_ptr<std::int64_t>(),
                source.data_ptr<std::int64_t>(), totals.data_ptr<std::int64_t>()},
               current_stream(mask));
  call.give(0, boundaries);
  call.give(1, source);
  call.give(2, totals);
}

void gather(const Call& call) {
  call.give(0, Gather::apply(call.tensor(0), call.tensor(1), call.tensor(2), call.tensor(3)));
}

// z, probabilities, residual, boundaries, source, positions; whether the ceiling is below one.
void dechunk(const Call& call) {
  constexpr double floor = 1e-4;
  const double ceiling = call.numbers[0] != 0 ? 1.0 - floor : 1.0;
  const auto out = Dechunk::apply(call.tensor(0), call.tensor(1), call.tensor(2), call.tensor(3),
                                  call.tensor(4), call.tensor(5), floor, ceiling);
  call.give(0, out[0]);
  call.give(1, out[1]);
}

}  // namespace

CISTRON_OPERATOR(router, router)
CISTRON_OPERATOR(places, places)
CISTRON_OPERATOR(gather, gather)
CISTRON_OPERATOR(dechunk, dechunk)

}  // namespace cistron::ops
#endif
