// The scan as a differentiable operator over packed tensors.
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>
#include <vector>

namespace cistron::ops {

// How sequences are cut into items: made once a layout, used by every layer.
struct ScanPlan {
  at::Tensor items;       // i64 [items, 3]: start, tokens | sequence << 32, first chunk
  at::Tensor first_item;  // i64 [sequences + 1]
  std::int64_t chunks;
};

ScanPlan scan_plan(const std::vector<std::int64_t>& lengths, std::int64_t heads, std::int64_t rank,
                   at::Device device);

struct ScanTensors {
  at::Tensor x;  // bf16 [tokens, heads, rank, head_dim]
  at::Tensor b, c;  // bf16 [tokens, rank, groups, state]
  std::optional<at::Tensor> b_bias, c_bias;  // fp32 [heads, rank, state]
  std::optional<at::Tensor> theta, delta;  // fp32 [tokens, angles], [tokens, heads]
  at::Tensor log_decay, weight, gamma;  // fp32 [tokens, heads]
  std::optional<at::Tensor> skip;       // fp32 [heads]
  std::optional<at::Tensor> initial;    // fp32 [sequences, heads, head_dim, state]
};

// y bf16 [tokens, heads, rank, head_dim] and, when `keep`, the state after every sequence.
std::tuple<at::Tensor, at::Tensor> scan(const ScanTensors& in, const ScanPlan& plan, bool keep);

bool scan_supported(std::int64_t head_dim, std::int64_t state, std::int64_t rank,
                    std::int64_t angles);

// The scan without autograd, for operators that contain one.
enum ScanInput { X, B, C, B_BIAS, C_BIAS, THETA, DELTA, DECAY, WEIGHT, GAMMA, SKIP, INITIAL, INPUTS };

struct ScanRun {
  at::Tensor y, last;
  std::vector<at::Tensor> saved;  // for the gradients
};

// `t`: INPUTS tensors, undefined where absent; x, b and c bf16 with rows at multiples of 16
// bytes, the rest fp32 and contiguous. `keep` asks for the last states, `keep_within` for the
// states before every chunk, which the gradients then need not make again.
ScanRun scan_values(const std::vector<at::Tensor>& t, const at::Tensor& items,
                    const at::Tensor& first, std::int64_t chunks, bool keep,
                    bool keep_within);

// Where gradients go, where they have a place: bf16, rows at multiples of 16 bytes.
struct ScanPlaces {
  at::Tensor dx;      // [tokens, heads, rank, head_dim]
  at::Tensor db, dc;  // [tokens, groups * rank * state], neighbouring within a token
};

// Gradients of the INPUTS.
std::vector<at::Tensor> scan_gradients(const std::vector<at::Tensor>& t, const at::Tensor& items,
                                       const at::Tensor& first, std::int64_t chunks,
                                       const std::vector<at::Tensor>& saved, const at::Tensor& dy,
                                       const at::Tensor& dlast, const ScanPlaces& places);

}  // namespace cistron::ops
