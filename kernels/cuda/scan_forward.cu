// Forward passes of the scan: each item's own state, the hand-over between items, the outputs.
#include "scan_common.cuh"
#include "scan_launch.cuh"

namespace cistron::cuda {

// Sums of the log-decays within each chunk: a thread a chunk and head of one item.
__global__ void __launch_bounds__(128) sum_decays(ScanInputs in, ScanSaved saved, int chunk) {
  const ScanItem item = in.item[blockIdx.x];
  const int chunks = (item.tokens + chunk - 1) / chunk;
  for (int index = threadIdx.x + 128 * blockIdx.y; index < chunks * in.heads;
       index += 128 * gridDim.y) {
    const int first = index / in.heads * chunk;
    const int tokens = item.tokens - first < chunk ? item.tokens - first : chunk;
    const int64_t start = (item.start + first) * in.heads + index % in.heads;
    const float* from = in.log_decay + start;
    float* to = saved.sums + start;
    constexpr int AHEAD = 8;
    float sum = 0;
    for (int t = 0; t < tokens; t += AHEAD) {
      float value[AHEAD];
#pragma unroll
      for (int j = 0; j < AHEAD; ++j)
        value[j] = t + j < tokens ? from[static_cast<int64_t>(t + j) * in.heads] : 0.0f;
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        sum += value[j] * 1.4426950408889634f;
        if (t + j < tokens) to[static_cast<int64_t>(t + j) * in.heads] = sum;
      }
    }
  }
}

// State that an item adds to a zero state, and its angles; of the last item of a sequence the angles
// alone where no one asks for the state.
template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 3)
    local_states(ScanInputs in, ScanSaved saved, bf16* local, bool keep, int stage_bytes) {
  using Chunk = Stage<P, N, R, TURN>;
  extern __shared__ __align__(1024) char stages[];
  __shared__ float factors[8][ROWS];

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int chunks = (item.tokens + chunk_tokens<R>() - 1) / chunk_tokens<R>();
  const bool adds = keep || number + 1 < in.first_item[item.sequence + 1];
  auto load = [&](int index) {
    const Chunk stage(stages + (index & 1) * stage_bytes);
    const int64_t token = item.start + index * chunk_tokens<R>();
    const int tokens = item.tokens - index * chunk_tokens<R>();
    if (adds) {
      load_tile<N, R>(stage.wide, in.b, group, token, tokens);
      load_tile<P, R>(stage.narrow, in.x, head, token, tokens);
    }
    load_gates<R>(*stage.gates, in, saved.sums, head, token, tokens);
    if (TURN) stage.turns->load(in, stage.theta, nullptr, head, token, tokens);
  };
  StatePart<P, N> state;
  float whole = 0;
  if (TURN && threadIdx.x < N / 2) Chunk(stages).turns->base[threadIdx.x] = 0;
  load(0);
  for (int index = 0; index < chunks; ++index) {
    const Chunk stage(stages + (index & 1) * stage_bytes);
    const Gates& gates = *stage.gates;
    copies_done();
    stores_done();
    __syncthreads();
    if (index + 1 < chunks) load(index + 1);
    const float* by = warp_factors(
        factors, [&](int row) { return gates.weight[row] * to_end(gates, row); });
    if (TURN) {
      Turns<N, R>& turns = *stage.turns;
      if (threadIdx.x < in.angles)
        saved.angle[((item.chunk + index) * static_cast<int64_t>(in.heads) + head) * in.angles +
                    threadIdx.x] = turns.base[threadIdx.x];
      Angles<N, R> angles;
      const RowBias<N, R> bias(bias_of(in.b_bias, head, R * N));
      angles.sum(turns, stage.theta, in.angles);
      if (adds)
        rotate_tiles<N, R, false>(stage.wide, bias, nullptr, bias, angles, in.angles, nullptr,
                                  TABLE<N>, by);
      if (threadIdx.x < in.angles) {
        float after = turns.base[threadIdx.x];
        for (int w = 0; w < 8; ++w) after += turns.totals[w * (N / 2) + threadIdx.x];
        Chunk(stages + (~index & 1) * stage_bytes).turns->base[threadIdx.x] = after;
        if (index + 1 == chunks)
          saved.turn[(number * in.heads + head) * in.angles + threadIdx.x] = after;
      }
      stores_done();
      __syncthreads();
    }
    if (adds) {
      state.scale(power_of_two(chunk_decay(gates)));
      if (TURN)
        state.accumulate(stage.narrow, stage.wide);
      else
        state.accumulate(stage.narrow, by, stage.wide);
    }
    whole += chunk_decay(gates);
  }
  if (threadIdx.x == 0) saved.decay[number * in.heads + head] = whole;
  bf16* out = local + (number * in.heads + head) * (P * N);
  state.each([&](float& a, float& b, int r, int c) { word(out + r * N + c) = pack(a, b); });
}

// States before every item of a sequence, one after another; a thread holds one pair of channels.
template <bool TURN>
__global__ void __launch_bounds__(256) pass_states(ScanInputs in, ScanSaved saved,
                                                   const bf16* local, float* final_state) {
  const int size = in.head_dim * in.state / 2;
  const int64_t sequence = blockIdx.y / in.heads;
  const int head = blockIdx.y % in.heads;
  const int place = blockIdx.x * 256 + threadIdx.x;
  if (place >= size) return;
  const int pair = place % (in.state / 2);
  const int64_t whole = static_cast<int64_t>(sequence * in.heads + head) * size + place;
  float2 carry = in.initial ? reinterpret_cast<const float2*>(in.initial)[whole] : float2{0, 0};
  const int64_t first = in.first_item[sequence], last = in.first_item[sequence + 1];
  const uint32_t* added = reinterpret_cast<const uint32_t*>(local);
  uint32_t* states = reinterpret_cast<uint32_t*>(saved.states);
  auto slot = [&](int64_t item) { return ((item + sequence) * in.heads + head) * size + place; };
  constexpr int AHEAD = 8;
  for (int64_t start = first; start < last; start += AHEAD) {
    uint32_t next[AHEAD];
    float keep[AHEAD], turn[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (start + j >= last) break;
      const int64_t row = (start + j) * in.heads + head;
      next[j] = added[row * size + place];
      keep[j] = saved.decay[row];
      turn[j] = TURN && pair < in.angles ? saved.turn[row * in.angles + pair] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (start + j >= last) break;
      states[slot(start + j)] = pack(carry.x, carry.y);
      const float2 add = unpack(next[j]);
      const float decay = power_of_two(keep[j]);
      carry.x = fmaf(carry.x, decay, add.x);
      carry.y = fmaf(carry.y, decay, add.y);
      if (TURN && pair < in.angles) {
        float sine, cosine;
        sine_cosine(turn[j], sine, cosine);
        carry = make_float2(carry.x * cosine + carry.y * sine, carry.y * cosine - carry.x * sine);
      }
    }
  }
  states[slot(last)] = pack(carry.x, carry.y);
  if (final_state) reinterpret_cast<float2*>(final_state)[whole] = carry;
}

// A chunk of `outputs` in shared memory. With angles one has room, which two blocks a
// multiprocessor fill best; without, the next chunk comes while one is worked on.
template <int P, int N, int R, bool TURN>
struct Query {
  static constexpr int STAGES = TURN ? 1 : 2;
  static constexpr int TILES = (2 * ROWS * N + ROWS * P) * sizeof(bf16);
  bf16 *q, *k, *v;
  Gates* gates;
  Turns<N, R>* turns;
  float* theta;

  static size_t bytes(int angles) {
    return (TILES + sizeof(Gates) +
            (TURN ? sizeof(Turns<N, R>) + chunk_tokens<R>() * angles * sizeof(float) : 0) + 1023) /
           1024 * 1024;
  }
  __device__ __forceinline__ explicit Query(char* memory) {
    q = reinterpret_cast<bf16*>(memory);
    k = q + ROWS * N;
    v = k + ROWS * N;
    gates = reinterpret_cast<Gates*>(memory + TILES);
    turns = reinterpret_cast<Turns<N, R>*>(gates + 1);
    theta = reinterpret_cast<float*>(turns + 1);
  }
};

template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 2)
    outputs(ScanInputs in, ScanSaved saved, ScanGradientRows y, int stage_bytes) {
  using Chunk = Query<P, N, R, TURN>;
  extern __shared__ __align__(1024) char memory[];
  __shared__ float factors[8][ROWS];
  bf16* p = reinterpret_cast<bf16*>(memory);
  bf16* s = p + ROWS * ROWS;
  char* stages = reinterpret_cast<char*>(s + P * N);

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int lane = threadIdx.x & 31, warp = warp_number();
  const int row = (warp & 3) * 16, half = warp >> 2;
  const int mine = row + (lane >> 2), column = half * (P / 2);
  const float skip = in.skip ? in.skip[head] : 0.0f;
  const int chunks = (item.tokens + chunk_tokens<R>() - 1) / chunk_tokens<R>();
  auto stage_of = [&](int index) {
    return Chunk(stages + (Chunk::STAGES == 2 ? (index & 1) * stage_bytes : 0));
  };
  auto load = [&](int index) {
    const Chunk stage = stage_of(index);
    const int64_t token = item.start + index * chunk_tokens<R>();
    const int tokens = item.tokens - index * chunk_tokens<R>();
    load_tile<N, R>(stage.q, in.c, group, token, tokens);
    load_tile<N, R>(stage.k, in.b, group, token, tokens);
    load_tile<P, R>(stage.v, in.x, head, token, tokens);
    load_gates<R>(*stage.gates, in, saved.sums, head, token, tokens);
    if (TURN)
      stage.turns->load(in, stage.theta,
                        saved.angle + ((item.chunk + index) * static_cast<int64_t>(in.heads) + head) *
                                          in.angles,
                        head, token, tokens);
  };
  load(0);
  StatePart<P, N> state;
  state.read(saved.states + ((number + item.sequence) * in.heads + head) * (P * N));
  state.write(s);
  for (int index = 0; index < chunks; ++index) {
    const Chunk stage = stage_of(index);
    const Gates& gates = *stage.gates;
    const int64_t token = item.start + index * chunk_tokens<R>();
    const int tokens = item.tokens - index * chunk_tokens<R>();
    copies_done();
    stores_done();
    __syncthreads();
    if (saved.chunk_states)
      write_tile<P * N>(saved.chunk_states +
                            ((item.chunk + index) * static_cast<int64_t>(in.heads) + head) * (P * N),
                        s);
    if (index + 1 < chunks) {
      if (Chunk::STAGES == 2)
        load(index + 1);
      else
        prefetch_tile<P, R>(in.x, head, token + chunk_tokens<R>(), tokens - chunk_tokens<R>());
    }
    const float* by = warp_factors(
        factors, [&](int i) { return gates.weight[i] * to_end(gates, i); });
    if (TURN) {
      Angles<N, R> angles;
      const RowBias<N, R> c_bias(bias_of(in.c_bias, head, R * N));
      const RowBias<N, R> b_bias(bias_of(in.b_bias, head, R * N));
      angles.sum(*stage.turns, stage.theta, in.angles);
      rotate_tiles<N, R, true>(stage.q, c_bias, stage.k, b_bias, angles, in.angles, nullptr);
      stores_done();
      __syncthreads();
    }
    Part<P / 16> out;
    {
      Part<4> scores;
      const int first = 32 * half;
      scores.template begin<N>(Left<N>(stage.q, row), Right<N>(stage.k, first));
      out.template begin<N>(Left<N>(stage.q, row), Right<N, P>(s, column));
      // Products that overlap with what reads others' sums are made one after another.
      scores.template wait<0>();
      out.template wait<0>();
      const Weights<R> weights(gates, row, first);
      const Elements<ROWS> place(p, row, first);
      scores.each([&](float& a, float& b, int f, int h) {
        place.store(f, h, pack(a * weights.lower(f, h, 0), b * weights.lower(f, h, 1)));
      });
    }
    out.scale_rows(kept(gates, mine), kept(gates, mine + 8));
    state.scale(power_of_two(chunk_decay(gates)));
    const auto values = state.scaled(stage.v, by);
    if (saved.chunk_states) tile_read();
    stores_done();
    __syncthreads();
    out.template begin<ROWS>(Left<ROWS>(p, row), RightTransposed<P>(stage.v, column), 0, row + 16);
    state.accumulate_begin(values, stage.k);
    out.template wait<0>();
    state.accumulate_end();
    {
      const Elements<P> x(stage.v, row, column);
      out.each([&](float& a, float& b, int f, int h) {
        const float2 here = unpack(x.load(f, h));
        a = fmaf(skip, here.x, a);
        b = fmaf(skip, here.y, b);
      });
    }
    if (index + 1 < chunks) {
      if (Chunk::STAGES == 1) {
        __syncthreads();
        load(index + 1);
      }
      state.write(s);  // no one reads it since the last barrier
    }
    // Rows are tokens times ranks, and eight rows whole tokens.
    out.write_out(y.data + head * y.head + (token + mine / R) * y.token + (mine % R) * y.rank + column,
                  y.token / R, tokens * R - mine);
  }
}

namespace {

template <int P, int N, int R, bool TURN>
void run(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
         cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(in.items * in.heads));
  if (in.items > 0) {
    const int64_t chunks_each = (in.chunks + in.items - 1) / in.items;
    const dim3 grid(static_cast<unsigned>(in.items),
                    static_cast<unsigned>((chunks_each * in.heads + 127) / 128));
    sum_decays<<<grid, 128, 0, stream>>>(in, saved, chunk_tokens<R>());
    CISTRON_LAUNCH_CHECK("sum_decays");
  }
  if (in.items > 0) {
    const size_t stage = Stage<P, N, R, TURN>::bytes(in.angles);
    allow(local_states<P, N, R, TURN>, 2 * stage);
    local_states<P, N, R, TURN>
        <<<blocks, THREADS, 2 * stage, stream>>>(in, saved, out.local, out.final_state != nullptr,
                                            static_cast<int>(stage));
    CISTRON_LAUNCH_CHECK("local_states");
  }
  if (in.sequences > 0) {
    const dim3 grid((P * N / 2 + 255) / 256, static_cast<unsigned>(in.sequences * in.heads));
    pass_states<TURN><<<grid, 256, 0, stream>>>(in, saved, out.local, out.final_state);
    CISTRON_LAUNCH_CHECK("pass_states");
  }
  if (in.items > 0 && out.y.data != nullptr) {
    using Chunk = Query<P, N, R, TURN>;
    const size_t stage = Chunk::bytes(in.angles);
    const size_t size = (ROWS * ROWS + P * N) * sizeof(bf16) + Chunk::STAGES * stage;
    allow(outputs<P, N, R, TURN>, size);
    outputs<P, N, R, TURN>
        <<<blocks, THREADS, size, stream>>>(in, saved, out.y, static_cast<int>(stage));
    CISTRON_LAUNCH_CHECK("outputs");
  }
}

}  // namespace

bool scan_supported(int head_dim, int state, int rank, int angles) {
  // What the largest backward kernel takes; smaller chips run the plain form.
  int device = 0, shared = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return shared >= 143 * 1024 && dispatch(head_dim, state, rank, angles >= 0, [](auto) {});
}

void scan_forward(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
                  cudaStream_t stream) {
  dispatch(in.head_dim, in.state, in.rank, in.angles >= 0, [&](auto shape) {
    using S = decltype(shape);
    run<S::P, S::N, S::R, S::TURN>(in, saved, out, stream);
  });
}

}  // namespace cistron::cuda
