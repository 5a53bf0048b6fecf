// Forward passes of the scan: each item's own state, the hand-over between items, the outputs.
#include "scan_common.cuh"
#include "scan_launch.cuh"

#include <algorithm>

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

// State that an item adds to a zero state, and its angles.
template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 3) local_states(ScanInputs in, ScanSaved saved,
                                                           bf16* local) {
  extern __shared__ __align__(1024) char memory[];
  bf16* k = reinterpret_cast<bf16*>(memory);
  bf16* v = k + ROWS * N;
  Gates& gates = *reinterpret_cast<Gates*>(v + ROWS * P);
  Turns<N, R>& turns = *reinterpret_cast<Turns<N, R>*>(&gates + 1);
  float* theta = reinterpret_cast<float*>(&turns + 1);

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  StatePart<P, N> state;
  float whole = 0;
  if (TURN && threadIdx.x < N / 2) turns.base[threadIdx.x] = 0;
  for (int first = 0, chunk = item.chunk; first < item.tokens;
       first += chunk_tokens<R>(), ++chunk) {
    const int64_t token = item.start + first;
    const int tokens = item.tokens - first;
    __syncthreads();
    load_tile<N, R>(k, in.b, group, token, tokens);
    load_tile<P, R>(v, in.x, head, token, tokens);
    load_gates<R>(gates, in, saved.sums, head, token, tokens);
    if (TURN) turns.load(in, theta, nullptr, head, token, tokens);
    prefetch_tile<P, R>(in.x, head, token + chunk_tokens<R>(), tokens - chunk_tokens<R>());
    copies_done();
    __syncthreads();
    scale_tile<P>(v, v, [&](int row) { return gates.weight[row] * to_end(gates, row); });
    if (TURN) {
      if (threadIdx.x < in.angles)
        saved.angle[(chunk * static_cast<int64_t>(in.heads) + head) * in.angles + threadIdx.x] =
            turns.base[threadIdx.x];
      Angles<N, R> angles;
      angles.sum(turns, theta, in.angles, tokens);
      rotate_tiles<N, R, false>(k, bias_of(in.b_bias, head, R * N), nullptr, nullptr, angles,
                                in.angles, nullptr);
    }
    stores_done();
    __syncthreads();
    if (TURN && threadIdx.x < in.angles)
      for (int w = 0; w < 8; ++w)
        turns.base[threadIdx.x] += turns.totals[w * (N / 2) + threadIdx.x];
    state.scale(power_of_two(chunk_decay(gates)));
    state.accumulate(v, k);
    whole += chunk_decay(gates);
  }
  if (threadIdx.x == 0) saved.decay[number * in.heads + head] = whole;
  bf16* out = local + (number * in.heads + head) * (P * N);
  state.each([&](float& a, float& b, int r, int c) { word(out + r * N + c) = pack(a, b); });
  if (TURN) {
    __syncthreads();
    if (threadIdx.x < in.angles)
      saved.turn[(number * in.heads + head) * in.angles + threadIdx.x] = turns.base[threadIdx.x];
  }
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

template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 3) outputs(ScanInputs in, ScanSaved saved,
                                                      ScanGradientRows y) {
  extern __shared__ __align__(1024) char memory[];
  bf16* q = reinterpret_cast<bf16*>(memory);
  bf16* k = q + ROWS * N;
  bf16* v = k + ROWS * N;
  bf16* p = v + ROWS * P;
  bf16* s = p + ROWS * (P > ROWS ? P : ROWS);
  bf16* w = s + P * N;  // x as it is put into the state
  Gates& gates = *reinterpret_cast<Gates*>(w + ROWS * P);
  Turns<N, R>& turns = *reinterpret_cast<Turns<N, R>*>(&gates + 1);
  float* theta = in.angles <= ROWS / 2 ? reinterpret_cast<float*>(p) : reinterpret_cast<float*>(&turns + 1);

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row = (warp & 3) * 16, half = warp >> 2;
  const float skip = in.skip ? in.skip[head] : 0.0f;
  StatePart<P, N> state;
  state.read(saved.states + ((number + item.sequence) * in.heads + head) * (P * N));
  state.write(s);
  for (int first = 0, chunk = item.chunk; first < item.tokens;
       first += chunk_tokens<R>(), ++chunk) {
    const int64_t token = item.start + first;
    const int tokens = item.tokens - first;
    if (first > 0) {
      __syncthreads();
      state.write(s);
    }
    load_tile<N, R>(q, in.c, group, token, tokens);
    load_tile<N, R>(k, in.b, group, token, tokens);
    load_tile<P, R>(v, in.x, head, token, tokens);
    load_gates<R>(gates, in, saved.sums, head, token, tokens);
    if (TURN)
      turns.load(in, theta, saved.angle + (chunk * static_cast<int64_t>(in.heads) + head) * in.angles,
                 head, token, tokens);
    prefetch_tile<P, R>(in.x, head, token + chunk_tokens<R>(), tokens - chunk_tokens<R>());
    copies_done();
    stores_done();
    __syncthreads();
    scale_tile<P>(w, v, [&](int i) { return gates.weight[i] * to_end(gates, i); });
    if (TURN) {
      Angles<N, R> angles;
      angles.sum(turns, theta, in.angles, tokens);
      rotate_tiles<N, R, true>(q, bias_of(in.c_bias, head, R * N), k,
                               bias_of(in.b_bias, head, R * N), angles, in.angles, nullptr);
      stores_done();
      __syncthreads();
    }
    {
      Part<4> scores;
      const int first = 32 * half;
      scores.template add<N>(Left<N>(q, row), Right<N>(k, first));
      const Weights<R> weights(gates, row, first);
      const Elements<ROWS> place(p, row, first);
      scores.each([&](float& a, float& b, int f, int h) {
        place.store(f, h, pack(a * weights.lower(f, h, 0), b * weights.lower(f, h, 1)));
      });
    }
    stores_done();
    __syncthreads();
    Part<P / 16> out;
    const int column = half * (P / 2);
    out.template add<N>(Left<N>(q, row), Right<N, P>(s, column));
    out.scale_rows(kept(gates, row + (lane >> 2)), kept(gates, row + (lane >> 2) + 8));
    out.template add<ROWS>(Left<ROWS>(p, row), RightTransposed<P>(v, column), 0, row + 16);
    state.scale(power_of_two(chunk_decay(gates)));
    state.accumulate(w, k);
    __syncthreads();
    {
      const Elements<P> x(v, row, column), place(p, row, column);
      out.each([&](float& a, float& b, int f, int h) {
        const float2 here = unpack(x.load(f, h));
        place.store(f, h, pack(fmaf(skip, here.x, a), fmaf(skip, here.y, b)));
      });
    }
    __syncthreads();
    store_tile<P, R>(p, y, head, token, tokens);
  }
}

namespace {

template <int P, int N, int R, bool TURN>
void run(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
         cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(in.items * in.heads));
  const size_t theta = chunk_tokens<R>() * std::max(in.angles, 0) * sizeof(float);
  const size_t angles = TURN ? sizeof(Turns<N, R>) : 0;
  if (in.items > 0) {
    const int64_t chunks_each = (in.chunks + in.items - 1) / in.items;
    const dim3 grid(static_cast<unsigned>(in.items),
                    static_cast<unsigned>((chunks_each * in.heads + 127) / 128));
    sum_decays<<<grid, 128, 0, stream>>>(in, saved, chunk_tokens<R>());
    CISTRON_LAUNCH_CHECK("sum_decays");
  }
  if (in.items > 0) {
    const size_t size = (ROWS * N + ROWS * P) * sizeof(bf16) + sizeof(Gates) + angles + theta;
    allow(local_states<P, N, R, TURN>, size);
    local_states<P, N, R, TURN><<<blocks, THREADS, size, stream>>>(in, saved, out.local);
    CISTRON_LAUNCH_CHECK("local_states");
  }
  if (in.sequences > 0) {
    const dim3 grid((P * N / 2 + 255) / 256, static_cast<unsigned>(in.sequences * in.heads));
    pass_states<TURN><<<grid, 256, 0, stream>>>(in, saved, out.local, out.final_state);
    CISTRON_LAUNCH_CHECK("pass_states");
  }
  if (in.items > 0 && out.y.data != nullptr) {
    const size_t size =
        (2 * ROWS * N + 2 * ROWS * P + ROWS * (P > ROWS ? P : ROWS) + P * N) * sizeof(bf16) +
        sizeof(Gates) + angles + (in.angles <= ROWS / 2 ? 0 : theta);
    allow(outputs<P, N, R, TURN>, size);
    outputs<P, N, R, TURN><<<blocks, THREADS, size, stream>>>(in, saved, out.y);
    CISTRON_LAUNCH_CHECK("outputs");
  }
}

}  // namespace

bool scan_supported(int head_dim, int state, int rank, int angles) {
  // What the largest backward kernel takes; smaller chips run the plain form.
  int device = 0, shared = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return shared >= 116 * 1024 && dispatch(head_dim, state, rank, angles >= 0, [](auto) {});
}

void scan_forward(const ScanInputs& in, const ScanSaved& saved, const ScanOutputs& out,
                  cudaStream_t stream) {
  dispatch(in.head_dim, in.state, in.rank, in.angles >= 0, [&](auto shape) {
    using S = decltype(shape);
    run<S::P, S::N, S::R, S::TURN>(in, saved, out, stream);
  });
}

}  // namespace cistron::cuda
