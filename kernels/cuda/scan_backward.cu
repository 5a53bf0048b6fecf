// Backward passes of the scan. With E_ts = (C_t . B_s)(dy_t . x_s) W_ts for s < t, the
// gradient of the log-decay at a token is everything that flows past it: the part of E
// with s before and t at or after it. Within a chunk that is a difference of row and
// column sums of the very same E; across chunks it is what is read from the carried
// state (`across`), less what was put into it, from the flow at the end of the item.
#include "scan_common.cuh"
#include "scan_launch.cuh"

namespace cistron::cuda {

// Gradient of the state before an item through the item's own outputs.
template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 2) local_gradients(ScanInputs in, ScanSaved saved,
                                                              ScanRows dy, bf16* local) {
  extern __shared__ __align__(128) char memory[];
  bf16* q = reinterpret_cast<bf16*>(memory);
  bf16* o = q + ROWS * N;
  Gates& gates = *reinterpret_cast<Gates*>(o + ROWS * P);
  float* totals = reinterpret_cast<float*>(&gates + 1);

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  StatePart<P, N> state;
  float before = 0;
  for (int first = 0, chunk = item.chunk; first < item.tokens;
       first += chunk_tokens<R>(), ++chunk) {
    const int64_t token = item.start + first;
    const int tokens = item.tokens - first;
    __syncthreads();
    load_tile<N, R>(q, in.c, group, token, tokens);
    load_tile<P, R>(o, dy, head, token, tokens);
    load_gates<R>(gates, in, head, token, tokens);
    copies_done();
    __syncthreads();
    if (TURN) {
      Angles<N, R> angles;
      angles.load(totals, saved.angle + (chunk * static_cast<int64_t>(in.heads) + head) * in.angles,
                  in, head, token, tokens);
      rotate_tiles<N, R, false>(q, bias_of(in.c_bias, head, R * N), nullptr, nullptr, angles,
                                in.angles, nullptr);
      __syncthreads();
    }
    state.accumulate(o, q, [&](int row) { return exp2f(before + gates.decay[row / R]); });
    before += gates.end[0];
  }
  bf16* out = local + (number * in.heads + head) * (P * N);
  state.each([&](float& a, float& b, int r, int c) { word(out + r * N + c) = pack(a, b); });
}

// Gradients of the states after every item, last to first.
template <bool TURN>
__global__ void __launch_bounds__(256) pass_gradients(ScanInputs in, ScanSaved saved,
                                                      ScanGradients grad) {
  const int size = in.head_dim * in.state / 2;
  const int64_t sequence = blockIdx.y / in.heads;
  const int head = blockIdx.y % in.heads;
  const int place = blockIdx.x * 256 + threadIdx.x;
  if (place >= size) return;
  const int pair = place % (in.state / 2);
  const int64_t whole = static_cast<int64_t>(sequence * in.heads + head) * size + place;
  float2 carry = grad.dfinal ? reinterpret_cast<const float2*>(grad.dfinal)[whole] : float2{0, 0};
  const int64_t first = in.first_item[sequence], last = in.first_item[sequence + 1];
  const uint32_t* added = reinterpret_cast<const uint32_t*>(grad.local);
  uint32_t* states = reinterpret_cast<uint32_t*>(grad.dstates);
  auto slot = [&](int64_t item) { return ((item + sequence) * in.heads + head) * size + place; };
  constexpr int AHEAD = 8;
  for (int64_t start = last - 1; start >= first; start -= AHEAD) {
    uint32_t next[AHEAD];
    float keep[AHEAD], turn[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (start - j < first) break;
      const int64_t row = (start - j) * in.heads + head;
      next[j] = added[row * size + place];
      keep[j] = saved.decay[row];
      turn[j] = TURN && pair < in.angles ? saved.turn[row * in.angles + pair] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (start - j < first) break;
      states[slot(start - j + 1)] = pack(carry.x, carry.y);
      if (TURN && pair < in.angles) {
        float sine, cosine;
        sine_cosine(turn[j], sine, cosine);
        carry = make_float2(carry.x * cosine - carry.y * sine, carry.x * sine + carry.y * cosine);
      }
      const float2 add = unpack(next[j]);
      const float decay = exp2f(keep[j]);
      carry.x = fmaf(carry.x, decay, add.x);
      carry.y = fmaf(carry.y, decay, add.y);
    }
  }
  states[slot(first)] = pack(carry.x, carry.y);
  if (grad.dinitial) reinterpret_cast<float2*>(grad.dinitial)[whole] = carry;
}

// Sums the columns of a tile over its valid tokens, for the gradient of a bias:
// thread i holds columns of word i % (N / 2) of its share of the rows.
template <int N, int R>
struct BiasGradient {
  static constexpr int GROUPS = THREADS / (N / 2) < ROWS ? THREADS / (N / 2) : ROWS;
  float2 value[R];
  __device__ __forceinline__ BiasGradient() {
#pragma unroll
    for (int r = 0; r < R; ++r) value[r] = {0, 0};
  }
  __device__ __forceinline__ void add(const bf16* tile, int tokens) {
    const int column = 2 * (threadIdx.x % (N / 2)), group = threadIdx.x / (N / 2);
    for (int t = group; t < chunk_tokens<R>() && t < tokens; t += GROUPS)
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float2 v = unpack(word(tile + at<N>(t * R + r, column)));
        value[r].x += v.x;
        value[r].y += v.y;
      }
  }
  // `scratch`: GROUPS x N floats.
  __device__ __forceinline__ void write(float* scratch, float* out) {
    const int column = 2 * (threadIdx.x % (N / 2)), group = threadIdx.x / (N / 2);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      __syncthreads();
      scratch[group * N + column] = value[r].x;
      scratch[group * N + column + 1] = value[r].y;
      __syncthreads();
      for (int n = threadIdx.x; n < N; n += THREADS) {
        float sum = 0;
        for (int g = 0; g < GROUPS; ++g) sum += scratch[g * N + n];
        out[r * N + n] = sum;
      }
    }
  }
};

// Turns a gradient pair back by the angle of its token.
__device__ __forceinline__ void turn_back(float& a, float& b, __half2 turn) {
  const float cosine = __low2float(turn), sine = __high2float(turn);
  const float x = a * cosine + b * sine;
  b = b * cosine - a * sine;
  a = x;
}

// Adds the same-token part of a gradient: sum over ranks of block[row][rank] * other row.
template <int N, int R, bool ACROSS>
__device__ __forceinline__ void add_same_token(float& a, float& b, int row, int column,
                                               const float* block, const bf16* other, float by) {
  const int t = row / R;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int other_row = t * R + r;
    const float weight = by * (ACROSS ? block[other_row * R + row % R] : block[row * R + r]);
    const float2 v = unpack(word(other + at<N>(other_row, column)));
    a = fmaf(weight, v.x, a);
    b = fmaf(weight, v.y, b);
  }
}

// Gradient of C, first to last chunk: the forward scan with dy as query, x as key, B as value.
template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 2) query_gradients(ScanInputs in, ScanSaved saved,
                                                              ScanGradients grad) {
  extern __shared__ __align__(128) char memory[];
  bf16* q = reinterpret_cast<bf16*>(memory);
  bf16* k = q + ROWS * N;
  bf16* v = k + ROWS * N;
  bf16* o = v + ROWS * P;
  bf16* s = o + ROWS * P;
  bf16* g = s + P * N;
  Gates& gates = *reinterpret_cast<Gates*>(g + ROWS * ROWS);
  float* block = reinterpret_cast<float*>(&gates + 1);  // dy . x of the same token: [64][R]
  float* across = block + ROWS * R;                    // [2][64]
  float* totals = across + 2 * ROWS;                   // 8 x N/2
  __half2* table = reinterpret_cast<__half2*>(totals + 8 * (N / 2));
  float* turning = reinterpret_cast<float*>(table + chunk_tokens<R>() * (N / 2));  // [64][N/2]

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row = ((warp + blockIdx.x) & 3) * 16, half = warp >> 2;
  const int low = (row + (lane >> 2)) / R, high = (row + (lane >> 2) + 8) / R;
  StatePart<P, N> state;
  BiasGradient<N, R> bias;
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
    load_tile<P, R>(o, grad.dy, head, token, tokens);
    load_gates<R>(gates, in, head, token, tokens);
    copies_done();
    __syncthreads();
    if (TURN) {
      Angles<N, R> angles;
      angles.load(totals, saved.angle + (chunk * static_cast<int64_t>(in.heads) + head) * in.angles,
                  in, head, token, tokens);
      rotate_tiles<N, R, true>(q, bias_of(in.c_bias, head, R * N), k,
                               bias_of(in.b_bias, head, R * N), angles, in.angles, table);
    }
    {
      Part<4> inner;
      if (32 * half < row + 16) inner.template add<P, P>(o, row, v, 32 * half);
      inner.each(row, 32 * half, [&](float& a, float& b, int, int i, int j) {
        const int t = i / R;
        auto weight = [&](int column) {
          const int u = column / R;
          return u < t ? gates.weight[u] * between(gates.decay[t], gates.decay[u]) : 0.0f;
        };
        if (j / R == t) block[i * R + j % R] = a;
        if ((j + 1) / R == t) block[i * R + (j + 1) % R] = b;
        word(g + at<ROWS>(i, j)) = pack(a * weight(j), b * weight(j + 1));
      });
    }
    __syncthreads();
    const int column = half * (N / 2);
    Part<N / 16> dq;
    dq.template add_transposed<P, N>(o, row, s, column);
    dq.scale_rows(exp2f(gates.decay[low]), exp2f(gates.decay[high]));
    float read[2] = {0, 0};
    dq.each(row, column, [&](float& a, float& b, int h, int i, int j) {
      const float2 c = unpack(word(q + at<N>(i, j)));
      read[h] += a * c.x + b * c.y;
    });
    for (int h = 0; h < 2; ++h) {
      read[h] = sum_row(read[h]);
      if ((lane & 3) == 0) across[half * ROWS + row + (lane >> 2) + 8 * h] = read[h];
    }
    dq.template add_transposed<ROWS, N>(g, row, k, column, 0, row + 16);
    dq.each(row, column, [&](float& a, float& b, int, int i, int j) {
      if (TURN) {
        const float2 c = unpack(word(q + at<N>(i, j)));
        turning[i * (N / 2) + j / 2] = c.x * b - c.y * a;
      }
      add_same_token<N, R, false>(a, b, i, j, block, k, gates.gamma[i / R]);
      if (TURN) turn_back(a, b, table[(i / R) * (N / 2) + j / 2]);
      word(q + at<N>(i, j)) = pack(a, b);  // only this thread reads or writes these two
    });
    const float end = gates.end[0];
    state.scale(exp2f(end));
    state.accumulate(v, k, [&](int i) {
      return gates.weight[i / R] * between(end, gates.decay[i / R]);
    });
    __syncthreads();
    store_tile<N, R>(q, ScanGradientRows{grad.dc, int64_t(in.heads) * R * N, N, int64_t(R) * N},
                     head, token, tokens);
    if (threadIdx.x < chunk_tokens<R>() && threadIdx.x < tokens) {
      float sum = 0;
      for (int r = 0; r < R; ++r)
        sum += across[threadIdx.x * R + r] + across[ROWS + threadIdx.x * R + r];
      grad.across[(token + threadIdx.x) * in.heads + head] = sum;
    }
    if (TURN) {
      bias.add(q, tokens);
      for (int i = threadIdx.x; i < chunk_tokens<R>() * in.angles; i += THREADS) {
        const int t = i / in.angles, pair = i % in.angles;
        if (t >= tokens) break;
        float sum = 0;
        for (int r = 0; r < R; ++r) sum += turning[(t * R + r) * (N / 2) + pair];
        grad.dangle[((token + t) * in.heads + head) * in.angles + pair] = sum;
      }
    }
  }
  if (TURN)
    bias.write(reinterpret_cast<float*>(q), grad.dc_bias + (number * in.heads + head) * (R * N));
}

// Gradients of x, B and the gates, last to first chunk.
template <int P, int N, int R, bool TURN>
__global__ void __launch_bounds__(THREADS, 2) key_gradients(ScanInputs in, ScanSaved saved,
                                                            ScanGradients grad) {
  extern __shared__ __align__(128) char memory[];
  bf16* q = reinterpret_cast<bf16*>(memory);
  bf16* k = q + ROWS * N;
  bf16* v = k + ROWS * N;
  bf16* o = v + ROWS * P;
  bf16* s = o + ROWS * P;
  bf16* p = s + P * N;
  bf16* g = p + ROWS * ROWS;
  float* turning = reinterpret_cast<float*>(p);  // [64][N/2], after p and g were used
  Gates& gates = *reinterpret_cast<Gates*>(p + (ROWS * N > 2 * ROWS * ROWS ? ROWS * N : 2 * ROWS * ROWS));
  float* block = reinterpret_cast<float*>(&gates + 1);  // dy . x of the same token: [64][R]
  float* columns = block + ROWS * R;                   // E over t, by s: [2][64]
  float* diagonal = columns + 2 * ROWS;                // [2][64]
  float* put = diagonal + 2 * ROWS;                    // [2][64]
  float* rows = put + 2 * ROWS;                        // E over s, by t: [4][64]
  float* scratch = rows + 4 * ROWS;                    // [64]
  float* totals = scratch + ROWS;                      // 8 x N/2
  float* carried = totals + 8 * (N / 2);               // N/2: gradient of the angle after the chunk
  __half2* table = reinterpret_cast<__half2*>(carried + N / 2);

  const int head = blockIdx.x % in.heads, group = head / (in.heads / in.groups);
  const int64_t number = blockIdx.x / in.heads;
  const ScanItem item = in.item[number];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row = ((warp + blockIdx.x) & 3) * 16, half = warp >> 2;
  const int low = (row + (lane >> 2)) / R, high = (row + (lane >> 2) + 8) / R;
  const float skip = in.skip ? in.skip[head] : 0.0f;
  StatePart<P, N> state;
  BiasGradient<N, R> bias;
  float dskip = 0;

  // What flows over the end of the item, in decay and in angle, and the gradient of the
  // state there in the item's own angles.
  float flow = 0;
  {
    const int64_t slot = ((number + 1 + item.sequence) * in.heads + head) * (P * N);
    state.read(grad.dstates + slot);
    if (TURN) {
      for (int i = threadIdx.x; i < N / 2; i += THREADS) carried[i] = 0;
      __syncthreads();
    }
    float* columns_of = turning;  // [P][N/2]: fits in p, g and what follows only for P <= 64
    state.each([&](float& a, float& b, int r, int c) {
      const float2 h = unpack(word(saved.states + slot + r * N + c));
      flow += h.x * a + h.y * b;
      if (TURN) {
        columns_of[r * (N / 2) + c / 2] = h.x * b - h.y * a;
        if (c / 2 < in.angles) {
          float sine, cosine;
          sine_cosine(saved.turn[(number * in.heads + head) * in.angles + c / 2], sine, cosine);
          const float x = a * cosine - b * sine;
          b = a * sine + b * cosine;
          a = x;
        }
      }
    });
    for (int step = 16; step > 0; step /= 2) flow += __shfl_xor_sync(~0u, flow, step);
    if (lane == 0) scratch[warp] = flow;
    __syncthreads();
    flow = 0;
    for (int w = 0; w < 8; ++w) flow += scratch[w];
    if (TURN)
      for (int i = threadIdx.x; i < N / 2; i += THREADS) {
        float sum = 0;
        for (int r = 0; r < P; ++r) sum += columns_of[r * (N / 2) + i];
        carried[i] = -sum;
      }
    __syncthreads();
  }
  state.write(s);

  const int chunks = (item.tokens + chunk_tokens<R>() - 1) / chunk_tokens<R>();
  for (int index = chunks - 1; index >= 0; --index) {
    const int first = index * chunk_tokens<R>();
    const int64_t token = item.start + first;
    const int tokens = item.tokens - first;
    if (index < chunks - 1) {
      __syncthreads();
      state.write(s);
    }
    load_tile<N, R>(q, in.c, group, token, tokens);
    load_tile<N, R>(k, in.b, group, token, tokens);
    load_tile<P, R>(v, in.x, head, token, tokens);
    load_tile<P, R>(o, grad.dy, head, token, tokens);
    load_gates<R>(gates, in, head, token, tokens);
    copies_done();
    __syncthreads();
    if (TURN) {
      Angles<N, R> angles;
      angles.load(totals,
                  saved.angle +
                      ((item.chunk + index) * static_cast<int64_t>(in.heads) + head) * in.angles,
                  in, head, token, tokens);
      rotate_tiles<N, R, true>(q, bias_of(in.c_bias, head, R * N), k,
                               bias_of(in.b_bias, head, R * N), angles, in.angles, table);
      __syncthreads();
    }
    {
      // Rows are s, columns t.
      Part<4> scores, inner;
      if (32 * half + 32 > row) {
        scores.template add<N, N>(k, row, q, 32 * half);
        inner.template add<P, P>(v, row, o, 32 * half);
      }
      float by_column[2] = {0, 0}, by_diagonal[2] = {0, 0};
#pragma unroll
      for (int f = 0; f < 4; ++f) {
        float by_row[2] = {0, 0};
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int i = row + (lane >> 2) + 8 * h, u = i / R;
          float kept[2], turned[2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int j = 32 * half + 8 * f + 2 * (lane & 3) + e, t = j / R;
            const float score = scores.value[f][2 * h + e], product = inner.value[f][2 * h + e];
            kept[e] = turned[e] = 0;
            if (u < t) {
              const float weight = between(gates.decay[t], gates.decay[u]);
              kept[e] = score * weight;
              turned[e] = product * weight;
              const float flows = kept[e] * product;
              by_column[h] += flows;
              by_row[e] += flows * gates.weight[u];
            } else if (u == t) {
              const float s_u = gates.weight[u];
              kept[e] = s_u > 0 ? score * (gates.gamma[u] / s_u) : 0.0f;
              by_diagonal[h] += score * product;
              block[j * R + i % R] = product;  // [row of t][rank of s]
            }
          }
          word(p + at<ROWS>(i, 32 * half + 8 * f + 2 * (lane & 3))) = pack(kept[0], kept[1]);
          word(g + at<ROWS>(i, 32 * half + 8 * f + 2 * (lane & 3))) = pack(turned[0], turned[1]);
        }
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          for (int step = 4; step < 32; step *= 2)
            by_row[e] += __shfl_xor_sync(~0u, by_row[e], step);
          if (lane < 4) rows[(row / 16) * ROWS + 32 * half + 8 * f + 2 * lane + e] = by_row[e];
        }
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        by_column[h] = sum_row(by_column[h]);
        by_diagonal[h] = sum_row(by_diagonal[h]);
        if ((lane & 3) == 0) {
          columns[half * ROWS + row + (lane >> 2) + 8 * h] = by_column[h];
          diagonal[half * ROWS + row + (lane >> 2) + 8 * h] = by_diagonal[h];
        }
      }
    }
    __syncthreads();
    const float end = gates.end[0];
    const float to_end[2] = {between(end, gates.decay[low]), between(end, gates.decay[high])};
    const float weight[2] = {gates.weight[low], gates.weight[high]};
    uint32_t dv[P / 16][2];
    {
      Part<P / 16> part;
      const int column = half * (P / 2);
      part.template add<N, N>(k, row, s, column);
      part.scale_rows(to_end[0], to_end[1]);
      part.template add_transposed<ROWS, P>(p, row, o, column, row, ROWS);
      part.scale_rows(weight[0], weight[1]);
      part.each(row, column, [&](float& a, float& b, int, int i, int j) {
        const float2 y = unpack(word(o + at<P>(i, j))), x = unpack(word(v + at<P>(i, j)));
        dskip += y.x * x.x + y.y * x.y;
        a = fmaf(skip, y.x, a);
        b = fmaf(skip, y.y, b);
      });
#pragma unroll
      for (int f = 0; f < P / 16; ++f)
#pragma unroll
        for (int h = 0; h < 2; ++h) dv[f][h] = pack(part.value[f][2 * h], part.value[f][2 * h + 1]);
    }
    const int column = half * (N / 2);
    Part<N / 16> dk;
    dk.template add_transposed<P, N>(v, row, s, column);
    dk.scale_rows(to_end[0], to_end[1]);
    float stored[2] = {0, 0};
    dk.each(row, column, [&](float& a, float& b, int h, int i, int j) {
      const float2 c = unpack(word(k + at<N>(i, j)));
      stored[h] += a * c.x + b * c.y;
    });
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      stored[h] = sum_row(stored[h]);
      if ((lane & 3) == 0) put[half * ROWS + row + (lane >> 2) + 8 * h] = stored[h];
    }
    dk.template add_transposed<ROWS, N>(g, row, q, column, row, ROWS);
    dk.scale_rows(weight[0], weight[1]);
    state.scale(exp2f(end));
    state.accumulate(o, q, [&](int i) { return exp2f(gates.decay[i / R]); });
    __syncthreads();  // p, g, v and other warps' parts of k are free from here on
    dk.each(row, column, [&](float& a, float& b, int, int i, int j) {
      if (TURN) {
        const float2 c = unpack(word(k + at<N>(i, j)));
        turning[i * (N / 2) + j / 2] = c.x * b - c.y * a;
      }
      add_same_token<N, R, true>(a, b, i, j, block, q, gates.gamma[i / R]);
      if (TURN) turn_back(a, b, table[(i / R) * (N / 2) + j / 2]);
      word(k + at<N>(i, j)) = pack(a, b);
    });
#pragma unroll
    for (int f = 0; f < P / 16; ++f)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        word(v + at<P>(row + (lane >> 2) + 8 * h, half * (P / 2) + 8 * f + 2 * (lane & 3))) =
            dv[f][h];
    __syncthreads();
    store_tile<N, R>(k, ScanGradientRows{grad.db, int64_t(in.heads) * R * N, N, int64_t(R) * N},
                     head, token, tokens);
    store_tile<P, R>(v, grad.dx, head, token, tokens);
    if (TURN) {
      bias.add(k, tokens);
      // Gradient of the angle: what is turned at this token or later, summed from the end.
      constexpr int SEGMENT = Angles<N, R>::SEGMENT, PAIRS = Angles<N, R>::PAIRS;
      float sum[SEGMENT][PAIRS];
#pragma unroll
      for (int pairs = 0; pairs < PAIRS; ++pairs) {
        const int pair = lane + 32 * pairs;
        float running = 0;
#pragma unroll
        for (int j = SEGMENT - 1; j >= 0; --j) {
          const int t = warp * SEGMENT + j;
          if (t < tokens && pair < in.angles) {
            running += grad.dangle[((token + t) * in.heads + head) * in.angles + pair];
            for (int r = 0; r < R; ++r) running += turning[(t * R + r) * (N / 2) + pair];
          }
          sum[j][pairs] = running;
        }
        if (pair < N / 2) totals[warp * (N / 2) + pair] = running;
      }
      __syncthreads();
      float after[PAIRS];
#pragma unroll
      for (int pairs = 0; pairs < PAIRS; ++pairs) {
        const int pair = lane + 32 * pairs;
        after[pairs] = 0;
        if (pair >= N / 2) continue;
        after[pairs] = carried[pair];
        for (int w = warp + 1; w < 8; ++w) after[pairs] += totals[w * (N / 2) + pair];
      }
#pragma unroll
      for (int j = 0; j < SEGMENT; ++j) {
        const int t = warp * SEGMENT + j;
        float along = 0;
        if (t < tokens) {
          const int64_t index = (token + t) * in.heads + head;
          const float delta = in.delta[index];
#pragma unroll
          for (int pairs = 0; pairs < PAIRS; ++pairs) {
            const int pair = lane + 32 * pairs;
            if (pair >= in.angles) continue;
            const float total = sum[j][pairs] + after[pairs];
            along = fmaf(total, in.theta[(token + t) * in.angles + pair], along);
            grad.dtheta[index * in.angles + pair] = __float2bfloat16(total * delta);
          }
        }
        for (int step = 16; step > 0; step /= 2) along += __shfl_xor_sync(~0u, along, step);
        if (lane == 0 && t < tokens) grad.ddelta[(token + t) * in.heads + head] = along;
      }
    }
    // Gates, by the first warp: tokens lane and lane + 32, summed from the end.
    if (warp == 0) {
      float past = flow;
#pragma unroll
      for (int start = chunk_tokens<R>() > 32 ? 32 : 0; start >= 0; start -= 32) {
        const int t = start + lane;
        float change = 0;
        if (t < chunk_tokens<R>() && t < tokens) {
          const int64_t index = (token + t) * in.heads + head;
          float from = 0, stored_here = 0, same = 0, to = 0;
          for (int r = 0; r < R; ++r) {
            const int i = t * R + r;
            from += columns[i] + columns[ROWS + i];
            stored_here += put[i] + put[ROWS + i];
            same += diagonal[i] + diagonal[ROWS + i];
            for (int tile = 0; tile < 4; ++tile) to += rows[tile * ROWS + i];
          }
          grad.dweight[index] = from + stored_here;
          grad.dgamma[index] = same;
          change = to - gates.weight[t] * from + grad.across[index] - gates.weight[t] * stored_here;
        }
        for (int step = 1; step < 32; step *= 2) {
          const float other = __shfl_down_sync(~0u, change, step);
          if (lane + step < 32) change += other;
        }
        if (t < chunk_tokens<R>() && t < tokens)
          grad.dlog_decay[(token + t) * in.heads + head] = past + change;
        past += __shfl_sync(~0u, change, 0);
      }
      flow = past;
    }
    if (TURN) {
      __syncthreads();
      if (threadIdx.x < N / 2)
        for (int w = 0; w < 8; ++w) carried[threadIdx.x] += totals[w * (N / 2) + threadIdx.x];
    }
  }
  __syncthreads();
  for (int step = 16; step > 0; step /= 2) dskip += __shfl_xor_sync(~0u, dskip, step);
  if (lane == 0) scratch[warp] = dskip;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int w = 0; w < 8; ++w) sum += scratch[w];
    grad.dskip[number * in.heads + head] = sum;
  }
  if (TURN)
    bias.write(reinterpret_cast<float*>(q), grad.db_bias + (number * in.heads + head) * (R * N));
}

// Sums over the heads of a group, eight values a thread.
__global__ void __launch_bounds__(256) sum_heads(const bf16* in, bf16* out, int64_t tokens,
                                                 int heads, int groups, int width) {
  const int pieces = width / 8, per_group = heads / groups;
  const int64_t count = tokens * groups * pieces;
  const int64_t step = static_cast<int64_t>(gridDim.x) * 256;
  for (int64_t i = blockIdx.x * 256LL + threadIdx.x; i < count; i += step) {
    const int piece = i % pieces;
    const int64_t rest = i / pieces;
    const int group = rest % groups;
    const int64_t token = rest / groups;
    const bf16* from = in + (token * heads + group * per_group) * width + piece * 8;
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll 4
    for (int h = 0; h < per_group; ++h) {
      const uint4 words = *reinterpret_cast<const uint4*>(from + static_cast<int64_t>(h) * width);
      const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 v = unpack(pairs[j]);
        sum[2 * j] += v.x;
        sum[2 * j + 1] += v.y;
      }
    }
    *reinterpret_cast<uint4*>(out + (token * groups + group) * width + piece * 8) =
        make_uint4(pack(sum[0], sum[1]), pack(sum[2], sum[3]), pack(sum[4], sum[5]),
                   pack(sum[6], sum[7]));
  }
}

namespace {

template <int P, int N, int R, bool TURN>
void run(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
         cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(in.items * in.heads));
  const size_t totals = 8 * (N / 2) * sizeof(float);
  if (in.items > 0) {
    const size_t size =
        (ROWS * N + ROWS * P) * sizeof(bf16) + sizeof(Gates) + (TURN ? totals : 0);
    allow(local_gradients<P, N, R, TURN>, size);
    local_gradients<P, N, R, TURN><<<blocks, THREADS, size, stream>>>(in, saved, grad.dy, grad.local);
    check("local_gradients");
  }
  if (in.sequences > 0) {
    const dim3 grid((P * N / 2 + 255) / 256, static_cast<unsigned>(in.sequences * in.heads));
    pass_gradients<TURN><<<grid, 256, 0, stream>>>(in, saved, grad);
    check("pass_gradients");
  }
  if (in.items == 0) return;
  const size_t table = chunk_tokens<R>() * (N / 2) * sizeof(__half2);
  {
    const size_t size = (2 * ROWS * N + 2 * ROWS * P + P * N + ROWS * ROWS) * sizeof(bf16) +
                        sizeof(Gates) + (ROWS * R + 2 * ROWS) * sizeof(float) +
                        (TURN ? totals + table + ROWS * (N / 2) * sizeof(float) : 0);
    allow(query_gradients<P, N, R, TURN>, size);
    query_gradients<P, N, R, TURN><<<blocks, THREADS, size, stream>>>(in, saved, grad);
    check("query_gradients");
  }
  {
    const size_t shared = ROWS * N > 2 * ROWS * ROWS ? ROWS * N : 2 * ROWS * ROWS;
    const size_t size = (2 * ROWS * N + 2 * ROWS * P + P * N + shared) * sizeof(bf16) +
                        sizeof(Gates) + (ROWS * R + 11 * ROWS) * sizeof(float) +
                        (TURN ? totals + (N / 2) * sizeof(float) + table : 0);
    allow(key_gradients<P, N, R, TURN>, size);
    key_gradients<P, N, R, TURN><<<blocks, THREADS, size, stream>>>(in, saved, grad);
    check("key_gradients");
  }
}

}  // namespace

void scan_backward(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
                   cudaStream_t stream) {
  dispatch(in.head_dim, in.state, in.rank, in.angles >= 0, [&](auto shape) {
    using S = decltype(shape);
    run<S::P, S::N, S::R, S::TURN>(in, saved, grad, stream);
  });
}

void scan_sum_heads(const bf16* in, bf16* out, int64_t tokens, int heads, int groups, int width,
                    cudaStream_t stream) {
  const int64_t count = tokens * groups * (width / 8);
  if (count == 0) return;
  const int64_t blocks = (count + 255) / 256;
  sum_heads<<<static_cast<unsigned>(blocks < 8192 ? blocks : 8192), 256, 0, stream>>>(
      in, out, tokens, heads, groups, width);
  check("sum_heads");
}

}  // namespace cistron::cuda
