// A Mamba-2 block behind its in-projection: convolution, gates, scan, gated norm and
// out-projection in one node of the graph. The backward pass makes the convolution and the
// normalised rows again, and writes one gradient of the projection.
#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/conv.h"
#include "../cuda/gates.h"
#include "../cuda/norm.h"
#include "scan.h"

namespace cistron::ops {
namespace {

constexpr float EPS = 1e-5f;

struct Sizes {
  std::int64_t tokens, inner, states, heads, head_dim;

  std::int64_t channels() const { return inner + 2 * states; }
};

// What both passes read, in the order in which it is kept.
enum Kept {
  PROJECTED, CONV_WEIGHT, CONV_BIAS, DT_BIAS, A_LOG, D, NORM, OUT, POSITION, OFFSETS, ITEMS, FIRST,
  TAIL, STATE, STEP, LOG_DECAY, Y, RSTD, SAVED
};

cuda::Conv conv_of(const variable_list& k, const Sizes& s) {
  cuda::Conv in{};
  in.tokens = s.tokens;
  in.channels = s.channels();
  in.sequences = k[OFFSETS].size(0) - 1;
  in.width = k[CONV_WEIGHT].size(-1);
  in.x = half_data(k[PROJECTED]) + s.inner;
  in.stride = k[PROJECTED].stride(0);
  in.weight = float_data(k[CONV_WEIGHT]);
  in.bias = float_data(k[CONV_BIAS]);
  in.position = k[POSITION].const_data_ptr<std::int64_t>();
  in.offsets = k[OFFSETS].const_data_ptr<std::int64_t>();
  in.tail = k[TAIL].defined() ? float_data(k[TAIL]) : nullptr;
  return in;
}

cuda::Gates2 gates_of(const variable_list& k, const Sizes& s) {
  return {s.tokens, static_cast<int>(s.heads),
          half_data(k[PROJECTED]) + s.inner + s.channels(), k[PROJECTED].stride(0),
          float_data(k[DT_BIAS]), float_data(k[A_LOG])};
}

// [tokens, channels] as x [tokens, heads, 1, head_dim], b and c [tokens, 1, 1, states].
std::array<Tensor, 3> parts_of(const Tensor& mixed, const Sizes& s) {
  auto shared = [&](std::int64_t at) {
    return mixed.narrow(1, at, s.states).view({s.tokens, 1, 1, s.states});
  };
  return {mixed.narrow(1, 0, s.inner).view({s.tokens, s.heads, 1, s.head_dim}), shared(s.inner),
          shared(s.inner + s.states)};
}

variable_list scan_inputs(const variable_list& k, const Tensor& mixed, const Sizes& s) {
  variable_list t(INPUTS);
  const auto parts = parts_of(mixed, s);
  t[X] = parts[0], t[B] = parts[1], t[C] = parts[2];
  t[DECAY] = k[LOG_DECAY];
  t[WEIGHT] = t[GAMMA] = k[STEP];
  t[SKIP] = k[D];
  t[INITIAL] = k[STATE];
  return t;
}

Tensor convolved(const variable_list& k, const Sizes& s) {
  Tensor mixed = made(k[PROJECTED], {s.tokens, s.channels()}, at::kBFloat16);
  cuda::conv_forward(conv_of(k, s), half_data(mixed), current_stream(mixed));
  return mixed;
}

Tensor floats_or_none(const MaybeTensor& t) { return t ? as_floats(*t) : Tensor(); }

struct Mamba2 : torch::autograd::Function<Mamba2> {
  static variable_list forward(AutogradContext* ctx, const Tensor& given, const Tensor& conv_weight,
                               const Tensor& conv_bias, const Tensor& dt_bias, const Tensor& a_log,
                               const Tensor& d, const Tensor& norm, const Tensor& out,
                               const Tensor& position, const Tensor& offsets, const Tensor& items,
                               const Tensor& first, const MaybeTensor& tail,
                               const MaybeTensor& state, std::int64_t states, std::int64_t head_dim,
                               std::int64_t chunks, bool keep) {
    at::OptionalDeviceGuard guard(given.device());
    const bool aligned = given.stride(1) == 1 && given.stride(0) % 8 == 0 &&
                         reinterpret_cast<std::uintptr_t>(given.data_ptr()) % 16 == 0;
    const std::int64_t heads = dt_bias.size(0);
    const Sizes s{given.size(0), heads * head_dim, states, heads, head_dim};
    variable_list k(SAVED);
    k[PROJECTED] = aligned ? given : at::constant_pad_nd(given, {0, (8 - given.size(1) % 8) % 8});
    k[CONV_WEIGHT] = as_floats(conv_weight), k[CONV_BIAS] = as_floats(conv_bias);
    k[DT_BIAS] = as_floats(dt_bias), k[A_LOG] = as_floats(a_log), k[D] = as_floats(d);
    k[NORM] = as_floats(norm), k[OUT] = out.to(at::kBFloat16);
    k[POSITION] = position, k[OFFSETS] = offsets, k[ITEMS] = items, k[FIRST] = first;
    k[TAIL] = floats_or_none(tail), k[STATE] = floats_or_none(state);
    const auto stream = current_stream(given);

    k[STEP] = made(given, {s.tokens, s.heads}, at::kFloat);
    k[LOG_DECAY] = at::empty_like(k[STEP]);
    cuda::gates_forward(gates_of(k, s), float_target(k[STEP]), float_target(k[LOG_DECAY]), stream);
    auto run = scan_values(scan_inputs(k, convolved(k, s), s), items, first, chunks, keep, false);
    k[Y] = run.y.view({s.tokens, s.inner});
    k[RSTD] = made(given, {s.tokens}, at::kFloat);
    Tensor normed = at::empty_like(k[Y]);
    cuda::gated_norm_forward({s.tokens, s.inner, k[PROJECTED].stride(0), half_data(k[Y]),
                              half_data(k[PROJECTED]), float_data(k[NORM]), half_data(normed),
                              float_target(k[RSTD]), EPS},
                             stream);
    ctx->saved_data["numbers"] = std::vector<std::int64_t>{
        states, head_dim, chunks, keep, given.size(1), static_cast<std::int64_t>(out.scalar_type())};
    ctx->saved_data["taps"] = conv_weight.sizes().vec();
    k.insert(k.end(), run.saved.begin(), run.saved.end());
    ctx->save_for_backward(k);
    ctx->set_materialize_grads(false);
    if (!keep) ctx->mark_non_differentiable({run.last});
    return {at::mm(normed, k[OUT].t()), run.last};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list k = ctx->get_saved_variables();
    const variable_list saved(k.begin() + SAVED, k.end());
    const auto numbers = ctx->saved_data["numbers"].toIntVector();
    const std::int64_t heads = k[DT_BIAS].size(0), chunks = numbers[2];
    const Sizes s{k[PROJECTED].size(0), heads * numbers[1], numbers[0], heads, numbers[1]};
    const Tensor& projected = k[PROJECTED];
    at::OptionalDeviceGuard guard(projected.device());
    const auto stream = current_stream(projected);
    const Tensor dout = grads[0].defined()
                            ? grads[0].to(at::kBFloat16).contiguous()
                            : at::zeros({s.tokens, k[OUT].size(0)}, projected.options());
    const Tensor dlast = numbers[3] && grads[1].defined() ? as_floats(grads[1]) : Tensor();

    // Through the out-projection and the gated norm.
    const std::int64_t columns = projected.size(1);
    Tensor dprojected = made(projected, {s.tokens, columns}, at::kBFloat16);
    Tensor dnorm = made(projected, {cuda::NORM_BLOCKS, s.inner}, at::kFloat);
    Tensor dy = at::empty_like(k[Y]), dweight;
    {
      const Tensor dnormed = at::mm(dout, k[OUT]);
      Tensor normed = at::empty_like(k[Y]);
      cuda::gated_norm_backward(
          {s.tokens, s.inner, projected.stride(0), half_data(k[Y]), half_data(projected),
           half_data(dnormed), float_data(k[NORM]), float_data(k[RSTD]), half_data(dy),
           half_data(dprojected), columns, float_target(dnorm), half_data(normed)},
          stream);
      dweight = weight_gradient(dout, normed, static_cast<at::ScalarType>(numbers[5]));
    }
    // Through the scan.
    Tensor dmixed = made(projected, {s.tokens, s.channels()}, at::kBFloat16);
    variable_list found;
    {
      const auto inputs = scan_inputs(k, convolved(k, s), s);
      const auto parts = parts_of(dmixed, s);
      const auto by_head = dy.view({s.tokens, s.heads, 1, s.head_dim});
      found = scan_gradients(inputs, k[ITEMS], k[FIRST], chunks, saved, by_head, dlast,
                             {parts[0], dmixed.narrow(1, s.inner, s.states),
                              dmixed.narrow(1, s.inner + s.states, s.states)});
    }
    // Through the convolution and the gates.
    const auto conv = conv_of(k, s);
    constexpr std::int64_t block = cuda::CONV_RUN * cuda::CONV_RUNS;
    Tensor taps = made(projected, {(s.tokens + block - 1) / block, s.channels(), conv.width + 1},
                       at::kFloat);
    Tensor dtail = k[TAIL].defined() ? at::empty_like(k[TAIL]) : Tensor();
    cuda::conv_backward(conv, half_data(dmixed), half_data(dprojected) + s.inner, columns,
                        float_target(taps), float_target(dtail), stream);
    Tensor gates = made(projected, {cuda::GATE_BLOCKS, 2, s.heads}, at::kFloat);
    const std::int64_t used = s.inner + s.channels();
    cuda::gates_backward(gates_of(k, s),
                         {float_data(k[STEP]), float_data(k[LOG_DECAY]), float_data(found[WEIGHT]),
                          float_data(found[GAMMA]), float_data(found[DECAY]),
                          half_data(dprojected) + used, columns,
                          static_cast<int>(columns - used - s.heads), float_target(gates)},
                         stream);
    const Tensor tap_sums = taps.sum(0), gate_sums = gates.sum(0);
    variable_list result(18);
    result[0] = dprojected.narrow(1, 0, numbers[4]);
    result[1] = tap_sums.narrow(1, 0, conv.width).reshape(ctx->saved_data["taps"].toIntVector());
    result[2] = tap_sums.select(1, conv.width);
    result[3] = gate_sums[0];
    result[4] = gate_sums[1];
    result[5] = found[SKIP];
    result[6] = dnorm.sum(0);
    result[7] = dweight;
    result[12] = dtail;
    result[13] = found[INITIAL];
    return result;
  }
};

// Tensors in the order of `Mamba2::forward`; numbers: states, head size, chunks, keep.
void mamba2(const Call& call) {
  const auto out = Mamba2::apply(
      call.tensor(0), call.tensor(1), call.tensor(2), call.tensor(3), call.tensor(4),
      call.tensor(5), call.tensor(6), call.tensor(7), call.tensor(8), call.tensor(9),
      call.tensor(10), call.tensor(11), call.maybe(12), call.maybe(13), call.numbers[0],
      call.numbers[1], call.numbers[2], call.numbers[3] != 0);
  call.give(0, out[0]);
  call.give(1, out[1]);
}

}  // namespace

CISTRON_OPERATOR(mamba2, mamba2)

}  // namespace cistron::ops
#endif
