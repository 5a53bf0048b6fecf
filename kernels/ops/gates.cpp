// The gates of a Mamba-3 block, from its in-projection to the scan, in one kernel each way.
#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/gates.h"

#include <cstring>

namespace cistron::ops {
namespace {

cuda::Gates3 gates_of(const Tensor& values, const Tensor& bias, const Tensor& position,
                      bool heavy_tail, double floor) {
  const std::int64_t heads = bias.numel();
  return {values.size(0),
          static_cast<int>(heads),
          static_cast<int>(values.size(1) - 3 * heads),
          heavy_tail,
          static_cast<float>(floor),
          half_data(values),
          values.stride(0),
          float_data(bias),
          position.const_data_ptr<std::int64_t>()};
}

struct Gates : torch::autograd::Function<Gates> {
  static variable_list forward(AutogradContext* ctx, const Tensor& given, const Tensor& dt_bias,
                               const Tensor& position, bool heavy_tail, double floor) {
    at::OptionalDeviceGuard guard(given.device());
    const Tensor values = dense_rows(given), bias = as_floats(dt_bias);
    const auto in = gates_of(values, bias, position, heavy_tail, floor);
    variable_list out{made(values, {in.tokens, in.angles}, at::kFloat)};
    for (int i = 0; i < 4; ++i) out.push_back(made(values, {in.tokens, in.heads}, at::kFloat));
    cuda::gates3_forward(in,
                         {float_target(out[0]), float_target(out[1]), float_target(out[2]),
                          float_target(out[3]), float_target(out[4])},
                         current_stream(values));
    ctx->save_for_backward({values, bias, position});
    ctx->saved_data["heavy_tail"] = heavy_tail;
    ctx->saved_data["floor"] = floor;
    ctx->set_materialize_grads(false);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list k = ctx->get_saved_variables();
    at::OptionalDeviceGuard guard(k[0].device());
    const auto in = gates_of(k[0], k[1], k[2], ctx->saved_data["heavy_tail"].toBool(),
                             ctx->saved_data["floor"].toDouble());
    for (Tensor& t : grads)
      if (t.defined()) t = as_floats(t);
    Tensor out = at::empty(k[0].sizes(), k[0].options());
    Tensor sums = made(k[0], {cuda::GATE_BLOCKS, in.heads}, at::kFloat);
    cuda::gates3_backward(in,
                          {float_target(grads[0]), float_target(grads[1]), float_target(grads[2]),
                           float_target(grads[3]), float_target(grads[4])},
                          half_data(out), float_target(sums), current_stream(out));
    Tensor bias = at::empty({in.heads}, sums.options());
    cuda::sum_rows(float_data(sums), float_target(bias), cuda::GATE_BLOCKS, in.heads,
                   current_stream(out));
    return {out, bias, Tensor(), Tensor(), Tensor()};
  }
};

// Rows of the projection, dt_bias, positions; whether the tail is heavy, and the bits of the floor.
void mamba3_gates(const Call& call) {
  double floor;
  std::memcpy(&floor, &call.numbers[1], sizeof floor);
  const auto out = Gates::apply(call.tensor(0), call.tensor(1), call.tensor(2),
                                call.numbers[0] != 0, floor);
  for (int i = 0; i < 5; ++i) call.give(i, out[i]);
}

}  // namespace

CISTRON_OPERATOR(mamba3_gates, mamba3_gates)

}  // namespace cistron::ops
#endif
