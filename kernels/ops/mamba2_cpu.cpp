// A Mamba-2 block between its norms, without gradients, in fp32 on the CPU. Sequences are
// worked through one by one, in the same steps whatever their neighbours: results depend
// neither on them nor on threads.
#include "../cpu/mamba2.h"
#include "ops.h"

#include <ATen/Parallel.h>

namespace cistron::ops {
namespace {

// Tensors: x [tokens, width], weights in the order of `cpu::Mamba2`, offsets [sequences + 1],
// tail and state (null for zeros); numbers: head size, state size, keep. Gives what is added to
// x's stream and, where kept, the tail and the state after each sequence.
void mamba2_cpu(const Call& call) {
  const Tensor x = call.tensor(0).contiguous();
  Tensor weights[8];
  for (int i = 0; i < 8; ++i) weights[i] = call.tensor(1 + i).contiguous();
  auto floats = [&](int i) { return weights[i].const_data_ptr<float>(); };
  cpu::Mamba2 block{};
  block.width = x.size(1), block.heads = weights[3].size(0);
  block.head_dim = call.numbers[0], block.states = call.numbers[1];
  block.taps = weights[1].size(-1);
  block.in_proj = floats(0), block.conv_weight = floats(1), block.conv_bias = floats(2);
  block.dt_bias = floats(3), block.a_log = floats(4), block.d = floats(5);
  block.norm = floats(6), block.out_proj = floats(7);
  const Tensor starts = call.tensor(9);
  const auto* offset = starts.const_data_ptr<std::int64_t>();
  const std::int64_t sequences = starts.size(0) - 1;
  const bool before = call.in[10] != nullptr, keep = call.numbers[2] != 0;
  const Tensor tail = before ? call.tensor(10).to(at::kFloat).contiguous() : Tensor();
  const Tensor state = before ? call.tensor(11).to(at::kFloat).contiguous() : Tensor();

  Tensor out = at::empty_like(x);
  const std::int64_t kept = keep ? sequences : 0;
  Tensor last_tail = at::empty({kept, block.taps - 1, block.channels()}, x.options());
  Tensor last_state = at::empty({kept, block.heads, block.head_dim, block.states}, x.options());
  // Row `i` of what is before or after the sequences; null where there is none.
  auto row = [](const Tensor& t, std::int64_t i) -> float* {
    return t.defined() && t.size(0) > 0 ? t.data_ptr<float>() + i * t.stride(0) : nullptr;
  };
  const float* from = x.const_data_ptr<float>();
  float* to = out.data_ptr<float>();
  at::parallel_for(0, sequences, 1, [&](std::int64_t first, std::int64_t end) {
    cpu::Mamba2Run run(block);
    for (std::int64_t i = first; i < end; ++i)
      run.run(from + offset[i] * block.width, offset[i + 1] - offset[i],
              to + offset[i] * block.width, row(tail, i), row(state, i), row(last_tail, i),
              row(last_state, i));
  });
  call.give(0, out);
  call.give(1, last_tail);
  call.give(2, last_state);
}

}  // namespace

CISTRON_OPERATOR(mamba2_cpu, mamba2_cpu)

}  // namespace cistron::ops

extern "C" {

// Whether the operators of `kernels/cpu` run on this processor.
bool cistron_cpu_usable() { return cistron::cpu::usable(); }

// Whether a result of these tensors requires a gradient, now or when it is computed again.
bool cistron_differentiable(const at::Tensor* const* tensors, std::size_t count) {
  if (cistron::ops::GradientsLater::living > 0) return true;
  return at::GradMode::is_enabled() &&
         std::any_of(tensors, tensors + count, [](auto* t) { return t->requires_grad(); });
}
}
