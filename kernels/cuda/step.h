// One token of every row: what generation runs between two draws.
//
// States are changed in place, in fp32. Activations are fp32 or bf16, weights fp32. The
// floor is the traffic of the SSM state: heads * head_dim * state * 8 bytes a row.
#pragma once
#include <cstdint>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

// Which rows of the states a step touches.
struct StepRows {
  std::int64_t count;         // rows of the activations
  const std::int64_t* index;  // [count]: their rows in the states; null when the same
  const bool* mask;           // [count], or null: a row that is off keeps its state and gives zeros
};

// [z (inner) | x (inner) | B (groups, state) | C (groups, state) | dt (heads)],
// inner = heads * head_dim. The convolution runs over the channels of x, B and C.
struct Mamba2Step {
  StepRows rows;
  std::int64_t heads, head_dim, state, groups, width;
  bool bfloat16;                             // of `projected` and `y`
  const void* projected;                     // [count, stride]
  std::int64_t stride;
  const float *conv_weight, *conv_bias;      // [channels, width], [channels]
  const float *dt_bias, *a_log, *skip;       // [heads]
  float* tail;                               // [*, width - 1, channels]
  float* ssm;                                // [*, heads, head_dim, state]
  float* mixed;                              // scratch [count, channels]
  void* y;                                   // [count, inner], before the gate
};
void mamba2_step(const Mamba2Step& step, cudaStream_t stream);

// [z (inner) | x (inner) | B (rank, groups, state) | C (same) | dt | A | trap (heads each) |
//  theta (angles)].
struct Mamba3Step {
  StepRows rows;
  std::int64_t heads, head_dim, state, groups, rank, angles;
  bool bfloat16;
  bool halves;      // channel i is paired with i + state / 2, else 2 i with 2 i + 1
  bool heavy_tail;  // the decay rate is 1 + u (u >= 0), 1 / (1 - u) (u < 0), else softplus(u)
  float floor;      // least decay rate
  float eps;        // of the norms
  const void* projected;
  std::int64_t stride;
  const float* dt_bias;                 // [heads]
  const float *b_norm, *c_norm;         // [state]
  const float *b_bias, *c_bias;         // [heads, rank, state]
  const float* skip;                    // [heads]
  const float *up, *gate, *down;        // [heads, rank, head_dim], or null where rank is 1
  const float* norm;                    // [inner], or null: RMS norm of each head before the gate
  float* angle;                         // [*, heads, angles], in [0, 2 pi)
  float* ssm;                           // [*, heads, head_dim, state]
  float* k;                             // [*, rank, heads, state]
  float* v;                             // [*, heads, head_dim]
  void* y;                              // [count, inner], gated
};
// Bytes of shared memory that such a step needs; at most 48 KiB can be had.
std::int64_t mamba3_step_shared(const Mamba3Step& step);
void mamba3_step(const Mamba3Step& step, cudaStream_t stream);

// [q | k | v], each (heads, head_dim). Keys and values of position p lie in slot
// p % slots; a query sees the last window + 1 positions, all where window < 0.
struct AttentionStep {
  StepRows rows;
  std::int64_t heads, head_dim, slots, window, rotary;  // rotary: leading channels that turn
  bool bfloat16;             // of `projected`, `k`, `v` and `y`
  const void* projected;     // [count, stride]
  std::int64_t stride;
  const std::int64_t* seen;  // [*]: positions before this one; the caller counts on
  void *k, *v;               // [*, slots, heads, head_dim]
  void* y;                   // [count, heads * head_dim]
};
void attention_step(const AttentionStep& step, cudaStream_t stream);

// Whether each row starts a chunk, from the cosine of q of its last vector and k of this one. The
// first vector of a row does. Rows in `mask` count this vector and keep it as their last.
struct RouteStep {
  std::int64_t count, width;
  const float *q, *k, *now;  // [count, width]
  const bool* mask;          // [count]
  float* last;               // [count, width]
  std::int64_t* seen;        // [count]: vectors before this one
  float* prob;               // [count]
  bool* starting;            // [count]: prob > 1/2, in `mask`
};
void route_step(const RouteStep& step, cudaStream_t stream);

// out = average + residual; rows that start a chunk first move their average on to z by prob
// within [floor, ceiling].
struct DechunkStep {
  std::int64_t count, width;
  bool bfloat16;        // of `z`
  const void* z;        // [count, stride]
  std::int64_t stride;
  const float* prob;    // [count]
  const bool* starting;  // [count]
  float floor, ceiling;
  float* average;        // [count, width]
  const float* residual;  // [count, width]
  float* out;            // [count, width]
};
void dechunk_step(const DechunkStep& step, cudaStream_t stream);

}  // namespace cistron::cuda
