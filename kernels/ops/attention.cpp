// Flash attention over packed sequences, as libtorch has it for CUDA. The operator
// dispatches at run time, and brings its own gradient.
#include "../shim.h"

#include <ATen/ops/_flash_attention_forward.h>

// q, k, v: [tokens, heads, head_dim], bf16 or fp16; offsets: i32 [sequences + 1] into the
// queries and into the keys. `window` tokens before each one are seen, all when negative.
// Queries align with the last keys of their sequence.
extern "C" at::Tensor* cistron_flash_attention(const at::Tensor* q, const at::Tensor* k,
                                               const at::Tensor* v, const at::Tensor* query_offsets,
                                               const at::Tensor* key_offsets, std::int64_t max_query,
                                               std::int64_t max_key, std::int64_t window,
                                               char* error, std::size_t size) {
  at::Tensor* output = nullptr;
  guarded(error, size, [&] {
    const auto left = window < 0 ? std::nullopt : std::make_optional(window);
    const auto right = window < 0 ? std::nullopt : std::make_optional(std::int64_t{0});
    auto result = at::_flash_attention_forward(*q, *k, *v, *query_offsets, *key_offsets, max_query,
                                               max_key, /*dropout_p=*/0.0, /*is_causal=*/true,
                                               /*return_debug_mask=*/false,
                                               /*scale=*/std::nullopt, left, right);
    output = new at::Tensor(std::get<0>(result));
  });
  return output;
}
