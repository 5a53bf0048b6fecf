// Backward passes of the scan: gradients of states within items, their hand-over from item to item,
// and the order of all passes.
#include "scan_common.cuh"
#include "scan_launch.cuh"

namespace cistron::cuda {

// Carries a state over the chunks of an item, with the next chunk on its way. Where the forward
// pass has not kept the states before each chunk, even blocks write them. The others make what the
// item's own outputs add to the gradient of the state before it, and write on the way what they add
// to that of the state after each chunk, and the decay from there to the item's end:
// chunk_gradients adds what comes from later items. States are written as tiles lie in shared
// memory. At most MOST pairs turn.
template <int P, int N, int R, bool TURN, int MOST>
__global__ void __launch_bounds__(THREADS, 3)
    walk_item(ScanInputs in, ScanSaved saved, ScanGradients grad,
              const __grid_constant__ ScanMaps maps) {
  using Chunk = Stage<P, N, R, TURN, MOST>;
  constexpr int TOKENS = chunk_tokens<R>();
  extern __shared__ __align__(1024) char stages[];
  __shared__ uint64_t arrived[2];
  const bool kept_states = TURN || saved.chunk_states;  // always with angles
  const bool back = kept_states || (blockIdx.x & 1);
  const int64_t block = kept_states ? blockIdx.x : blockIdx.x >> 1;
  const int head = block % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = block / in.heads;
  const ScanItem item = in.item[number];
  const int chunks = (item.tokens + TOKENS - 1) / TOKENS;
  const uint32_t barrier = shared_address(arrived);
  auto chunk_of = [&](int step) { return back ? chunks - 1 - step : step; };
  auto whole_chunk = [&](int step) {
    return maps.ready && item.tokens >= (chunk_of(step) + 1) * TOKENS;
  };
  auto load = [&](int step) {
    const int chunk = chunk_of(step);
    const int64_t place = (item.chunk + chunk) * static_cast<int64_t>(in.heads) + head;
    Chunk(stages + (step & 1) * Chunk::BYTES)
        .load(in,
              {back ? in.c : in.b, back ? grad.dy : in.x, back ? maps.c : maps.b,
               back ? maps.dy : maps.x, maps.theta, group, head},
              whole_chunk(step), item.start + chunk * TOKENS, item.tokens - chunk * TOKENS,
              saved.gates + place * SCAN_GATES * ROWS,
              TURN ? saved.angle + place * in.angles : nullptr, barrier + 8 * (step & 1));
  };

  StatePart<P, N> state;
  const RowBias<N, R> bias(bias_of(in.c_bias, head, R * N), TURN);
  if (!back)
    state.read(saved.states + ((number + item.sequence) * in.heads + head) * (P * N));
  float decay = 0;
  const int steps = back ? chunks : chunks - 1;
  if (threadIdx.x == 0) {
    bulk_begin(barrier);
    bulk_begin(barrier + 8);
  }
  __syncthreads();
  if (steps > 0) load(0);
  for (int step = 0;; ++step) {
    if (!back || step < steps) {
      const int64_t place = (item.chunk + chunk_of(step)) * static_cast<int64_t>(in.heads) + head;
      state.write_out((back ? grad.dstates_of : grad.states) + place * (P * N));
      if (back && threadIdx.x == 0) grad.left[place] = decay;
    }
    if (step == steps) break;
    chunk_arrived(whole_chunk(step), barrier + 8 * (step & 1), step >> 1);
    __syncthreads();
    if (step + 1 < steps) load(step + 1);
    const Chunk stage(stages + (step & 1) * Chunk::BYTES);
    const ChunkGates& gates = *stage.gates;
    const float* by = back ? gates.kept : gates.put;
    if (TURN) {
      Angles<N, R, MOST> angles;
      angles.sum(*stage.turns, stage.theta, gates.delta, in.angles);
      rotate_tiles<N, R, false>(stage.wide, bias, nullptr, bias, angles, in.angles, nullptr,
                                TABLE<N>, by);
      stores_done();
      __syncthreads();
    }
    state.scale(power_of_two(chunk_decay(gates)));
    if (TURN) {
      state.accumulate(stage.narrow, stage.wide);
    } else {
      state.accumulate(stage.narrow, by, stage.wide);
      if (back) state.accumulate_rest(stage.narrow, by, stage.wide);
    }
    decay += chunk_decay(gates);
  }
  if (back) state.write_out(grad.local + (number * in.heads + head) * (P * N));
}

// Gradients of the states after every item, last to first; a thread holds one pair of channels.
// In the items' own angles they take the place of what the items added. A block has eight rows of
// a panel, over which it sums what turns over each item's end.
template <int P, int N, bool TURN>
__global__ void __launch_bounds__(256) pass_gradients(ScanInputs in, ScanSaved saved,
                                                      ScanGradients grad) {
  constexpr int SIZE = P * N / 2, AHEAD = 8;
  __shared__ float turned[AHEAD][8][33];
  const int64_t sequence = blockIdx.y / in.heads;
  const int head = blockIdx.y % in.heads, lane = threadIdx.x & 31;
  const int place = blockIdx.x * 256 + threadIdx.x;
  // As `at` lays out a tile.
  const int panel = place / (P * 32), row = place / 32 % P;
  const int here = ((lane >> 2 ^ row) & 7) << 2 | (lane & 3);  // the pair within the panel
  const int pair = panel * 32 + here, plain = row * (N / 2) + pair;
  const bool turns = TURN && pair < in.angles;
  const int64_t whole = static_cast<int64_t>(sequence * in.heads + head) * SIZE + plain;
  float2 carry = grad.dfinal ? reinterpret_cast<const float2*>(grad.dfinal)[whole] : float2{0, 0};
  const int64_t first = in.first_item[sequence], last = in.first_item[sequence + 1];
  uint32_t* items = reinterpret_cast<uint32_t*>(grad.local);
  const uint32_t* states = reinterpret_cast<const uint32_t*>(saved.states);
  // Of the state after an item, in the next one's angles.
  auto slot = [&](int64_t item) {
    return ((item + 1 + sequence) * in.heads + head) * SIZE + plain;
  };
  for (int64_t start = last - 1; start >= first; start -= AHEAD) {
    uint32_t next[AHEAD], held[AHEAD];
    float keep[AHEAD], turn[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (start - j < first) break;
      const int64_t row = (start - j) * in.heads + head;
      next[j] = items[row * SIZE + place];
      keep[j] = saved.decay[row];
      turn[j] = turns ? saved.turn[row * in.angles + pair] : 0.0f;
      held[j] = turns ? states[slot(start - j)] : 0;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (start - j < first) break;
      if (turns) {
        const float2 h = unpack(held[j]);
        turned[j][row & 7][here] = h.y * carry.x - h.x * carry.y;
        float sine, cosine;
        sine_cosine(turn[j], sine, cosine);
        carry = make_float2(carry.x * cosine - carry.y * sine, carry.x * sine + carry.y * cosine);
      }
      items[((start - j) * in.heads + head) * SIZE + place] = pack(carry.x, carry.y);
      const float2 add = unpack(next[j]);
      const float decay = power_of_two(keep[j]);
      carry.x = fmaf(carry.x, decay, add.x);
      carry.y = fmaf(carry.y, decay, add.y);
    }
    if (TURN) {
      __syncthreads();
      const int64_t item = start - (threadIdx.x >> 5);
      const int of = panel * 32 + lane;
      if (item >= first && of < in.angles) {
        float sum = 0;
#pragma unroll
        for (int r = 0; r < 8; ++r) sum += turned[threadIdx.x >> 5][r][lane];
        grad.turning[((item * in.heads + head) * (P / 8) + row / 8) * in.angles + of] = sum;
      }
      __syncthreads();
    }
  }
  if (grad.dinitial) reinterpret_cast<float2*>(grad.dinitial)[whole] = carry;
}

namespace {

template <typename S>
void run(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
         cudaStream_t stream) {
  constexpr int P = S::P, N = S::N, R = S::R, MOST = S::MOST;
  constexpr bool TURN = S::TURN;
  if (in.items > 0) {
    const auto blocks = static_cast<unsigned>((TURN || saved.chunk_states ? 1 : 2) * in.items *
                                              in.heads);
    constexpr int size = 2 * Stage<P, N, R, TURN, MOST>::BYTES;
    allow(walk_item<P, N, R, TURN, MOST>, size);
    walk_item<P, N, R, TURN, MOST>
        <<<blocks, THREADS, size, stream>>>(in, saved, grad, scan_maps<S>(in, &grad.dy));
    CISTRON_LAUNCH_CHECK("walk_item");
  }
  if (in.sequences > 0) {
    const dim3 grid(P * N / 512, static_cast<unsigned>(in.sequences * in.heads));
    pass_gradients<P, N, TURN><<<grid, 256, 0, stream>>>(in, saved, grad);
    CISTRON_LAUNCH_CHECK("pass_gradients");
  }
}

}  // namespace

void scan_backward(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
                   cudaStream_t stream) {
  ScanGradients out = grad;
  if (saved.chunk_states) out.states = saved.chunk_states;
  dispatch(in.head_dim, in.state, in.rank, in.angles,
           [&](auto shape) { run<decltype(shape)>(in, saved, out, stream); });
  if (in.items == 0) return;
  scan_chunks(in, saved, out, stream);
  if (in.angles > 0) scan_turns(in, out, stream);
}

}  // namespace cistron::cuda
