// Decode steps over at::Tensor, and the C functions that Rust calls. No gradients.
//
// The structs mirror those of crates/kernels/src/step/device.rs, field by field.
#include "../shim.h"

#include <ATen/ATen.h>
#include <ATen/DeviceGuard.h>

#ifdef CISTRON_CUDA
#include "ops.h"
#include "../cuda/step.h"
#endif

namespace {

using at::Tensor;

struct Rows {
  const Tensor *index, *mask;
};

struct Mamba2Arguments {
  Rows rows;
  const Tensor *projected, *conv_weight, *conv_bias, *dt_bias, *a_log, *skip, *tail, *ssm;
  std::int64_t head_dim, state, groups;
};

struct Mamba3Arguments {
  Rows rows;
  const Tensor *projected, *dt_bias, *b_norm, *c_norm, *b_bias, *c_bias, *skip;
  const Tensor *up, *gate, *down, *norm;
  const Tensor *angle, *ssm, *k, *v;
  std::int64_t head_dim, state, groups, rank, angles, halves, heavy_tail;
  double floor, eps;
};

struct AttentionArguments {
  Rows rows;
  const Tensor *projected, *k, *v, *seen;
  std::int64_t heads, head_dim, window, rotary;
};

#ifdef CISTRON_CUDA

// Weights in fp32; the copies live as long as the call, which the stream's order makes enough.
struct Weights {
  std::vector<Tensor> kept;
  const float* operator()(const Tensor* t, std::int64_t size) {
    if (t == nullptr) return nullptr;
    TORCH_CHECK(t->numel() == size, "decode step: a weight has ", t->numel(), " values, not ", size);
    kept.push_back(t->detach().to(at::kFloat).contiguous());
    return kept.back().data_ptr<float>();
  }
};

float* state_of(const Tensor* t, at::IntArrayRef tail) {
  TORCH_CHECK(t->is_contiguous() && t->scalar_type() == at::kFloat && t->sizes().slice(1) == tail,
              "decode step: a state is ", t->scalar_type(), " ", t->sizes(),
              ", expected contiguous fp32 [rows, ", tail, "]");
  return t->data_ptr<float>();
}

bool is_bfloat16(const Tensor* t) {
  TORCH_CHECK(t->scalar_type() == at::kFloat || t->scalar_type() == at::kBFloat16,
              "decode step: activations are ", t->scalar_type(), ", expected fp32 or bf16");
  TORCH_CHECK(t->dim() == 2 && t->stride(1) == 1, "decode step: activations have no dense rows");
  return t->scalar_type() == at::kBFloat16;
}

cistron::cuda::StepRows rows_of(const Rows& rows, std::int64_t count, const Tensor* state) {
  const std::int64_t* index = nullptr;
  const bool* mask = nullptr;
  if (rows.index != nullptr) {
    TORCH_CHECK(rows.index->is_contiguous() && rows.index->numel() == count,
                "decode step: one row number a row");
    index = rows.index->data_ptr<std::int64_t>();
  } else {
    TORCH_CHECK(state->size(0) == count, "decode step: ", count, " rows for ", state->size(0),
                " states");
  }
  if (rows.mask != nullptr) {
    TORCH_CHECK(rows.mask->is_contiguous() && rows.mask->numel() == count,
                "decode step: one mask value a row");
    mask = rows.mask->data_ptr<bool>();
  }
  return {count, index, mask};
}

Tensor mamba2_step(const Mamba2Arguments& in) {
  at::OptionalDeviceGuard guard(in.projected->device());
  const std::int64_t count = in.projected->size(0), heads = in.skip->numel();
  const std::int64_t inner = heads * in.head_dim;
  const std::int64_t channels = inner + 2 * in.groups * in.state, width = in.conv_weight->size(-1);
  TORCH_CHECK(in.projected->size(1) >= inner + channels + heads,
              "decode step: the projection is too narrow");
  Weights weight;
  const auto options = in.projected->options();
  Tensor mixed = at::empty({count, channels}, options.dtype(at::kFloat));
  Tensor y = at::empty({count, inner}, options);
  cistron::cuda::Mamba2Step step{};
  step.rows = rows_of(in.rows, count, in.ssm);
  step.heads = heads, step.head_dim = in.head_dim, step.state = in.state;
  step.groups = in.groups, step.width = width;
  step.bfloat16 = is_bfloat16(in.projected);
  step.projected = in.projected->data_ptr();
  step.stride = in.projected->stride(0);
  step.conv_weight = weight(in.conv_weight, channels * width);
  step.conv_bias = weight(in.conv_bias, channels);
  step.dt_bias = weight(in.dt_bias, heads);
  step.a_log = weight(in.a_log, heads);
  step.skip = weight(in.skip, heads);
  step.tail = state_of(in.tail, {width - 1, channels});
  step.ssm = state_of(in.ssm, {heads, in.head_dim, in.state});
  step.mixed = mixed.data_ptr<float>();
  step.y = y.data_ptr();
  cistron::cuda::mamba2_step(step, cistron::ops::current_stream(*in.projected));
  return y;
}

Tensor mamba3_step(const Mamba3Arguments& in) {
  at::OptionalDeviceGuard guard(in.projected->device());
  const std::int64_t count = in.projected->size(0), heads = in.skip->numel();
  const std::int64_t inner = heads * in.head_dim, wide = in.rank * in.state;
  TORCH_CHECK(in.projected->size(1) >=
                  2 * inner + 2 * in.groups * wide + 3 * heads + in.angles,
              "decode step: the projection is too narrow");
  Weights weight;
  Tensor y = at::empty({count, inner}, in.projected->options());
  cistron::cuda::Mamba3Step step{};
  step.rows = rows_of(in.rows, count, in.ssm);
  step.heads = heads, step.head_dim = in.head_dim, step.state = in.state;
  step.groups = in.groups, step.rank = in.rank, step.angles = in.angles;
  step.bfloat16 = is_bfloat16(in.projected);
  step.halves = in.halves != 0, step.heavy_tail = in.heavy_tail != 0;
  step.floor = static_cast<float>(in.floor), step.eps = static_cast<float>(in.eps);
  step.projected = in.projected->data_ptr();
  step.stride = in.projected->stride(0);
  step.dt_bias = weight(in.dt_bias, heads);
  step.b_norm = weight(in.b_norm, in.state), step.c_norm = weight(in.c_norm, in.state);
  step.b_bias = weight(in.b_bias, heads * wide), step.c_bias = weight(in.c_bias, heads * wide);
  step.skip = weight(in.skip, heads);
  step.up = weight(in.up, in.rank * inner), step.gate = weight(in.gate, in.rank * inner);
  step.down = weight(in.down, in.rank * inner);
  step.norm = weight(in.norm, inner);
  step.angle = state_of(in.angle, {heads, in.angles});
  step.ssm = state_of(in.ssm, {heads, in.head_dim, in.state});
  step.k = state_of(in.k, {in.rank, heads, in.state});
  step.v = state_of(in.v, {heads, in.head_dim});
  step.y = y.data_ptr();
  cistron::cuda::mamba3_step(step, cistron::ops::current_stream(*in.projected));
  return y;
}

Tensor attention_step(const AttentionArguments& in) {
  at::OptionalDeviceGuard guard(in.projected->device());
  const std::int64_t count = in.projected->size(0), inner = in.heads * in.head_dim;
  const std::int64_t slots = in.k->size(1);
  TORCH_CHECK(in.projected->size(1) >= 3 * inner, "decode step: the projection is too narrow");
  for (const Tensor* cache : {in.k, in.v})
    TORCH_CHECK(cache->is_contiguous() && cache->scalar_type() == in.projected->scalar_type() &&
                    cache->sizes().slice(1) == at::IntArrayRef({slots, in.heads, in.head_dim}),
                "decode step: a cache is ", cache->scalar_type(), " ", cache->sizes());
  Tensor y = at::empty({count, inner}, in.projected->options());
  cistron::cuda::AttentionStep step{};
  step.rows = rows_of(in.rows, count, in.k);
  step.heads = in.heads, step.head_dim = in.head_dim, step.slots = slots;
  step.window = in.window, step.rotary = in.rotary;
  step.bfloat16 = is_bfloat16(in.projected);
  step.projected = in.projected->data_ptr();
  step.stride = in.projected->stride(0);
  step.seen = in.seen->data_ptr<std::int64_t>();
  step.k = in.k->data_ptr(), step.v = in.v->data_ptr();
  step.y = y.data_ptr();
  cistron::cuda::attention_step(step, cistron::ops::current_stream(*in.projected));
  return y;
}

#else

template <typename T>
Tensor absent(const T&) {
  TORCH_CHECK(false, "decode step: this build has no CUDA kernels");
}
Tensor mamba2_step(const Mamba2Arguments& in) { return absent(in); }
Tensor mamba3_step(const Mamba3Arguments& in) { return absent(in); }
Tensor attention_step(const AttentionArguments& in) { return absent(in); }

#endif

}  // namespace

extern "C" {

bool cistron_step_built() {
#ifdef CISTRON_CUDA
  return true;
#else
  return false;
#endif
}

bool cistron_mamba2_step(const Mamba2Arguments* in, Tensor** out, char* error, std::size_t size) {
  return guarded(error, size, [&] { *out = new Tensor(mamba2_step(*in)); });
}

bool cistron_mamba3_step(const Mamba3Arguments* in, Tensor** out, char* error, std::size_t size) {
  return guarded(error, size, [&] { *out = new Tensor(mamba3_step(*in)); });
}

bool cistron_attention_step(const AttentionArguments* in, Tensor** out, char* error,
                            std::size_t size) {
  return guarded(error, size, [&] { *out = new Tensor(attention_step(*in)); });
}
}
