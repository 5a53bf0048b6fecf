// The chunked state-space scan on the GPU: Mamba-2 (SSD) and Mamba-3 (SISO and MIMO).
//
// A sequence is cut into items of a few hundred tokens, which run side by side; an item
// is walked in chunks of 64 rows (64 / rank tokens) whose work is matrix products. Per
// token t of a head, with log-decay a, weights s (in every later state) and gamma (in
// its own output) and rotated projections B, C:
//
//   y_t = sum_{s<t} e^{L_t - L_s} s_s (C_t . B_s) x_s + gamma_t (C_t . B_t) x_t
//         + e^{L_t} C_t . h + D x_t
//
// Mamba-2 has s = gamma = Delta and no rotation. Angles start at zero in every item:
// states are turned by an item's whole angle where one item hands over to the next.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace cistron::cuda {

// Numbers kept for a row of a chunk.
constexpr int SCAN_GATES = 6;

// One run of tokens of one sequence, handled by one block a head.
struct ScanItem {
  std::int64_t start;  // first token
  int tokens;
  int sequence;
  int chunk;  // number of its first chunk among the chunks of all items
  int reserved;
};

struct ScanRows {
  const __nv_bfloat16* data;
  std::int64_t token, rank, head;  // strides, in elements; multiples of 8
};

struct ScanGradientRows {
  __nv_bfloat16* data;
  std::int64_t token, rank, head;
};

struct ScanInputs {
  int head_dim, state, rank, angles;  // P, N, R, S; angles < 0: no bias and no rotation
  int heads, groups;
  std::int64_t tokens, items, sequences, chunks;
  const ScanItem* item;           // [items]
  const std::int64_t* first_item;  // [sequences + 1]
  ScanRows x, b, c;               // x by head; b, c by group
  const float *b_bias, *c_bias;   // [heads, rank, state]
  const float *theta;             // [tokens, angles]: pi tanh(theta)
  const float *delta;             // [tokens, heads]
  const float *log_decay, *weight, *gamma;  // [tokens, heads]
  const float* skip;              // D [heads], or null
  const float* initial;           // [sequences, heads, head_dim, state], or null
};

// What the forward pass makes and the backward pass reads again.
struct ScanSaved {
  __nv_bfloat16* states;  // [items + sequences, heads, head_dim, state]: before each item, and at the end
  float* decay;           // [items, heads]: log2 of an item's whole decay
  float* turn;            // [items, heads, angles]: an item's whole angle
  float* angle;           // [chunks, heads, angles]: angle before each chunk
  float* gates;           // [chunks, heads, SCAN_GATES, 64]: by rows of a chunk, for all passes
  // [chunks, heads, head_dim, state]: before each chunk; null without gradients, or without angles.
  __nv_bfloat16* chunk_states;
};

struct ScanOutputs {
  ScanGradientRows y;
  float* final_state;  // [sequences, heads, head_dim, state], or null
  __nv_bfloat16* local;  // scratch [items, heads, head_dim, state]
};

struct ScanGradients {
  ScanRows dy;
  const float* dfinal;    // [sequences, heads, head_dim, state], or null
  __nv_bfloat16* local;    // scratch [items, heads, head_dim, state]
  // Scratch [tokens, heads, angles rounded up to 16]: of each 16 pairs first every fourth.
  __nv_bfloat16* dangle;
  float* turning;  // scratch [items, heads, head_dim / 8, angles]: what turns over an item's end, in parts
  ScanGradientRows dx;
  // [tokens, groups, splits, rank, state], tokens db_token and dc_token elements apart: sums over
  // the heads of a split.
  __nv_bfloat16 *db, *dc;
  std::int64_t db_token, dc_token;
  // Scratch [chunks, heads, head_dim, state]; with angles no states, which the forward pass kept.
  __nv_bfloat16 *states, *dstates_of;
  float* left;               // scratch [chunks, heads]
  float* dbias;              // parts of sums [chunks, heads, 2, rank, state]: of b and c, with angles
  float* chunk_turning;      // scratch [chunks, heads, angles]: what turns over a chunk's start
  float* dtheta;            // [parts, tokens, angles]: one for every SCAN_HEADS heads
  float *dlog_decay, *dweight, *dgamma, *ddelta;  // [tokens, heads]; ddelta through the angle alone
  float* dskip;              // parts of sums [chunks, heads]
  float* dinitial;           // [sequences, heads, head_dim, state], or null
  std::int64_t parts;        // floats from chunk to chunk of dbias and of dskip
};

constexpr int SCAN_HEADS = 8;
constexpr int SCAN_SLAB = 128;

// Parts into which the heads of a group are cut, each of which makes its own db and dc.
int scan_splits(const ScanInputs& in);

bool scan_supported(int head_dim, int state, int rank, int angles);
void scan_forward(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
                  cudaStream_t stream);
void scan_backward(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
                   cudaStream_t stream);

// out[t, g, i] = sum over the heads of group g of in[t, h, i], for `width` values i. Tokens of
// `out` are `stride` elements apart, a multiple of 8.
void scan_sum_heads(const __nv_bfloat16* in, __nv_bfloat16* out, std::int64_t stride,
                    std::int64_t tokens, int heads, int groups, int width, cudaStream_t stream);

}  // namespace cistron::cuda
