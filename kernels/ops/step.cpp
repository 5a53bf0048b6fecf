// Decode steps over at::Tensor. No gradients; states are changed in place.
#include "ops.h"

#ifdef CISTRON_CUDA
#include "../cuda/step.h"

#include <array>
#include <cstring>

namespace cistron::ops {
namespace {

// Numbers that are no integers cross as their bits.
float real(std::int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<float>(value);
}

// Weights in fp32. Copies live as long as the call; the order of the stream makes that enough.
struct Weights {
  std::vector<Tensor> kept;
  const float* operator()(const Tensor* t, std::int64_t size) {
    if (t == nullptr) return nullptr;
    TORCH_CHECK(t->numel() == size, "decode step: a weight has ", t->numel(), " values, not ", size);
    kept.push_back(t->detach().to(at::kFloat).contiguous());
    return kept.back().const_data_ptr<float>();
  }
};

float* state_data(const Tensor& t, at::IntArrayRef tail) {
  TORCH_CHECK(t.is_contiguous() && t.scalar_type() == at::kFloat && t.sizes().slice(1) == tail,
              "decode step: a state is ", t.scalar_type(), " ", t.sizes(),
              ", expected contiguous fp32 [rows, ", tail, "]");
  return t.data_ptr<float>();
}

// Checks activations of at least `width` columns.
bool activations(const Tensor& t, std::int64_t width) {
  TORCH_CHECK(t.dim() == 2 && t.stride(1) == 1 && t.size(1) >= width,
              "decode step: activations are ", t.sizes(), ", expected dense rows of ", width);
  return is_bfloat16(t);
}

// The first two tensors of every call: which rows of the states, and which of them run.
cuda::StepRows step_rows(const Call& call, std::int64_t count, const Tensor& state) {
  const MaybeTensor index = call.maybe(0), mask = call.maybe(1);
  for (const auto& list : {index, mask})
    TORCH_CHECK(!list || (list->is_contiguous() && list->numel() == count),
                "decode step: one row number and one mask value a row");
  TORCH_CHECK(index || state.size(0) == count, "decode step: ", count, " rows for ", state.size(0),
              " states");
  return {count, index ? index->const_data_ptr<std::int64_t>() : nullptr,
          mask ? mask->const_data_ptr<bool>() : nullptr};
}

void mamba2_step(const Call& call) {
  const Tensor &projected = call.tensor(2), &tail = call.tensor(3), &ssm = call.tensor(4);
  const Tensor* const* weights = call.in + 5;
  at::OptionalDeviceGuard guard(projected.device());
  cuda::Mamba2Step step{};
  step.heads = ssm.size(1), step.head_dim = call.numbers[0], step.state = call.numbers[1];
  step.groups = call.numbers[2], step.width = tail.size(1) + 1;
  const std::int64_t count = projected.size(0), inner = step.heads * step.head_dim;
  const std::int64_t channels = inner + 2 * step.groups * step.state;
  step.rows = step_rows(call, count, ssm);
  step.bfloat16 = activations(projected, inner + channels + step.heads);
  step.projected = projected.data_ptr();
  step.stride = projected.stride(0);
  Weights weight;
  step.conv_weight = weight(weights[0], channels * step.width);
  step.conv_bias = weight(weights[1], channels);
  step.dt_bias = weight(weights[2], step.heads);
  step.a_log = weight(weights[3], step.heads);
  step.skip = weight(weights[4], step.heads);
  step.tail = state_data(tail, {step.width - 1, channels});
  step.ssm = state_data(ssm, {step.heads, step.head_dim, step.state});
  Tensor mixed = made(projected, {count, channels}, at::kFloat);
  Tensor y = made(projected, {count, inner}, projected.scalar_type());
  step.mixed = mixed.data_ptr<float>();
  step.y = y.data_ptr();
  cuda::mamba2_step(step, current_stream(projected));
  call.give(0, y);
}

void mamba3_step(const Call& call) {
  const Tensor &projected = call.tensor(2), &angle = call.tensor(3), &ssm = call.tensor(4);
  const Tensor &k = call.tensor(5), &v = call.tensor(6);
  const Tensor* const* weights = call.in + 7;
  at::OptionalDeviceGuard guard(projected.device());
  cuda::Mamba3Step step{};
  step.heads = ssm.size(1), step.head_dim = call.numbers[0], step.state = call.numbers[1];
  step.groups = call.numbers[2], step.rank = call.numbers[3], step.angles = call.numbers[4];
  step.halves = call.numbers[5] != 0, step.heavy_tail = call.numbers[6] != 0;
  step.floor = real(call.numbers[7]), step.eps = real(call.numbers[8]);
  const std::int64_t count = projected.size(0), inner = step.heads * step.head_dim;
  const std::int64_t wide = step.rank * step.state;
  step.rows = step_rows(call, count, ssm);
  step.bfloat16 =
      activations(projected, 2 * inner + 2 * step.groups * wide + 3 * step.heads + step.angles);
  step.projected = projected.data_ptr();
  step.stride = projected.stride(0);
  Weights weight;
  step.dt_bias = weight(weights[0], step.heads);
  step.b_norm = weight(weights[1], step.state), step.c_norm = weight(weights[2], step.state);
  step.b_bias = weight(weights[3], step.heads * wide);
  step.c_bias = weight(weights[4], step.heads * wide);
  step.skip = weight(weights[5], step.heads);
  step.up = weight(weights[6], step.rank * inner);
  step.gate = weight(weights[7], step.rank * inner);
  step.down = weight(weights[8], step.rank * inner);
  step.norm = weight(weights[9], inner);
  step.angle = state_data(angle, {step.heads, step.angles});
  step.ssm = state_data(ssm, {step.heads, step.head_dim, step.state});
  step.k = state_data(k, {step.rank, step.heads, step.state});
  step.v = state_data(v, {step.heads, step.head_dim});
  Tensor y = made(projected, {count, inner}, projected.scalar_type());
  step.y = y.data_ptr();
  cuda::mamba3_step(step, current_stream(projected));
  call.give(0, y);
}

void attention_step(const Call& call) {
  const Tensor &projected = call.tensor(2), &k = call.tensor(3), &v = call.tensor(4);
  const Tensor& seen = call.tensor(5);
  at::OptionalDeviceGuard guard(projected.device());
  cuda::AttentionStep step{};
  step.heads = k.size(2), step.head_dim = k.size(3), step.slots = k.size(1);
  step.window = call.numbers[0], step.rotary = call.numbers[1];
  const std::int64_t count = projected.size(0), inner = step.heads * step.head_dim;
  step.rows = step_rows(call, count, k);
  step.bfloat16 = activations(projected, 3 * inner);
  for (const Tensor* cache : {&k, &v})
    TORCH_CHECK(cache->is_contiguous() && cache->scalar_type() == projected.scalar_type() &&
                    cache->sizes() == k.sizes(),
                "decode step: a cache is ", cache->scalar_type(), " ", cache->sizes());
  step.projected = projected.data_ptr();
  step.stride = projected.stride(0);
  step.seen = seen.const_data_ptr<std::int64_t>();
  step.k = k.data_ptr(), step.v = v.data_ptr();
  Tensor y = made(projected, {count, inner}, projected.scalar_type());
  step.y = y.data_ptr();
  cuda::attention_step(step, current_stream(projected));
  call.give(0, y);
}

// fp32 `[count, width]` without gaps.
float* matrix_data(const Tensor& t, at::IntArrayRef sizes) {
  TORCH_CHECK(t.is_contiguous() && t.scalar_type() == at::kFloat && t.sizes() == sizes,
              "decode step: a tensor is ", t.scalar_type(), " ", t.sizes(),
              ", expected contiguous fp32 ", sizes);
  return t.data_ptr<float>();
}

void route_step(const Call& call) {
  const Tensor &q = call.tensor(0), &mask = call.tensor(3), &seen = call.tensor(5);
  at::OptionalDeviceGuard guard(q.device());
  cuda::RouteStep step{};
  step.count = q.size(0), step.width = q.size(1);
  const std::array<std::int64_t, 2> sizes{step.count, step.width};
  step.q = matrix_data(q, sizes), step.k = matrix_data(call.tensor(1), sizes);
  step.now = matrix_data(call.tensor(2), sizes), step.last = matrix_data(call.tensor(4), sizes);
  TORCH_CHECK(mask.is_contiguous() && mask.numel() == step.count && seen.is_contiguous() &&
                  seen.numel() == step.count,
              "decode step: one mask value and one count a row");
  step.mask = mask.const_data_ptr<bool>();
  step.seen = seen.data_ptr<std::int64_t>();
  Tensor prob = made(q, {step.count}, at::kFloat), starting = made(q, {step.count}, at::kBool);
  step.prob = prob.data_ptr<float>();
  step.starting = starting.data_ptr<bool>();
  cuda::route_step(step, current_stream(q));
  call.give(0, prob);
  call.give(1, starting);
}

void dechunk_step(const Call& call) {
  const Tensor &z = call.tensor(0), &prob = call.tensor(1), &starting = call.tensor(2);
  const Tensor &average = call.tensor(3), &residual = call.tensor(4);
  at::OptionalDeviceGuard guard(z.device());
  cuda::DechunkStep step{};
  step.count = average.size(0), step.width = average.size(1);
  const std::array<std::int64_t, 2> sizes{step.count, step.width};
  step.bfloat16 = activations(z, step.width);
  step.z = z.data_ptr();
  step.stride = z.stride(0);
  step.prob = matrix_data(prob, step.count);
  TORCH_CHECK(z.size(0) == step.count && starting.is_contiguous() && starting.numel() == step.count,
              "decode step: one row of z and one mask value a row");
  step.starting = starting.const_data_ptr<bool>();
  step.floor = real(call.numbers[0]), step.ceiling = real(call.numbers[1]);
  step.average = matrix_data(average, sizes);
  step.residual = matrix_data(residual, sizes);
  Tensor out = at::empty_like(average);
  step.out = out.data_ptr<float>();
  cuda::dechunk_step(step, current_stream(z));
  call.give(0, out);
}

}  // namespace

CISTRON_OPERATOR(mamba2_step, mamba2_step)
CISTRON_OPERATOR(mamba3_step, mamba3_step)
CISTRON_OPERATOR(attention_step, attention_step)
CISTRON_OPERATOR(route_step, route_step)
CISTRON_OPERATOR(dechunk_step, dechunk_step)

}  // namespace cistron::ops
#endif
