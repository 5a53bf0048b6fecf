// Forward passes of the scan: each item's own state, the hand-over between items, the outputs.
#include "scan_common.cuh"
#include "scan_launch.cuh"

namespace cistron::cuda {

// Decays and weights by rows of each chunk, a warp a chunk and head.
template <int R>
__global__ void __launch_bounds__(256) chunk_gates(ScanInputs in, float* gates, int per_item) {
  const int lane = threadIdx.x & 31;
  const ScanItem item = in.item[blockIdx.x / per_item];
  for (int index = blockIdx.x % per_item; index * chunk_tokens<R>() < item.tokens;
       index += per_item)
    for (int head = threadIdx.x >> 5; head < in.heads; head += 8) {
      const int first = index * chunk_tokens<R>();
      float decay[2], weight[2], gamma[2], delta[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = lane + 32 * i;
        const int64_t here = (item.start + first + row / R) * in.heads + head;
        const bool valid = first + row / R < item.tokens;
        decay[i] = valid && row % R == 0 ? in.log_decay[here] * 1.4426950408889634f : 0.0f;
        weight[i] = valid ? in.weight[here] : 0.0f;
        gamma[i] = valid ? in.gamma[here] : 0.0f;
        delta[i] = in.delta != nullptr && row < chunk_tokens<R>() && first + row < item.tokens
                       ? in.delta[(item.start + first + row) * in.heads + head]
                       : 0.0f;
      }
#pragma unroll
      for (int step = 1; step < 32; step *= 2)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float before = __shfl_up_sync(~0u, decay[i], step);
          if (lane >= step) decay[i] += before;
        }
      decay[1] += __shfl_sync(~0u, decay[0], 31);
      const float whole = __shfl_sync(~0u, decay[1], 31);
      ChunkGates& to = reinterpret_cast<ChunkGates*>(
          gates)[(item.chunk + index) * static_cast<int64_t>(in.heads) + head];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = lane + 32 * i;
        to.decay[row] = decay[i];
        to.weight[row] = weight[i];
        to.gamma[row] = gamma[i];
        to.delta[row] = delta[i];
        to.kept[row] = power_of_two(decay[i]);
        to.put[row] = weight[i] * power_of_two(whole - decay[i]);
      }
    }
}

// State that an item adds to a zero state, and its angles; of the last item of a sequence the angles
// alone where no one asks for the state.
template <int P, int N, int R, bool TURN, int MOST>
__global__ void __launch_bounds__(THREADS, 3)
    local_states(ScanInputs in, ScanSaved saved, bf16* local, bool keep,
                 const __grid_constant__ ScanMaps maps) {
  using Chunk = Stage<P, N, R, TURN, MOST>;
  extern __shared__ __align__(1024) char stages[];
  __shared__ uint64_t arrived[2];

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int chunks = (item.tokens + chunk_tokens<R>() - 1) / chunk_tokens<R>();
  const bool adds = keep || number + 1 < in.first_item[item.sequence + 1];
  const uint32_t barrier = shared_address(arrived);
  auto whole_chunk = [&](int index) {
    return maps.ready && item.tokens >= (index + 1) * chunk_tokens<R>();
  };
  auto load = [&](int index) {
    const int64_t place = (item.chunk + index) * static_cast<int64_t>(in.heads) + head;
    Chunk(stages + (index & 1) * Chunk::BYTES)
        .load(in, {in.b, in.x, maps.b, maps.x, maps.theta, group, head}, whole_chunk(index),
              item.start + index * chunk_tokens<R>(), item.tokens - index * chunk_tokens<R>(),
              saved.gates + place * SCAN_GATES * ROWS, nullptr, barrier + 8 * (index & 1));
  };
  StatePart<P, N> state;
  const RowBias<N, R> bias(bias_of(in.b_bias, head, R * N), TURN);
  float whole = 0;
  if (TURN && threadIdx.x < N / 2) Chunk(stages).turns->base[threadIdx.x] = 0;
  if (threadIdx.x == 0) {
    bulk_begin(barrier);
    bulk_begin(barrier + 8);
  }
  __syncthreads();
  load(0);
  for (int index = 0; index < chunks; ++index) {
    const Chunk stage(stages + (index & 1) * Chunk::BYTES);
    const ChunkGates& gates = *stage.gates;
    chunk_arrived(whole_chunk(index), barrier + 8 * (index & 1), index >> 1);
    __syncthreads();
    if (index + 1 < chunks) load(index + 1);
    if (TURN) {
      Turns<N>& turns = *stage.turns;
      if (threadIdx.x < in.angles)
        saved.angle[((item.chunk + index) * static_cast<int64_t>(in.heads) + head) * in.angles +
                    threadIdx.x] = turns.base[threadIdx.x];
      Angles<N, R, MOST> angles;
      angles.sum(turns, stage.theta, gates.delta, in.angles);
      if (adds)
        rotate_tiles<N, R, false>(stage.wide, bias, nullptr, bias, angles, in.angles, nullptr,
                                  TABLE<N>, gates.put);
      if (threadIdx.x < in.angles) {
        float after = turns.base[threadIdx.x];
        for (int w = 0; w < 8; ++w) after += turns.totals[w * (N / 2) + threadIdx.x];
        after = principal(after);
        Chunk(stages + (~index & 1) * Chunk::BYTES).turns->base[threadIdx.x] = after;
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
        state.accumulate(stage.narrow, gates.put, stage.wide);
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

// The shared memory of `outputs`. Of B, x and decays there are two, so that the next chunk may come
// while one is worked on; C and the angles are soon done with.
template <int P, int N, int R, bool TURN, int MOST>
struct Query {
  static constexpr int TILES = (ROWS * ROWS + P * N + 3 * ROWS * N + 2 * ROWS * P) * sizeof(bf16);
  static constexpr int TURNS = TILES + 2 * sizeof(ChunkGates);
  static constexpr int THETA = chunk_tokens<R>() * MOST * sizeof(float);
  static constexpr int BYTES = TURNS + (TURN ? sizeof(Turns<N>) + THETA : 0);
  bf16 *s, *p, *q;
  char* memory;
  Turns<N>& turns;
  float* theta;

  __device__ __forceinline__ explicit Query(char* from)
      : s(reinterpret_cast<bf16*>(from)),
        p(s + P * N),
        q(p + ROWS * ROWS),
        memory(from),
        turns(*reinterpret_cast<Turns<N>*>(from + TURNS)),
        theta(reinterpret_cast<float*>(&turns + 1)) {}
  __device__ __forceinline__ bf16* k(int index) const { return q + (1 + (index & 1)) * ROWS * N; }
  __device__ __forceinline__ bf16* v(int index) const {
    return q + 3 * ROWS * N + (index & 1) * ROWS * P;
  }
  __device__ __forceinline__ ChunkGates& gates(int index) const {
    return reinterpret_cast<ChunkGates*>(memory + TILES)[index & 1];
  }
};

template <int P, int N, int R, bool TURN, int MOST>
__global__ void __launch_bounds__(THREADS, 2)
    outputs(ScanInputs in, ScanSaved saved, ScanGradientRows y,
            const __grid_constant__ ScanMaps maps) {
  using Room = Query<P, N, R, TURN, MOST>;
  constexpr int TOKENS = chunk_tokens<R>();
  extern __shared__ __align__(1024) char memory[];
  __shared__ uint64_t arrived[2];
  const Room room(memory);
  bf16 *q = room.q, *p = room.p, *s = room.s;

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int lane = threadIdx.x & 31, warp = warp_number();
  const int row = (warp & 3) * 16, half = warp >> 2;
  const int mine = row + (lane >> 2), column = half * (P / 2);
  const float skip = in.skip ? in.skip[head] : 0.0f;
  const int chunks = (item.tokens + TOKENS - 1) / TOKENS;
  const uint32_t barriers = shared_address(arrived);
  auto whole_chunk = [&](int index) { return maps.ready && item.tokens >= (index + 1) * TOKENS; };
  auto load = [&](int index) {
    const int64_t token = item.start + index * TOKENS;
    const int64_t place = (item.chunk + index) * static_cast<int64_t>(in.heads) + head;
    const uint32_t barrier = barriers + 8 * (index & 1);
    const float* gates = saved.gates + place * SCAN_GATES * ROWS;
    const float* base = saved.angle + place * in.angles;
    if (whole_chunk(index)) {
      if (threadIdx.x == 0) {
        bulk_expect(barrier, (2 * ROWS * N + ROWS * P) * sizeof(bf16) + sizeof(ChunkGates) +
                                 (TURN ? Room::THETA + in.angles * sizeof(float) : 0));
        if (TURN) {
          bulk_copy(room.theta, maps.theta, 0, static_cast<int>(token), barrier);
          bulk_copy(room.turns.base, base, in.angles * sizeof(float), barrier);
        }
        bulk_copy(&room.gates(index), gates, sizeof(ChunkGates), barrier);
        bulk_tile<N, R>(q, maps.c, group, token, barrier);
        bulk_tile<N, R>(room.k(index), maps.b, group, token, barrier);
        bulk_tile<P, R>(room.v(index), maps.x, head, token, barrier);
        if (index + 1 < chunks) {
          const int next = static_cast<int>(token) + TOKENS;
          bulk_prefetch(maps.x, 0, 0, head, next);
          // What heads share, for all of them.
          if (head % (in.heads / in.groups) == 0)
            for (int panel = 0; panel < N; panel += 64) {
              bulk_prefetch(maps.c, panel, 0, group, next);
              bulk_prefetch(maps.b, panel, 0, group, next);
            }
        }
      }
      return;
    }
    const int tokens = item.tokens - index * TOKENS;
    load_tile<N, R>(q, in.c, group, token, tokens);
    load_tile<N, R>(room.k(index), in.b, group, token, tokens);
    load_tile<P, R>(room.v(index), in.x, head, token, tokens);
    load_words(room.gates(index).decay, gates, SCAN_GATES * ROWS);
    if (TURN) {
      load_theta<R, MOST>(room.theta, in, token, tokens);
      if (threadIdx.x < in.angles)
        copy_word_async(room.turns.base + threadIdx.x, base + threadIdx.x, true);
    }
    if (threadIdx.x == 0) barrier_arrive(barrier);
  };
  if (threadIdx.x == 0) {
    bulk_begin(barriers);
    bulk_begin(barriers + 8);
  }
  __syncthreads();
  load(0);
  StatePart<P, N> state;
  state.read(saved.states + ((number + item.sequence) * in.heads + head) * (P * N));
  state.write(s);
  stores_done();
  for (int index = 0; index < chunks; ++index) {
    bf16 *k = room.k(index), *v = room.v(index);
    const ChunkGates& gates = room.gates(index);
    chunk_arrived(whole_chunk(index), barriers + 8 * (index & 1), index >> 1);
    __syncthreads();
    if (saved.chunk_states)
      write_tile<P * N>(saved.chunk_states +
                            ((item.chunk + index) * static_cast<int64_t>(in.heads) + head) * (P * N),
                        s);
    if (TURN) {
      Angles<N, R, MOST> angles;
      const RowBias<N, R> c_bias(bias_of(in.c_bias, head, R * N));
      const RowBias<N, R> b_bias(bias_of(in.b_bias, head, R * N));
      angles.sum(room.turns, room.theta, gates.delta, in.angles);
      rotate_tiles<N, R, true>(q, c_bias, k, b_bias, angles, in.angles, nullptr);
      stores_done();
      __syncthreads();
    }
    Part<P / 16> out;
    {
      Part<4> scores;
      const int first = 32 * half;
      scores.template begin_fresh<N>(Left<N>(q, row), Right<N>(k, first));
      out.template begin_fresh<N>(Left<N>(q, row), Right<N, P>(s, column));
      scores.template wait<1>();
      const Elements<ROWS> place(p, row, first);
      if (row + 15 < first) {  // every token is before every one that it would read
        scores.each([&](float&, float&, int f, int h) { place.store(f, h, 0); });
      } else {
        const Weights<R> weights(gates, row, first);
        scores.each([&](float& a, float& b, int f, int h) {
          place.store(f, h, pack(a * weights.lower(f, h, 0), b * weights.lower(f, h, 1)));
        });
      }
    }
    out.template wait<0>();
    out.scale_rows(gates.kept[mine], gates.kept[mine + 8]);
    state.scale(power_of_two(chunk_decay(gates)));
    const auto values = state.scaled(v, gates.put);
    if (saved.chunk_states) tile_read();
    stores_done();
    __syncthreads();
    if (index + 1 < chunks) load(index + 1);
    out.template begin<ROWS>(Left<ROWS>(p, row), RightTransposed<P>(v, column), 0, row + 16);
    state.accumulate_begin(values, k);
    out.template wait<0>();
    state.accumulate_end();
    state.write(s);  // no one reads it since the last barrier
    stores_done();
    {
      const Elements<P> x(v, row, column);
      out.each([&](float& a, float& b, int f, int h) {
        const float2 here = unpack(x.load(f, h));
        a = fmaf(skip, here.x, a);
        b = fmaf(skip, here.y, b);
      });
    }
    // Rows are tokens times ranks, and eight rows whole tokens.
    const int64_t token = item.start + index * TOKENS;
    out.write_out(y.data + head * y.head + (token + mine / R) * y.token + (mine % R) * y.rank + column,
                  y.token / R, (item.tokens - index * TOKENS) * R - mine);
  }
}

namespace {

template <typename S>
void run(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
         cudaStream_t stream) {
  constexpr int P = S::P, N = S::N, R = S::R, MOST = S::MOST;
  constexpr bool TURN = S::TURN;
  const dim3 blocks(static_cast<unsigned>(in.items * in.heads));
  const ScanMaps maps = scan_maps<S>(in, nullptr);
  if (in.items > 0) {
    const int per_item = chunks_per_item(in);
    chunk_gates<R><<<static_cast<unsigned>(in.items * per_item), 256, 0, stream>>>(in, saved.gates,
                                                                                   per_item);
    CISTRON_LAUNCH_CHECK("chunk_gates");
    constexpr int size = 2 * Stage<P, N, R, TURN, MOST>::BYTES;
    allow(local_states<P, N, R, TURN, MOST>, size);
    local_states<P, N, R, TURN, MOST>
        <<<blocks, THREADS, size, stream>>>(in, saved, out.local, out.final_state != nullptr, maps);
    CISTRON_LAUNCH_CHECK("local_states");
  }
  if (in.sequences > 0) {
    const dim3 grid((P * N / 2 + 255) / 256, static_cast<unsigned>(in.sequences * in.heads));
    pass_states<TURN><<<grid, 256, 0, stream>>>(in, saved, out.local, out.final_state);
    CISTRON_LAUNCH_CHECK("pass_states");
  }
  if (in.items > 0 && out.y.data != nullptr) {
    constexpr int size = Query<P, N, R, TURN, MOST>::BYTES;
    allow(outputs<P, N, R, TURN, MOST>, size);
    outputs<P, N, R, TURN, MOST><<<blocks, THREADS, size, stream>>>(in, saved, out.y, maps);
    CISTRON_LAUNCH_CHECK("outputs");
  }
}

}  // namespace

bool scan_supported(int head_dim, int state, int rank, int angles) {
  // What the largest backward kernel takes; smaller chips run the plain form.
  int device = 0, shared = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return shared >= 143 * 1024 && dispatch(head_dim, state, rank, angles, [](auto) {});
}

void scan_forward(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
                  cudaStream_t stream) {
  dispatch(in.head_dim, in.state, in.rank, in.angles,
           [&](auto shape) { run<decltype(shape)>(in, saved, out, stream); });
}

}  // namespace cistron::cuda
