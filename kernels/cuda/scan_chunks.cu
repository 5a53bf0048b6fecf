// Gradients within chunks. With E_ts = (C_t . B_s)(dy_t . x_s) W_ts for s < t, the
// gradient of the log-decay at a token is everything that flows past it: the part of E
// with s before and t at or after it. Within a chunk that is a difference of row and
// column sums of the very same E. What flows over a chunk's ends is summed by where it comes
// from and goes to: in a running difference of what is put into the carried state and read
// from it roundings of a whole item would add up, and the sum over tokens that a bias or a
// decay rate takes would be several per cent off.
#include "scan_common.cuh"
#include "scan_launch.cuh"

namespace cistron::cuda {

// Turns a gradient pair back by the angle of its token.
__device__ __forceinline__ void turn_back(float& a, float& b, __half2 turn) {
  const float cosine = __low2float(turn), sine = __high2float(turn);
  const float x = a * cosine + b * sine;
  b = b * cosine - a * sine;
  a = x;
}

// Where the parts of chunk_gradients' shared memory lie, in bytes.
template <int P, int N, int R, bool TURN, int MOST>
struct ChunkRoom {
  // A warp's sums for the biases of four ranks take the place of its rows of x or dy, so that two
  // blocks fit a multiprocessor.
  static constexpr bool BIAS_IN_TILES = R * N * sizeof(float) == 16 * P * sizeof(bf16);
  int pitch;  // of the table of turns
  int gates, table, bias, turned, cross, barriers, total;

  __host__ __device__ explicit ChunkRoom(int angles) {
    constexpr int tiles = (2 * ROWS * N + 2 * ROWS * P + 2 * P * N) * sizeof(bf16);
    int squares = 2 * ROWS * ROWS * sizeof(bf16);
    if (TURN) {
      const int turns = sizeof(Turns<N>) + (chunk_tokens<R>() * MOST + ROWS) * sizeof(float);
      squares = turns > squares ? turns : squares;
    }
    pitch = MOST <= 32 ? 36 : TABLE<N>;
    // Never so, but for offsets that it knows the compiler computes descriptors once a lane.
    if (angles > N) squares += angles;
    gates = tiles + squares;
    table = gates + sizeof(Gates) + (24 + 10 * ROWS) * sizeof(float);
    bias = table + (TURN ? chunk_tokens<R>() * pitch * sizeof(__half2) : 0);
    turned = bias + (TURN && !BIAS_IN_TILES ? 2 * 4 * R * N * sizeof(float) : 0);
    if (BIAS_IN_TILES) bias = 2 * ROWS * N * sizeof(bf16);
    total = turned + (TURN ? 4 * angles * sizeof(float) : 0);
    cross = total;  // of the pairs from 32 on, for which p has no room
    if (angles > 32) total += 2 * ROWS * 16 * sizeof(float);
    barriers = (total + 7) / 8 * 8;
    total = barriers + 8 * sizeof(uint64_t);
  }
};

// a + b * by of two pairs.
__device__ __forceinline__ uint32_t add_pair(uint32_t a, uint32_t b, float by) {
  const float2 x = unpack(a), y = unpack(b);
  return pack(fmaf(y.x, by, x.x), fmaf(y.y, by, x.y));
}

// Product of two pairs, summed.
__device__ __forceinline__ float dot(uint32_t a, uint32_t b) {
  const float2 x = unpack(a), y = unpack(b);
  return fmaf(x.x, y.x, x.y * y.y);
}

// x_1 y_2 - x_2 y_1 of two pairs.
__device__ __forceinline__ float cross_product(uint32_t a, uint32_t b) {
  const float2 x = unpack(a), y = unpack(b);
  return x.x * y.y - x.y * y.x;
}

// Sums over the ranks of each token: a lane has two tokens, or one with a rank above one.
template <int R>
__device__ __forceinline__ float2 by_token(const float* rows) {
  const int lane = threadIdx.x & 31;
  if constexpr (R == 1) return *reinterpret_cast<const float2*>(rows + 2 * lane);
  float sum = 0;
  if (lane < chunk_tokens<R>())
#pragma unroll
    for (int r = 0; r < R; ++r) sum += rows[lane * R + r];
  return make_float2(sum, 0);
}

// Gradients of x, B, C and the gates within one chunk, given the state before it and the
// gradient of the state after it. A block runs over the heads that share B and C and sums
// their gradients in registers: one half of its warps that of C, the other that of B and x.
// Rows are tokens times ranks. With G_st = (dy_t . x_s) W_ts and P_st = (C_t . B_s) W_ts:
//
//   dC_t = sum_s G_st B_s + e^{L_t} dy_t . h     dB_s = sum_t G_st C_t + w_s x_s . dh
//   dx_s = sum_t P_st dy_t + w_s B_s . dh + D dy_s
//
// At most MOST pairs turn.
template <int P, int N, int R, bool TURN, int MOST>
__global__ void __launch_bounds__(THREADS, R > 4 ? 1 : 2)
    chunk_gradients(ScanInputs in, ScanSaved saved, ScanGradients grad, int per_item, int splits,
                    const __grid_constant__ ScanMaps maps) {
  extern __shared__ __align__(1024) char memory[];
  using Room = ChunkRoom<P, N, R, TURN, MOST>;
  constexpr int TOKENS = chunk_tokens<R>();
  constexpr int OF_GATES = sizeof(Gates) / sizeof(float);  // delta follows
  const Room room(in.angles);
  bf16* q = reinterpret_cast<bf16*>(memory);
  bf16* k = q + ROWS * N;
  bf16* v = k + ROWS * N;
  bf16* o = v + ROWS * P;
  bf16* s = o + ROWS * P;
  bf16* ds = s + P * N;
  bf16* g = ds + P * N;
  bf16* p = g + ROWS * ROWS;
  Turns<N>& turns = *reinterpret_cast<Turns<N>*>(g);  // before g and p are
  float* theta = reinterpret_cast<float*>(&turns + 1);
  float* delta = theta + TOKENS * MOST;
  Gates& gates = *reinterpret_cast<Gates*>(memory + room.gates);
  float* scratch = reinterpret_cast<float*>(&gates + 1);  // [3][8]
  float* columns = scratch + 24;                          // E over t, by s: [2][64]
  float* diagonal = columns + 2 * ROWS;                   // [2][64]
  float* through = diagonal + 2 * ROWS;                   // read from the state, put into it: [2][64]
  float* rows = through + 2 * ROWS;                       // E over s, by t: [4][64]
  __half2* table = reinterpret_cast<__half2*>(memory + room.table);
  float* bias = reinterpret_cast<float*>(memory + room.bias);    // of b and c: [2][4][R][N]
  float* turned_by = reinterpret_cast<float*>(memory + room.turned);  // [4][angles]
  // For want of registers a head's gradients of B and C are made by 32 columns.
  constexpr int WIDTH = TURN ? 32 : N / 2, PARTS = N / WIDTH;

  const int each = in.heads / in.groups / splits;
  const int split = blockIdx.x % (in.groups * splits), group = split / splits;
  const int64_t block = blockIdx.x / (in.groups * splits);
  const int64_t number = block / per_item;
  const ScanItem item = in.item[number];
  const int lane = threadIdx.x & 31;
  // By parts of the columns, of both halves; of half 1; of both; of what turns and of the rest.
  const uint32_t turned_there = shared_address(memory + room.barriers);
  const uint32_t p_read = turned_there + 32, y_read = turned_there + 40;
  const uint32_t tiles_there = turned_there + 48, rest_there = turned_there + 56;
  if (threadIdx.x < 6)
    barrier_begin(turned_there + 8 * threadIdx.x, threadIdx.x == 4 ? THREADS / 2 : THREADS);
  if (threadIdx.x == 0) {
    bulk_begin(tiles_there);
    bulk_begin(rest_there);
  }
  uint32_t turn = 0;  // of those two

  for (int first = static_cast<int>(block % per_item) * TOKENS; first < item.tokens;
       first += per_item * TOKENS) {
    const int64_t token = item.start + first, chunk = item.chunk + first / TOKENS;
    const int tokens = item.tokens - first;
    Part<WIDTH / 8> whole[PARTS];  // by parts of the columns, in the order in which they are made
    const bool all_rows = maps.ready && tokens >= TOKENS;
    auto load = [&](int head) {
      const bool tiles = TURN || head == split * each;
      const int64_t place = chunk * in.heads + head, state = place * (P * N);
      const float* of_rows = saved.gates + place * SCAN_GATES * ROWS;
      const float* base = TURN ? saved.angle + place * in.angles : nullptr;
      if (all_rows) {
        if (threadIdx.x != 0) return;
        constexpr int TILES = 2 * ROWS * N * sizeof(bf16);
        const uint32_t barrier = TURN ? tiles_there : rest_there;
        bulk_expect(rest_there, (2 * ROWS * P + 2 * P * N) * sizeof(bf16) + sizeof(Gates) +
                                    (!TURN && tiles ? TILES : 0));
        if (TURN) {
          bulk_expect(tiles_there, TILES + (TOKENS * MOST + ROWS + in.angles) * sizeof(float));
          bulk_copy(theta, maps.theta, 0, static_cast<int>(token), barrier);
          bulk_copy(delta, of_rows + OF_GATES, ROWS * sizeof(float), barrier);
          bulk_copy(turns.base, base, in.angles * sizeof(float), barrier);
        }
        if (tiles) {
          bulk_tile<N, R>(q, maps.c, group, token, barrier);
          bulk_tile<N, R>(k, maps.b, group, token, barrier);
        }
        // Without angles the next head's are fetched ahead, and these are to make way for them.
        bulk_tile<P, R, !TURN>(v, maps.x, head, token, rest_there);
        bulk_tile<P, R, !TURN>(o, maps.dy, head, token, rest_there);
        bulk_copy(&gates, of_rows, sizeof(Gates), rest_there);
        bulk_copy<!TURN>(s, grad.states + state, P * N * sizeof(bf16), rest_there);
        bulk_copy<!TURN>(ds, grad.dstates_of + state, P * N * sizeof(bf16), rest_there);
        if (!TURN && head + 1 < (split + 1) * each) {
          bulk_prefetch(maps.x, 0, 0, head + 1, static_cast<int>(token));
          bulk_prefetch(maps.dy, 0, 0, head + 1, static_cast<int>(token));
          bulk_prefetch(grad.states + state + P * N, P * N * sizeof(bf16));
          bulk_prefetch(grad.dstates_of + state + P * N, P * N * sizeof(bf16));
        }
        return;
      }
      if (tiles) {
        load_tile<N, R>(q, in.c, group, token, tokens);
        load_tile<N, R>(k, in.b, group, token, tokens);
      }
      if (TURN) {
        load_theta<R, MOST>(theta, in, token, tokens);
        load_words(delta, of_rows + OF_GATES, ROWS);
        if (threadIdx.x < in.angles)
          copy_word_async(turns.base + threadIdx.x, base + threadIdx.x, true);
        copies_commit();
      }
      load_tile<P, R>(v, in.x, head, token, tokens);
      load_tile<P, R>(o, grad.dy, head, token, tokens);
      load_words(gates.decay, of_rows, OF_GATES);
#pragma unroll
      for (int i = 0; i < P * N; i += THREADS * 8) {
        const int at = i + threadIdx.x * 8;
        copy_async(s + at, grad.states + state + at, true);
        copy_async(ds + at, grad.dstates_of + state + at, true);
      }
      if (threadIdx.x == 0) {
        if (TURN) barrier_arrive(tiles_there);
        barrier_arrive(rest_there);
      }
    };
    __syncthreads();
    auto finish_bias = [&](int head) {
      if (TURN)
#pragma unroll
        for (int first = 0; first < 2 * R * N; first += THREADS) {
          const int i = first + threadIdx.x;
          if (2 * R * N < THREADS && i >= 2 * R * N) break;
          const float* from = bias + i / (R * N) * 4 * R * N + i % (R * N);
          grad.dbias[chunk * grad.parts + head * 2 * R * N + i] =
              from[0] + from[R * N] + from[2 * R * N] + from[3 * R * N];
        }
    };
    // Writes what a head's warps left in shared memory.
    float2 own_weight{};
    float own_decay = 0;
    auto finish = [&](int head) {
      if (threadIdx.x < 32) {
        // `later` flows from before the chunk, or from an earlier token, to this token or a later
        // one of the chunk; `earlier` from an earlier one of the chunk over its end, and the last
        // part from before it over its end.
        const float2 within[2] = {by_token<R>(columns), by_token<R>(columns + ROWS)};
        const float2 read = by_token<R>(through), put = by_token<R>(through + ROWS);
        const float2 same[2] = {by_token<R>(diagonal), by_token<R>(diagonal + ROWS)};
        const float2 column{within[0].x + within[1].x, within[0].y + within[1].y};
        float2 later{read.x - own_weight.x * column.x, read.y - own_weight.y * column.y};
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) {
          const float2 row = by_token<R>(rows + tile * ROWS);
          later.x += row.x;
          later.y += row.y;
        }
        float2 earlier{own_weight.x * put.x, own_weight.y * put.y};
        float after = later.x + later.y, before = earlier.x + earlier.y;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
          const float up = __shfl_down_sync(~0u, after, step);
          const float down = __shfl_up_sync(~0u, before, step);
          if (lane + step < 32) after += up;
          if (lane >= step) before += down;
        }
        before -= earlier.x + earlier.y;  // of this lane's own tokens
        float past = 0;
#pragma unroll
        for (int w = 0; w < 8; ++w) past += scratch[8 + 8 * (head & 1) + w];
        past *= own_decay;
        const int t = R == 1 ? 2 * lane : lane;
        const int64_t index = (token + t) * in.heads + head;
        if (t < tokens && t < TOKENS) {
          grad.dweight[index] = column.x + put.x;
          grad.dgamma[index] = same[0].x + same[1].x;
          grad.dlog_decay[index] = past + before + after;
        }
        if (R == 1 && t + 1 < tokens) {
          grad.dweight[index + in.heads] = column.y + put.y;
          grad.dgamma[index + in.heads] = same[0].y + same[1].y;
          grad.dlog_decay[index + in.heads] = past + (before + earlier.x) + (after - later.x);
        }
      }
      if (threadIdx.x == THREADS - 1) {
        float dskip = 0;
#pragma unroll
        for (int w = 0; w < 8; ++w) dskip += scratch[w];
        grad.dskip[chunk * grad.parts + head] = dskip;
      }
      if (!Room::BIAS_IN_TILES) finish_bias(head);
      if (TURN && threadIdx.x < in.angles) {
        const float* from = turned_by + threadIdx.x;
        grad.chunk_turning[(chunk * in.heads + head) * in.angles + threadIdx.x] =
            from[0] + from[in.angles] + from[2 * in.angles] + from[3 * in.angles];
      }
    };
    for (int head = split * each; head < (split + 1) * each; ++head) {
      if (Room::BIAS_IN_TILES && head > split * each) {
        finish_bias(head - 1);
        __syncthreads();
      }
      load(head);
      if (head > split * each) finish(head - 1);
      // What later items add to the gradient of the state; each thread to what it has loaded.
      constexpr int PIECES = P * N / (THREADS * 8);
      uint4 later[PIECES];
      const bf16* ends = grad.local + (number * in.heads + head) * (P * N) + threadIdx.x * 8;
#pragma unroll
      for (int i = 0; i < PIECES; ++i)
        later[i] = *reinterpret_cast<const uint4*>(ends + i * THREADS * 8);
      const float left_of_item = grad.left[chunk * in.heads + head];
      if (TURN) {
        // Rows turn while the rest comes.
        const RowBias<N, R> c_bias(bias_of(in.c_bias, head, R * N));
        const RowBias<N, R> b_bias(bias_of(in.b_bias, head, R * N));
        bulk_wait(tiles_there, turn);
        if (!all_rows) {
          copies_done<1>();
          __syncthreads();
        }
        Angles<N, R, MOST> angles;
        angles.sum(turns, theta, delta, in.angles);
        rotate_tiles<N, R, true>(q, c_bias, k, b_bias, angles, in.angles, table, room.pitch);
      } else {
        __syncwarp();  // or loads move behind the wait
      }
      const float to_item_end = power_of_two(left_of_item);
      bulk_wait(rest_there, turn++);
      if (!all_rows) copies_done();
      float past = 0;  // what flows from before the chunk to after it
#pragma unroll
      for (int i = 0; i < PIECES; ++i) {
        uint4& own = *reinterpret_cast<uint4*>(ds + (i * THREADS + threadIdx.x) * 8);
        own = make_uint4(add_pair(own.x, later[i].x, to_item_end),
                         add_pair(own.y, later[i].y, to_item_end),
                         add_pair(own.z, later[i].z, to_item_end),
                         add_pair(own.w, later[i].w, to_item_end));
        const uint4 h = *reinterpret_cast<const uint4*>(s + (i * THREADS + threadIdx.x) * 8);
        past += dot(own.x, h.x) + dot(own.y, h.y) + dot(own.z, h.z) + dot(own.w, h.w);
      }
      for (int step = 16; step > 0; step /= 2) past += __shfl_xor_sync(~0u, past, step);
      if (lane == 0) scratch[8 + 8 * (head & 1) + (threadIdx.x >> 5)] = past;
      stores_done();
      __syncthreads();
      // Here, so that addresses are not kept from head to head.
      const int warp = warp_number(), row = (warp & 3) * 16, half = warp >> 2;
      const int mine = row + (lane >> 2);
      // This half's projection, the other's, its values and state.
      const bf16 *own = half ? k : q, *other = half ? q : k;
      const bf16 *value = half ? v : o, *through_state = half ? ds : s;
      const int first = 32 * half;
      Part<4> inner;
      inner.template begin_fresh<P>(Left<P>(v, row), Right<P>(o, first));
      {
        // Rows are s, columns t.
        Part<4> scores;
        scores.template begin_fresh<N>(Left<N>(k, row), Right<N>(q, first));
        inner.template wait<1>();
        float dskip = 0;  // dy . x of the same row
        inner.each([&](float& a, float& b, int f, int h) {
          const int apart = mine + 8 * h - first - 8 * f - 2 * (lane & 3);
          dskip += apart == 0 ? a : apart == 1 ? b : 0.0f;
        });
        for (int step = 16; step > 0; step /= 2) dskip += __shfl_xor_sync(~0u, dskip, step);
        if (lane == 0) scratch[warp] = dskip;
        scores.template wait<0>();
        const Elements<ROWS> kept_place(p, row, first), turned_place(g, row, first);
        float by_column[2] = {0, 0}, by_diagonal[2] = {0, 0}, by_row[8];
        const float row_decay[2] = {gates.decay[mine], gates.decay[mine + 8]};
        const float row_weight[2] = {gates.weight[mine], gates.weight[mine + 8]};
        const float row_gamma[2] = {gates.gamma[mine], gates.gamma[mine + 8]};
        if (row > first + 31) {  // every s is later than every t
#pragma unroll
          for (int f = 0; f < 4; ++f) {
            by_row[2 * f] = by_row[2 * f + 1] = 0;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              kept_place.store(f, h, 0);
              turned_place.store(f, h, 0);
            }
          }
        } else {
#pragma unroll
          for (int f = 0; f < 4; ++f) {
            by_row[2 * f] = by_row[2 * f + 1] = 0;
            const int j0 = first + 8 * f + 2 * (lane & 3);
            const float2 decay = *reinterpret_cast<const float2*>(&gates.decay[j0]);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              const int u = (mine + 8 * h) / R;
              float kept[2], turned[2];
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                const int t = (j0 + e) / R;
                const float score = scores.value[f][2 * h + e];
                const float product = inner.value[f][2 * h + e];
                const float left =
                    u < t ? power_of_two((e ? decay.y : decay.x) - row_decay[h]) : 0.0f;
                const float flows = left * score * product;
                by_column[h] += flows;
                by_row[2 * f + e] = fmaf(flows, row_weight[h], by_row[2 * f + e]);
                if (u == t) by_diagonal[h] += score * product;
                const float weight = u == t ? row_gamma[h] : left * row_weight[h];
                kept[e] = score * weight;
                turned[e] = product * weight;
              }
              kept_place.store(f, h, pack(kept[0], kept[1]));
              turned_place.store(f, h, pack(turned[0], turned[1]));
            }
          }
        }
        sum_columns(by_row);
        const int j = lane >> 2;
        rows[(row / 16) * ROWS + first + 8 * (j >> 1) + 2 * (lane & 3) + (j & 1)] = by_row[0];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          by_column[h] = sum_row(by_column[h]);
          by_diagonal[h] = sum_row(by_diagonal[h]);
          if ((lane & 3) == 0) {
            columns[half * ROWS + mine + 8 * h] = by_column[h];
            diagonal[half * ROWS + mine + 8 * h] = by_diagonal[h];
          }
        }
      }
      stores_done();
      __syncthreads();
      // What is left of a state at a row, or of a row at the chunk's end.
      const float left[2] = {half ? to_end(gates, mine) : kept(gates, mine),
                             half ? to_end(gates, mine + 8) : kept(gates, mine + 8)};
      const float weight[2] = {half ? gates.weight[mine] : 1.0f,
                               half ? gates.weight[mine + 8] : 1.0f};
      {
        Part<P / 8> part;
        part.template begin<N>(Left<N>(own, row), Right<N, P>(through_state, 0));
        part.template wait<0>();
        const Elements<P> place(value, row, 0), y_place(o, row, 0);
        float sum[2] = {0, 0};
        part.each([&](float& a, float& b, int f, int h) {
          const float2 c = unpack(place.load(f, h));
          sum[h] += a * c.x + b * c.y;
        });
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          sum[h] = left[h] * sum_row(sum[h]);
          if ((lane & 3) == 0) through[half * ROWS + mine + 8 * h] = sum[h];
        }
        if (half) {
          const float skip = in.skip ? in.skip[head] : 0.0f;
          part.scale_rows(left[0] * weight[0], left[1] * weight[1]);
          part.template begin<ROWS>(Left<ROWS>(p, row), RightTransposed<P>(o, 0), row, ROWS);
          part.template wait<0>();
          part.each([&](float& a, float& b, int f, int h) {
            const float2 y = unpack(y_place.load(f, h));
            a = fmaf(skip, y.x, a);
            b = fmaf(skip, y.y, b);
          });
          barrier_sync(p_read);  // p is free from here on
          if (Room::BIAS_IN_TILES) barrier_arrive(y_read);  // and dy
          part.template write_out<R>(
              p, row, grad.dx.data + head * grad.dx.head + (token + row / R) * grad.dx.token,
              grad.dx.token, grad.dx.rank, tokens * R - row);
          __syncwarp();
        }
      }
      const float by[2] = {left[0] * weight[0], left[1] * weight[1]};
      // Adds to the columns from `column` on of the gradient of C or B what comes through a state,
      // and what comes from within the chunk.
      auto add_state = [&](auto& sum, const auto& values, int column) {
        sum.template begin<P>(values, RightTransposed<N, P>(through_state, column));
      };
      auto add_rows = [&](auto& sum, int column) {
        if (half)
          sum.template begin<ROWS>(Left<ROWS>(g, row), RightTransposed<N>(other, column), row, ROWS);
        else
          sum.template begin<ROWS>(LeftTransposed<ROWS>(g, row), RightTransposed<N>(other, column),
                                   0, row + 16);
      };
      if constexpr (!TURN) {
        const LeftScaled<P> values(value, row, by[0], by[1]);
        auto add = [&](const auto& rows, int first, int last) {
#pragma unroll
          for (int i = 0; i < PARTS; ++i) {
            add_state(whole[i], values, i * WIDTH);
            whole[i].template begin<ROWS>(rows, RightTransposed<N>(other, i * WIDTH), first, last);
          }
#pragma unroll
          for (int i = 0; i < PARTS; ++i) whole[i].template wait<0>();
        };
        if (half)
          add(Left<ROWS>(g, row), row, ROWS);
        else
          add(LeftTransposed<ROWS>(g, row), 0, row + 16);
      } else {
        // Turns what one head adds back, and sums it over tokens for the bias. The half that has
        // made dx hands on by how much the angles of B change things, first the columns that turn;
        // the other, last those, adds that of C.
        using Values = std::conditional_t<Room::BIAS_IN_TILES, LeftHeld<P>, Left<P>>;
        const Values values(value, row);
#pragma unroll
        for (int i = 0; i < PARTS; ++i) {
          const int c = half ? i : i ^ (PARTS / 2);
          const int column = c * WIDTH, pair = c * (WIDTH / 2) + (lane & 3);
          Part<WIDTH / 8> part;
          add_state(part, values, column);
          const bool may_turn = MOST == N / 2 || half == (i < PARTS / 2);
          const bool turned = may_turn && c * (WIDTH / 2) < in.angles;
          const Elements<N> place(own, row, column);
          // What turns over the chunk's start: what flows from there over its end, and what C reads
          // from the state before it.
          float changes[4] = {0, 0, 0, 0};
          if (turned && half == 0 && row < P) {
            const Elements<N, P> from_place(s, row, column), to_place(ds, row, column);
            const float over = power_of_two(chunk_decay(gates));
#pragma unroll
            for (int f = 0; f < 4; ++f)
              changes[f] = over * (cross_product(to_place.load(f, 0), from_place.load(f, 0)) +
                                   cross_product(to_place.load(f, 1), from_place.load(f, 1)));
          }
          part.template wait<0>();
          part.scale_rows(by[0], by[1]);  // exactly, where a scaled operand would be rounded
          if (turned && half == 0) {
            part.each([&](float& a, float& b, int f, int h) {
              const float2 from = unpack(place.load(f, h));
              changes[f] += from.x * b - from.y * a;
            });
            sum_columns(changes);
            const int at = pair + 4 * (lane >> 3);
            if ((lane & 4) == 0 && at < in.angles)
              turned_by[(row / 16) * in.angles + at] = changes[0];
          }
          add_rows(part, column);
          part.template wait<0>();
          if (Room::BIAS_IN_TILES && i == 0) {  // no one reads this warp's rows of x or dy any more
            if (half)
              __syncwarp();
            else
              barrier_sync(y_read);
          }
          if (turned) {
            // 16 rows of a warp by 16 pairs, in the rows of p from which it has written dx.
            float* cross = (c < 2 ? reinterpret_cast<float*>(p)
                                  : reinterpret_cast<float*>(memory + room.cross)) +
                           row * 32 + (c & 1) * 256;
            auto crossed = [&](int f, int h) -> float& {
              const int i = (lane >> 2) + 8 * h;
              return cross[i * 16 + ((4 * f + (lane & 3)) ^ (2 * i & 12))];
            };
            float change[8];
#pragma unroll
            for (int f = 0; f < 4; ++f)
#pragma unroll
              for (int h = 0; h < 2; ++h) {
                float &a = part.value[f][2 * h], &b = part.value[f][2 * h + 1];
                const float2 from = unpack(place.load(f, h));
                change[2 * f + h] = from.x * b - from.y * a;
                turn_back(a, b, table[(mine + 8 * h) / R * room.pitch + pair + 4 * f]);
              }
            if (half) {
#pragma unroll
              for (int i = 0; i < 8; ++i) crossed(i / 2, i % 2) = change[i];
              barrier_arrive(turned_there + 8 * c);
            } else {
              barrier_sync(turned_there + 8 * c);
#pragma unroll
              for (int h = 0; h < 2; ++h) {
                float sum[4];
#pragma unroll
                for (int f = 0; f < 4; ++f) {
                  sum[f] = change[2 * f + h] + crossed(f, h);
#pragma unroll
                  for (int step = 4; step < 4 * R; step *= 2)
                    sum[f] += __shfl_xor_sync(~0u, sum[f], step);
                }
                const int row = mine + 8 * h;
                if ((lane >> 2) % R == 0 && row < tokens * R)
                  __stcs(reinterpret_cast<uint2*>(
                             grad.dangle +
                             ((token + row / R) * in.heads + head) * angle_pitch(in.angles) +
                             16 * c + 4 * (lane & 3)),
                         make_uint2(pack(sum[0], sum[1]), pack(sum[2], sum[3])));
              }
            }
          }
          float sums[8];
#pragma unroll
          for (int f = 0; f < 4; ++f)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              float* values = part.value[f];
              whole[i].value[f][e] += values[e];
              whole[i].value[f][2 + e] += values[2 + e];
              sums[2 * f + e] = values[e] + values[2 + e];
            }
          sum_columns<R>(sums);
          float* bias_of_tile = bias + (half ? 0 : 4 * R * N) + (row / 16) * R * N +
                                (lane >> 2) % R * N + column;
#pragma unroll
          for (int k = 0; k < R; ++k) {
            const int j = (lane >> 2) / R * R + k;
            bias_of_tile[8 * (j >> 1) + 2 * (lane & 3) + (j & 1)] = sums[k];
          }
        }
      }
      own_weight = R == 1 ? *reinterpret_cast<const float2*>(gates.weight + 2 * lane)
                          : make_float2(gates.weight[lane * R % ROWS], 0);
      own_decay = power_of_two(chunk_decay(gates));
      stores_done();
      __syncthreads();
    }
    finish((split + 1) * each - 1);
    if (Room::BIAS_IN_TILES) finish_bias((split + 1) * each - 1);
    const int warp = warp_number(), half = warp >> 2, mine = (warp & 3) * 16 + (lane >> 2);
    const int64_t stride = half ? grad.db_token : grad.dc_token;
    bf16* to = (half ? grad.db : grad.dc) + (token + mine / R) * stride + (split * R + mine % R) * N;
#pragma unroll
    for (int i = 0; i < PARTS; ++i)
      whole[i].write_out(to + (TURN && !half ? i ^ (PARTS / 2) : i) * WIDTH, stride / R,
                         tokens * R - mine);
  }
}

// Sums over the parts of a group. A thread holds eight values of SCAN_SLAB / 16 tokens.
__global__ void __launch_bounds__(256) sum_heads(const bf16* in, bf16* out, int64_t stride,
                                                 int64_t tokens, int heads, int groups, int width) {
  constexpr int LANES = 16, EACH = SCAN_SLAB / LANES;
  const int per_group = heads / groups, group = blockIdx.y % groups, block = blockIdx.y / groups;
  const int piece = threadIdx.x % 16, row = threadIdx.x / 16, column = block * 128 + piece * 8;
  const int64_t first = blockIdx.x * static_cast<int64_t>(SCAN_SLAB) + row;
  const bool inside = column < width;
  float sum[EACH][8];
#pragma unroll
  for (int i = 0; i < EACH; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[i][j] = 0;
  for (int h = group * per_group; h < (group + 1) * per_group; ++h) {
    uint4 words[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const int64_t token = first + i * LANES;
      words[i] = inside && token < tokens
                     ? __ldcs(reinterpret_cast<const uint4*>(in + (token * heads + h) * width + column))
                     : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const uint32_t pairs[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 v = unpack(pairs[j]);
        sum[i][2 * j] += v.x;
        sum[i][2 * j + 1] += v.y;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < EACH; ++i) {
    const int64_t token = first + i * LANES;
    if (inside && token < tokens)
      *reinterpret_cast<uint4*>(out + token * stride + group * width + column) =
          make_uint4(pack(sum[i][0], sum[i][1]), pack(sum[i][2], sum[i][3]),
                     pack(sum[i][4], sum[i][5]), pack(sum[i][6], sum[i][7]));
  }
}

namespace {

template <typename S>
void run(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
         cudaStream_t stream) {
  constexpr int P = S::P, N = S::N, R = S::R, MOST = S::MOST;
  constexpr bool TURN = S::TURN;
  const int per_item = chunks_per_item(in), splits = scan_splits(in);
  const auto blocks = static_cast<unsigned>(in.items * per_item * in.groups * splits);
  const size_t size = ChunkRoom<P, N, R, TURN, MOST>(in.angles).total;
  allow(chunk_gradients<P, N, R, TURN, MOST>, size);
  chunk_gradients<P, N, R, TURN, MOST><<<blocks, THREADS, size, stream>>>(
      in, saved, grad, per_item, splits, scan_maps<S>(in, &grad.dy));
  CISTRON_LAUNCH_CHECK("chunk_gradients");
}

}  // namespace

int scan_splits(const ScanInputs& in) {
  const int heads = in.heads / in.groups;
  // Two blocks a multiprocessor, several times over.
  int splits = 1;
  while (in.chunks * in.groups * splits < 1024 && heads % (2 * splits) == 0) splits *= 2;
  return splits;
}

void scan_chunks(const ScanInputs& in, const ScanSaved& saved, const ScanGradients& grad,
                 cudaStream_t stream) {
  dispatch(in.head_dim, in.state, in.rank, in.angles,
           [&](auto shape) { run<decltype(shape)>(in, saved, grad, stream); });
}

void scan_sum_heads(const bf16* in, bf16* out, int64_t stride, int64_t tokens, int heads,
                    int groups, int width, cudaStream_t stream) {
  if (tokens == 0) return;
  const dim3 grid(static_cast<unsigned>((tokens + SCAN_SLAB - 1) / SCAN_SLAB),
                  groups * ((width + 127) / 128));
  sum_heads<<<grid, 256, 0, stream>>>(in, out, stride, tokens, heads, groups, width);
  CISTRON_LAUNCH_CHECK("sum_heads");
}

}  // namespace cistron::cuda
