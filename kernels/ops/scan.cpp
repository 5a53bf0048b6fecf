#include "scan.h"

#include "../shim.h"
#include "upload.h"

#include <ATen/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#ifdef CISTRON_CUDA
#include "../cuda/gates.h"
#include "../cuda/scan.h"
#include "ops.h"
#endif

namespace cistron::ops {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

ScanPlan scan_plan(const std::vector<std::int64_t>& lengths, std::int64_t heads, std::int64_t rank,
                   at::Device device) {
  const std::int64_t chunk = 64 / rank;
  std::int64_t total = 0;
  for (auto length : lengths) total += length;
  // Blocks that fill the chip twice, three a multiprocessor, if items of 4 to 44 chunks allow it:
  // what passes between items is to be little.
  std::int64_t per_item = (total * heads - 1) / (chunk * 768) + 1;
  per_item = std::min<std::int64_t>(std::max<std::int64_t>(per_item, 4), 44) * chunk;
  std::vector<std::int64_t> items, first;
  std::int64_t start = 0, chunks = 0;
  for (std::size_t sequence = 0; sequence < lengths.size(); ++sequence) {
    first.push_back(static_cast<std::int64_t>(items.size()) / 3);
    for (std::int64_t at = 0; at < lengths[sequence]; at += per_item) {
      const std::int64_t tokens = std::min(per_item, lengths[sequence] - at);
      items.insert(items.end(),
                   {start + at, tokens | static_cast<std::int64_t>(sequence) << 32, chunks});
      chunks += (tokens + chunk - 1) / chunk;
    }
    start += lengths[sequence];
  }
  first.push_back(static_cast<std::int64_t>(items.size()) / 3);
  return {upload(items.data(), items.size(), device).reshape({-1, 3}),
          upload(first.data(), first.size(), device), chunks};
}

#ifdef CISTRON_CUDA

namespace {

// A tensor [tokens, rank, something, width] whose rows can be copied 16 bytes at a time.
Tensor aligned(const Tensor& t) {
  bool good = t.stride(-1) == 1 && reinterpret_cast<std::uintptr_t>(t.data_ptr()) % 16 == 0;
  for (std::int64_t d = 0; d + 1 < t.dim(); ++d)
    good = good && (t.size(d) == 1 || t.stride(d) % 8 == 0);
  return good ? t : t.contiguous();
}

cuda::ScanRows rows(const Tensor& t, int rank, int head) {
  return {reinterpret_cast<const __nv_bfloat16*>(t.data_ptr()), t.stride(0), t.stride(rank),
          t.stride(head)};
}

cuda::ScanGradientRows gradient_rows(const Tensor& t, int rank, int head) {
  return {reinterpret_cast<__nv_bfloat16*>(t.data_ptr()), t.stride(0), t.stride(rank),
          t.stride(head)};
}

const float* floats(const Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

Tensor gates(const Tensor& t) { return t.to(at::kFloat).contiguous(); }

cuda::ScanInputs inputs_of(const variable_list& t, const Tensor& items, const Tensor& first,
                           std::int64_t chunks) {
  cuda::ScanInputs in{};
  in.head_dim = t[X].size(3);
  in.state = t[B].size(3);
  in.rank = t[X].size(2);
  in.angles = t[THETA].defined() ? t[THETA].size(1) : -1;
  in.heads = t[X].size(1);
  in.groups = t[B].size(2);
  in.tokens = t[X].size(0);
  in.items = items.size(0);
  in.sequences = first.size(0) - 1;
  in.chunks = chunks;
  in.item = reinterpret_cast<const cuda::ScanItem*>(items.const_data_ptr<std::int64_t>());
  in.first_item = first.const_data_ptr<std::int64_t>();
  in.x = rows(t[X], 2, 1);
  in.b = rows(t[B], 1, 2);
  in.c = rows(t[C], 1, 2);
  in.b_bias = floats(t[B_BIAS]);
  in.c_bias = floats(t[C_BIAS]);
  in.theta = floats(t[THETA]);
  in.delta = floats(t[DELTA]);
  in.log_decay = floats(t[DECAY]);
  in.weight = floats(t[WEIGHT]);
  in.gamma = floats(t[GAMMA]);
  in.skip = floats(t[SKIP]);
  in.initial = floats(t[INITIAL]);
  return in;
}

template <typename T>
T* pointer(const Tensor& t) {
  return reinterpret_cast<T*>(t.data_ptr());
}

cuda::ScanSaved saved_of(const Tensor& states, const Tensor& decay, const Tensor& turn,
                         const Tensor& angle, const Tensor& gates, const Tensor& within) {
  return {pointer<__nv_bfloat16>(states),
          pointer<float>(decay),
          pointer<float>(turn),
          pointer<float>(angle),
          pointer<float>(gates),
          within.defined() ? pointer<__nv_bfloat16>(within) : nullptr};
}

}  // namespace

ScanRun scan_values(const variable_list& t, const Tensor& items, const Tensor& first,
                    std::int64_t chunks, bool keep, bool keep_within) {
  const auto in = inputs_of(t, items, first, chunks);
  const auto half = t[X].options(), single = half.dtype(at::kFloat);
  const std::int64_t tokens = t[X].size(0), angles = std::max(in.angles, 0);
  Tensor states = at::empty({in.items + in.sequences, in.heads, in.head_dim, in.state}, half);
  Tensor decay = at::empty({in.items, in.heads}, single);
  Tensor turn = at::empty({in.items, in.heads, angles}, single);
  Tensor angle = at::empty({chunks, in.heads, angles}, single);
  Tensor gates = at::empty({chunks, in.heads, cuda::SCAN_GATES, 64}, single);
  Tensor local = at::empty({in.items, in.heads, in.head_dim, in.state}, half), within;
  if (keep_within) within = at::empty({chunks, in.heads, in.head_dim, in.state}, half);
  Tensor y = at::empty({tokens, in.heads, in.rank, in.head_dim}, half);
  Tensor last = keep ? at::empty({in.sequences, in.heads, in.head_dim, in.state}, single)
                     : at::empty({0}, single);
  cuda::ScanOutputs out{gradient_rows(y, 2, 1), keep ? pointer<float>(last) : nullptr,
                        pointer<__nv_bfloat16>(local)};
  cuda::scan_forward(in, saved_of(states, decay, turn, angle, gates, within), out,
                     current_stream(y));
  return {y, last, {states, decay, turn, angle, gates, within}};
}

variable_list scan_gradients(const variable_list& t, const Tensor& items, const Tensor& first,
                             std::int64_t chunks, const variable_list& kept, const Tensor& dy,
                             const Tensor& dlast, const ScanPlaces& places) {
  const auto in = inputs_of(t, items, first, chunks);
  const auto saved = saved_of(kept[0], kept[1], kept[2], kept[3], kept[4], kept[5]);
  const auto half = t[X].options(), single = half.dtype(at::kFloat);
  const std::int64_t tokens = t[X].size(0), angles = std::max(in.angles, 0);
  const bool turns = in.angles >= 0;
  auto gate = [&] { return at::empty({tokens, in.heads}, single); };
  Tensor local = at::empty({in.items, in.heads, in.head_dim, in.state}, half);
  Tensor dangle = at::empty({tokens, in.heads, (angles + 15) / 16 * 16}, half);
  Tensor dx = places.dx.defined() ? places.dx
                                  : at::empty({tokens, in.heads, in.rank, in.head_dim}, half);
  // The gradients of b and c, or parts of them to be summed.
  const std::int64_t splits = cuda::scan_splits(in), width = in.rank * in.state;
  const bool direct = splits == 1;
  auto sums_of = [&](const Tensor& place) {
    if (direct && place.defined()) return place;
    return at::empty({tokens, in.groups * splits * width}, half);
  };
  Tensor db = sums_of(places.db), dc = sums_of(places.dc);
  Tensor dstates_of = at::empty({chunks, in.heads, in.head_dim, in.state}, half);
  const Tensor states = kept[5].defined() ? kept[5] : at::empty_like(dstates_of);
  Tensor left = at::empty({chunks, in.heads}, single);
  Tensor chunk_turning = at::empty({chunks, in.heads, angles}, single);
  // Parts of the gradients of the biases [heads, 2, rank, state], then of D [heads].
  const std::int64_t of_bias = turns ? in.heads * 2 * width : 0;
  const Tensor parts_of_sums = at::empty({chunks, of_bias + in.heads}, single);
  const std::int64_t parts = (in.heads + cuda::SCAN_HEADS - 1) / cuda::SCAN_HEADS;
  Tensor dtheta = at::empty({parts, tokens, angles}, single);
  Tensor turning = at::empty({in.items, in.heads, in.head_dim / 8, angles}, single);
  Tensor ddecay = gate(), dweight = gate(), dgamma = gate(), ddelta = gate();
  Tensor dinitial = t[INITIAL].defined() ? at::empty_like(t[INITIAL]) : Tensor();
  cuda::ScanGradients out{rows(dy, 2, 1),
                          floats(dlast),
                          pointer<__nv_bfloat16>(local),
                          pointer<__nv_bfloat16>(dangle),
                          pointer<float>(turning),
                          gradient_rows(dx, 2, 1),
                          pointer<__nv_bfloat16>(db),
                          pointer<__nv_bfloat16>(dc),
                          db.stride(0),
                          dc.stride(0),
                          pointer<__nv_bfloat16>(states),
                          pointer<__nv_bfloat16>(dstates_of),
                          pointer<float>(left),
                          pointer<float>(parts_of_sums),
                          pointer<float>(chunk_turning),
                          pointer<float>(dtheta),
                          pointer<float>(ddecay),
                          pointer<float>(dweight),
                          pointer<float>(dgamma),
                          pointer<float>(ddelta),
                          pointer<float>(parts_of_sums) + of_bias,
                          dinitial.defined() ? pointer<float>(dinitial) : nullptr,
                          parts_of_sums.size(1)};
  const auto stream = current_stream(dy);
  cuda::scan_backward(in, saved, out, stream);
  // To [tokens, rank, groups, state].
  auto over_heads = [&](const Tensor& found, const Tensor& place, Tensor& gradient) {
    Tensor whole = found;
    if (!direct) {
      whole = place.defined() ? place : at::empty({tokens, in.groups * width}, half);
      cuda::scan_sum_heads(pointer<__nv_bfloat16>(found), pointer<__nv_bfloat16>(whole),
                           whole.stride(0), tokens, in.groups * static_cast<int>(splits),
                           in.groups, static_cast<int>(width), stream);
    }
    if (!place.defined())
      gradient = whole.view({tokens, in.groups, in.rank, in.state}).transpose(1, 2);
  };
  Tensor sums;
  if (turns || t[SKIP].defined()) {
    sums = at::empty({parts_of_sums.size(1)}, single);
    cuda::sum_rows(floats(parts_of_sums), pointer<float>(sums), chunks, sums.numel(), stream);
  }
  variable_list result(INPUTS);
  result[X] = dx;
  over_heads(db, places.db, result[B]);
  over_heads(dc, places.dc, result[C]);
  if (turns) {
    const Tensor bias = sums.narrow(0, 0, of_bias).view({in.heads, 2, in.rank, in.state});
    result[B_BIAS] = bias.select(1, 0);
    result[C_BIAS] = bias.select(1, 1);
  }
  if (turns) {
    result[THETA] = parts == 1 ? dtheta[0] : dtheta.sum(0);
    result[DELTA] = angles > 0 ? ddelta : at::zeros_like(ddelta);
  }
  result[DECAY] = ddecay;
  result[WEIGHT] = dweight;
  result[GAMMA] = dgamma;
  if (t[SKIP].defined()) result[SKIP] = sums.narrow(0, of_bias, in.heads);
  result[INITIAL] = dinitial;
  return result;
}

namespace {

struct Scan : torch::autograd::Function<Scan> {
  // `present` tells which inputs `given` holds: autograd's lists know no absent tensors.
  static variable_list forward(AutogradContext* ctx, at::TensorList given, std::int64_t present,
                               const Tensor& items, const Tensor& first, std::int64_t chunks,
                               bool keep, bool keep_within) {
    variable_list t(INPUTS);
    for (int i = 0, next = 0; i < INPUTS; ++i)
      if (present >> i & 1) t[i] = given[next++];
    t[X] = aligned(t[X]);
    t[B] = aligned(t[B]);
    t[C] = aligned(t[C]);
    for (int i = B_BIAS; i < INPUTS; ++i)
      if (t[i].defined()) t[i] = gates(t[i]);
    const at::OptionalDeviceGuard guard(t[X].device());
    auto [y, last, saved] = scan_values(t, items, first, chunks, keep, keep_within);
    variable_list kept = t;
    kept.insert(kept.end(), {items, first});
    kept.insert(kept.end(), saved.begin(), saved.end());
    ctx->save_for_backward(kept);
    ctx->saved_data["chunks"] = chunks;
    ctx->saved_data["keep"] = keep;
    ctx->saved_data["present"] = present;
    ctx->set_materialize_grads(false);
    if (!keep) ctx->mark_non_differentiable({last});
    return {y, last};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const variable_list t(kept.begin(), kept.begin() + INPUTS);
    const variable_list saved(kept.begin() + INPUTS + 2, kept.end());
    const at::OptionalDeviceGuard guard(t[X].device());
    const Tensor dy = grads[0].defined() ? aligned(grads[0].to(at::kBFloat16))
                                         : at::zeros_like(t[X], at::MemoryFormat::Contiguous);
    const bool keep = ctx->saved_data["keep"].toBool();
    const Tensor dlast = keep && grads[1].defined() ? gates(grads[1]) : Tensor();
    const auto result = scan_gradients(t, kept[INPUTS], kept[INPUTS + 1],
                                       ctx->saved_data["chunks"].toInt(), saved, dy, dlast, {});
    // One gradient for each present input, and none for the six other arguments.
    const std::int64_t present = ctx->saved_data["present"].toInt();
    variable_list compact;
    for (int i = 0; i < INPUTS; ++i)
      if (present >> i & 1) compact.push_back(result[i]);
    compact.resize(compact.size() + 6);
    return compact;
  }
};

}  // namespace

bool scan_supported(std::int64_t head_dim, std::int64_t state, std::int64_t rank,
                    std::int64_t angles) {
  return cuda::scan_supported(head_dim, state, rank, angles);
}

std::tuple<Tensor, Tensor> scan(const ScanTensors& in, const ScanPlan& plan, bool keep) {
  auto optional = [](const std::optional<Tensor>& t) { return t ? *t : Tensor(); };
  variable_list given{in.x,           in.b,         in.c,      optional(in.b_bias),
                      optional(in.c_bias), optional(in.theta), optional(in.delta), in.log_decay,
                      in.weight,      in.gamma,     optional(in.skip), optional(in.initial)};
  variable_list defined;
  std::int64_t present = 0;
  for (int i = 0; i < INPUTS; ++i)
    if (given[i].defined()) {
      defined.push_back(given[i]);
      present |= std::int64_t{1} << i;
    }
  // Where projections turn the gradients do not make states before chunks again.
  bool gradients = false;
  for (const Tensor& t : defined) gradients = gradients || t.requires_grad();
  auto out = Scan::apply(at::TensorList(defined), present, plan.items, plan.first_item, plan.chunks,
                         keep, in.theta && gradients && at::GradMode::is_enabled());
  return {out[0], out[1]};
}

#else

bool scan_supported(std::int64_t, std::int64_t, std::int64_t, std::int64_t) { return false; }

std::tuple<Tensor, Tensor> scan(const ScanTensors&, const ScanPlan&, bool) {
  TORCH_CHECK(false, "this build has no CUDA kernels");
}

#endif

}  // namespace cistron::ops

extern "C" {

// Sequences cut into items; the two tensors are new and the caller's.
bool cistron_scan_plan(const std::int64_t* lengths, std::size_t count, std::int64_t heads,
                       std::int64_t rank, int device, at::Tensor** items, at::Tensor** first_item,
                       std::int64_t* chunks, char* error, std::size_t size) {
  return guarded(error, size, [&] {
    auto plan = cistron::ops::scan_plan({lengths, lengths + count}, heads, rank,
                                        at::Device(at::kCUDA, device));
    *items = new at::Tensor(plan.items);
    *first_item = new at::Tensor(plan.first_item);
    *chunks = plan.chunks;
  });
}

bool cistron_scan_supported(std::int64_t head_dim, std::int64_t state, std::int64_t rank,
                            std::int64_t angles) {
  return cistron::ops::scan_supported(head_dim, state, rank, angles);
}

// `inputs`: x, b, c, b_bias, c_bias, theta, delta, log_decay, weight, gamma, skip, initial;
// null where there is none.
bool cistron_scan(const at::Tensor* const* inputs, const at::Tensor* items,
                  const at::Tensor* first_item, std::int64_t chunks, bool keep, at::Tensor** y,
                  at::Tensor** last, char* error, std::size_t size) {
  return guarded(error, size, [&] {
    auto optional = [&](int i) {
      return inputs[i] ? std::optional<at::Tensor>(*inputs[i]) : std::nullopt;
    };
    auto [out, state] = cistron::ops::scan(
        {*inputs[0], *inputs[1], *inputs[2], optional(3), optional(4), optional(5), optional(6),
         *inputs[7], *inputs[8], *inputs[9], optional(10), optional(11)},
        {*items, *first_item, chunks}, keep);
    *y = new at::Tensor(out);
    *last = new at::Tensor(state);
  });
}
}
