// Flash attention over packed sequences, as libtorch has it for CUDA. The operator
// dispatches at run time.
#include "../shim.h"

#include <ATen/Context.h>
#include <ATen/DeviceGuard.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Asks libtorch for the same bits from run to run while it lives.
class Reproducible {
 public:
  explicit Reproducible(bool wanted)
      : wanted_(wanted),
        was_(at::globalContext().deterministicAlgorithms()),
        only_warned_(at::globalContext().deterministicAlgorithmsWarnOnly()),
        filled_(at::globalContext().deterministicFillUninitializedMemory()) {
    if (!wanted_) return;
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  Reproducible(const Reproducible&) = delete;
  ~Reproducible() {
    if (!wanted_) return;
    at::globalContext().setDeterministicAlgorithms(was_, only_warned_);
    at::globalContext().setDeterministicFillUninitializedMemory(filled_);
  }

 private:
  bool wanted_, was_, only_warned_, filled_;
};

struct Flash : torch::autograd::Function<Flash> {
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& query_offsets, const Tensor& key_offsets,
                        std::int64_t max_query, std::int64_t max_key, std::int64_t window,
                        bool reproducible) {
    const at::OptionalDeviceGuard guard(q.device());
    const auto left = window < 0 ? std::nullopt : std::make_optional(window);
    const auto right = window < 0 ? std::nullopt : std::make_optional(std::int64_t{0});
    auto [out, total, seed, unused, mask] = at::_flash_attention_forward(
        q, k, v, query_offsets, key_offsets, max_query, max_key, /*dropout_p=*/0.0,
        /*is_causal=*/true, /*return_debug_mask=*/false, /*scale=*/std::nullopt, left, right);
    ctx->save_for_backward({q, k, v, out, total, query_offsets, key_offsets, seed, unused});
    ctx->saved_data["numbers"] = std::vector<std::int64_t>{max_query, max_key, window, reproducible};
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto kept = ctx->get_saved_variables();
    const auto numbers = ctx->saved_data["numbers"].toIntVector();
    const at::OptionalDeviceGuard guard(kept[0].device());
    const std::int64_t window = numbers[2];
    const auto left = window < 0 ? std::nullopt : std::make_optional(window);
    const auto right = window < 0 ? std::nullopt : std::make_optional(std::int64_t{0});
    const Reproducible same(numbers[3] != 0);
    auto [dq, dk, dv] = at::_flash_attention_backward(
        grads[0].contiguous(), kept[0], kept[1], kept[2], kept[3], kept[4], kept[5], kept[6],
        numbers[0], numbers[1], /*dropout_p=*/0.0, /*is_causal=*/true, kept[7], kept[8],
        /*scale=*/std::nullopt, left, right);
    variable_list result{dq, dk, dv};
    result.resize(9);
    return result;
  }
};

}  // namespace

// q, k, v: [tokens, heads, head_dim], bf16 or fp16; offsets: i32 [sequences + 1] into the
// queries and into the keys. `window` tokens before each one are seen, all when negative.
// Queries align with the last keys of their sequence.
extern "C" at::Tensor* cistron_flash_attention(const at::Tensor* q, const at::Tensor* k,
                                               const at::Tensor* v, const at::Tensor* query_offsets,
                                               const at::Tensor* key_offsets, std::int64_t max_query,
                                               std::int64_t max_key, std::int64_t window,
                                               bool reproducible, char* error, std::size_t size) {
  at::Tensor* output = nullptr;
  guarded(error, size, [&] {
    if (!reproducible) {
      const auto left = window < 0 ? std::nullopt : std::make_optional(window);
      const auto right = window < 0 ? std::nullopt : std::make_optional(std::int64_t{0});
      output = new at::Tensor(std::get<0>(at::_flash_attention_forward(
          *q, *k, *v, *query_offsets, *key_offsets, max_query, max_key, /*dropout_p=*/0.0,
          /*is_causal=*/true, /*return_debug_mask=*/false, /*scale=*/std::nullopt, left, right)));
      return;
    }
    output = new at::Tensor(Flash::apply(*q, *k, *v, *query_offsets, *key_offsets, max_query,
                                         max_key, window, reproducible));
  });
  return output;
}
