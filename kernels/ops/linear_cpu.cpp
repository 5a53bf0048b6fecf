// Products of tokens with weights, and norms of the residual stream, without gradients, in fp32
// on the CPU. Each row is the same whatever the other rows and the number of threads.
#include "../cpu/linear.h"
#include "../cpu/norm.h"
#include "ops.h"

#include <ATen/Parallel.h>

namespace cistron::ops {
namespace {

constexpr float EPS = 1e-5f;

// x [tokens, width], weight [rows, width], bias [rows] or null; gives [tokens, rows].
void linear_cpu(const Call& call) {
  const Tensor x = call.tensor(0).contiguous(), weight = call.tensor(1).contiguous();
  const Tensor bias = call.in[2] == nullptr ? Tensor() : call.tensor(2).contiguous();
  const std::int64_t tokens = x.size(0), width = x.size(1), rows = weight.size(0);
  Tensor y = at::empty({tokens, rows}, x.options());
  const auto *from = x.const_data_ptr<float>(), *by = weight.const_data_ptr<float>();
  const auto* plus = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  auto* to = y.data_ptr<float>();
  const std::int64_t blocks = (tokens + cpu::LINEAR_TOKENS - 1) / cpu::LINEAR_TOKENS;
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t end) {
    const cpu::Room panels(cpu::LINEAR_TOKENS * width);
    for (std::int64_t at = first * cpu::LINEAR_TOKENS;
         at < std::min(end * cpu::LINEAR_TOKENS, tokens); at += cpu::LINEAR_TOKENS)
      cpu::linear(from + at * width, std::min(cpu::LINEAR_TOKENS, tokens - at), width, by, plus,
                  rows, to + at * rows, panels.get());
  });
  call.give(0, y);
}

// residual and branch (or null) [tokens, width], weight [width]; gives their sum and its norm.
void add_norm_cpu(const Call& call) {
  const Tensor x = call.tensor(0).contiguous(), weight = call.tensor(2).contiguous();
  const Tensor branch = call.in[1] == nullptr ? Tensor() : call.tensor(1).contiguous();
  const std::int64_t tokens = x.size(0), width = x.size(1);
  Tensor sum = branch.defined() ? at::empty_like(x) : x, y = at::empty_like(x);
  auto at = [&](const Tensor& t, std::int64_t row) -> float* {
    return t.defined() ? t.data_ptr<float>() + row * width : nullptr;
  };
  // Enough rows for a thread to be worth its start.
  at::parallel_for(0, tokens, 65536 / width + 1, [&](std::int64_t first, std::int64_t end) {
    cpu::add_norm(at(x, first), at(branch, first), weight.const_data_ptr<float>(), end - first,
                  width, EPS, at(sum, first), at(y, first));
  });
  call.give(0, sum);
  call.give(1, y);
}

}  // namespace

CISTRON_OPERATOR(linear_cpu, linear_cpu)
CISTRON_OPERATOR(add_norm_cpu, add_norm_cpu)

}  // namespace cistron::ops
