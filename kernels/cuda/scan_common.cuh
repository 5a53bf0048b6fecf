// What the passes of the scan share: loading a chunk, its decays, its rotation.
#pragma once
#include "bulk.cuh"
#include "scan.h"

#include <cuda_fp16.h>
#include <type_traits>

namespace cistron::cuda {

constexpr int ROWS = 64;      // rows of a chunk: tokens times ranks
constexpr int THREADS = 256;  // eight warps: four row tiles by two column halves

// Decays of one chunk, by row: to after its token from before the chunk, s, and gamma. Logarithms
// are to base 2; rows past the last token repeat its decay and have no weight.
struct Gates {
  float decay[ROWS], weight[ROWS], gamma[ROWS];
};

// As `chunk_gates` writes them: also delta by token, what is left at a row of the state before the
// chunk, and of a row, weighted, at the chunk's end.
struct ChunkGates : Gates {
  float delta[ROWS], kept[ROWS], put[ROWS];
};
static_assert(sizeof(ChunkGates) == SCAN_GATES * ROWS * sizeof(float));

template <int R>
__host__ __device__ constexpr int chunk_tokens() {
  return ROWS / R;
}

// How the copy engine finds rows and angles; not ready where rows come one by one.
struct ScanMaps {
  CUtensorMap x, b, c, dy, theta;
  bool ready;
};

// Copies a tile of 64 whole rows; one thread calls it.
template <int W, int R, bool BRIEF = false>
__device__ __forceinline__ void bulk_tile(bf16* tile, const CUtensorMap& map, int head,
                                          int64_t token, uint32_t barrier) {
#pragma unroll
  for (int panel = 0; panel < W / 64; ++panel)
    bulk_copy<BRIEF>(tile + panel * ROWS * 64, map, 64 * panel, 0, head, static_cast<int>(token),
                     barrier);
}

// Loads 64 rows of W values into a tile; rows past the last token are zeros.
template <int W, int R>
__device__ __forceinline__ void load_tile(bf16* tile, const ScanRows& rows, int64_t head,
                                          int64_t token, int tokens) {
  constexpr int pieces = W / 8, step = THREADS / pieces;
  static_assert(step % R == 0 && step % 8 == 0, "steps keep the rank and the order of pieces");
  const int row = threadIdx.x / pieces, piece = threadIdx.x % pieces;
  const bf16* from = rows.data + head * rows.head + (token + row / R) * rows.token +
                     (row % R) * rows.rank + piece * 8;
  const int64_t stride = (step / R) * rows.token;
  bf16* to = tile + at<W>(row, piece * 8);
#pragma unroll
  for (int i = 0; i < ROWS / step; ++i) {
    const bool valid = (row + i * step) / R < tokens;
    copy_async(to + i * step * PITCH<W>, from, valid);
    from += stride;
  }
}

// Copies neighbouring words, a multiple of four.
__device__ __forceinline__ void load_words(float* to, const float* from, int count) {
  for (int i = 4 * threadIdx.x; i < count; i += 4 * THREADS) copy_async(to + i, from + i, true);
}

// What is left of the state before the chunk at a row, and of a row at the chunk's end.
__device__ __forceinline__ float kept(const Gates& gates, int row) {
  return power_of_two(gates.decay[row]);
}

__device__ __forceinline__ float to_end(const Gates& gates, int row) {
  return power_of_two(gates.decay[ROWS - 1] - gates.decay[row]);
}

__device__ __forceinline__ float chunk_decay(const Gates& gates) { return gates.decay[ROWS - 1]; }

// The same angle, near zero. Two-part 2 pi: an item's angle may be hundreds of turns.
// Adding 1.5 * 2^23 rounds to a whole number; a rounding instruction runs at a quarter of the rate.
__device__ __forceinline__ float principal(float angle) {
  const float turns = fmaf(angle, 0.15915494309189535f, 12582912.0f) - 12582912.0f;
  angle = fmaf(turns, -6.28318548202514648f, angle);
  return fmaf(turns, 1.7484556000744883e-7f, angle);
}

// What the angles of a chunk follow from, in shared memory.
template <int N>
struct Turns {
  float base[N / 2];       // angles before the chunk
  float totals[8 * N / 2];  // by segment
};

// Loads theta as [tokens][MOST], with zeros for what is not there.
template <int R, int MOST>
__device__ __forceinline__ void load_theta(float* theta, const ScanInputs& in, int64_t token,
                                           int tokens) {
  const float* rows = in.theta + token * in.angles;
  const int width = in.angles % 4 == 0 ? 4 : 1;
  for (int i = width * threadIdx.x; i < chunk_tokens<R>() * MOST; i += width * THREADS) {
    const int t = i / MOST, pair = i % MOST;
    const bool valid = t < tokens && pair < in.angles;
    const float* from = rows + t * in.angles + pair;
    if (width == 4)
      copy_async(theta + i, from, valid);
    else
      copy_word_async(theta + i, from, valid);
  }
}

// Angles of a chunk, of at most MOST pairs: warp w holds tokens w * SEGMENT .. , lane l the pairs l
// and l + 32.
template <int N, int R, int MOST>
struct Angles {
  static constexpr int SEGMENT = chunk_tokens<R>() / 8;
  static constexpr int PAIRS = (MOST + 31) / 32;
  float value[SEGMENT][PAIRS];

  // One barrier. What is loaded is all asked for before it is used.
  __device__ __forceinline__ void sum(Turns<N>& turns, const float* theta, const float* delta,
                                      int pairs) {
    const int lane = threadIdx.x & 31, warp = warp_number();
    float step[SEGMENT];
#pragma unroll
    for (int j = 0; j < SEGMENT; ++j) step[j] = delta[warp * SEGMENT + j];
#pragma unroll
    for (int k = 0; k < PAIRS; ++k) {
      const float* row = theta + warp * SEGMENT * MOST + lane + 32 * k;
#pragma unroll
      for (int j = 0; j < SEGMENT; ++j) value[j][k] = row[j * MOST];
      value[0][k] *= step[0];
#pragma unroll
      for (int j = 1; j < SEGMENT; ++j) value[j][k] = fmaf(step[j], value[j][k], value[j - 1][k]);
      turns.totals[warp * (N / 2) + lane + 32 * k] = value[SEGMENT - 1][k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < PAIRS; ++k) {
      const int pair = lane + 32 * k;
      float before = pair < pairs ? turns.base[pair] : 0.0f, earlier[7];
#pragma unroll
      for (int w = 0; w < 7; ++w) earlier[w] = turns.totals[w * (N / 2) + pair];
#pragma unroll
      for (int w = 0; w < 7; ++w) before += w < warp ? earlier[w] : 0.0f;
#pragma unroll
      for (int j = 0; j < SEGMENT; ++j) value[j][k] += before;
    }
  }
};

// What a pass that walks over an item's chunks reads of one: a wide tile (B or C), a narrow one
// (x or dy), decays and angles.
template <int P, int N, int R, bool TURN, int MOST>
struct Stage {
  static constexpr int TILES = (ROWS * N + ROWS * P) * sizeof(bf16);
  static constexpr int THETA = TURN ? chunk_tokens<R>() * MOST * sizeof(float) : 0;
  static constexpr int BYTES =
      (TILES + sizeof(ChunkGates) + (TURN ? sizeof(Turns<N>) : 0) + THETA + 1023) / 1024 * 1024;
  bf16 *wide, *narrow;
  ChunkGates* gates;
  Turns<N>* turns;
  float* theta;

  __device__ __forceinline__ explicit Stage(char* memory) {
    wide = reinterpret_cast<bf16*>(memory);
    narrow = wide + ROWS * N;
    gates = reinterpret_cast<ChunkGates*>(memory + TILES);
    turns = reinterpret_cast<Turns<N>*>(gates + 1);
    theta = reinterpret_cast<float*>(turns + 1);
  }

  struct Source {
    const ScanRows &wide, &narrow;
    const CUtensorMap &wide_map, &narrow_map, &theta_map;
    int group, head;
  };
  // Starts to load a chunk. The angles before it come with it if `base` is given.
  __device__ __forceinline__ void load(const ScanInputs& in, const Source& from, bool whole,
                                       int64_t token, int tokens, const float* chunk_gates,
                                       const float* base, uint32_t barrier) const {
    if (whole) {
      if (threadIdx.x == 0) {
        const int base_bytes = base != nullptr ? in.angles * sizeof(float) : 0;
        bulk_expect(barrier, TILES + sizeof(ChunkGates) + THETA + base_bytes);
        bulk_tile<N, R>(wide, from.wide_map, from.group, token, barrier);
        bulk_tile<P, R>(narrow, from.narrow_map, from.head, token, barrier);
        bulk_copy(gates, chunk_gates, sizeof(ChunkGates), barrier);
        if (TURN) bulk_copy(theta, from.theta_map, 0, static_cast<int>(token), barrier);
        if (base_bytes > 0) bulk_copy(turns->base, base, base_bytes, barrier);
      }
      return;
    }
    load_tile<N, R>(wide, from.wide, from.group, token, tokens);
    load_tile<P, R>(narrow, from.narrow, from.head, token, tokens);
    load_words(gates->decay, chunk_gates, SCAN_GATES * ROWS);
    if (TURN) load_theta<R, MOST>(theta, in, token, tokens);
    if (base != nullptr && threadIdx.x < in.angles)
      copy_word_async(turns->base + threadIdx.x, base + threadIdx.x, true);
    if (threadIdx.x == 0) barrier_arrive(barrier);  // so that its turns are chunks
  }
};

// Waits for a chunk: the `turn`-th completion of its barrier. A barrier of the block has to follow
// if it is not whole.
__device__ __forceinline__ void chunk_arrived(bool whole, uint32_t barrier, uint32_t turn) {
  bulk_wait(barrier, turn);
  if (!whole) {
    copies_done();
    stores_done();
  }
}

__device__ __forceinline__ void sine_cosine(float angle, float& sine, float& cosine) {
  __sincosf(principal(angle), &sine, &cosine);
}

// Row length of tables by pair, padded against bank conflicts.
template <int N>
constexpr int TABLE = N / 2 + 4;

// What is added to the pairs of a lane before they turn; of rank one loaded ahead, if any turn.
template <int N, int R>
struct RowBias {
  static constexpr int PAIRS = N / 64;
  const float* from;
  float2 ahead[R == 1 ? PAIRS : 1];

  __device__ __forceinline__ explicit RowBias(const float* bias, bool turn = true) : from(bias) {
    if (R == 1 && turn)
#pragma unroll
      for (int k = 0; k < PAIRS; ++k) ahead[k] = load(k, 0);
  }
  __device__ __forceinline__ float2 load(int k, int rank) const {
    return *reinterpret_cast<const float2*>(from + rank * N + 2 * (threadIdx.x & 31) + 64 * k);
  }
  __device__ __forceinline__ float2 at(int k, int rank) const {
    return R == 1 ? ahead[k] : load(k, rank);
  }
};

// Adds the bias and rotates tiles in place. With `table`, keeps the cosines and sines as
// half2 [tokens][pitch] for the way back; with `by`, rows take a factor each before they are
// rounded. A warp has eight rows, whose pieces lie at exclusive-ors of one address; it loads
// those of several before it stores one.
template <int N, int R, bool TWO, int MOST>
__device__ __forceinline__ void rotate_tiles(bf16* first, const RowBias<N, R>& first_bias,
                                             bf16* second, const RowBias<N, R>& second_bias,
                                             const Angles<N, R, MOST>& angles, int turning,
                                             __half2* table, int pitch = TABLE<N>,
                                             const float* by = nullptr) {
  const int lane = threadIdx.x & 31, warp = warp_number();
  constexpr int SEGMENT = Angles<N, R, MOST>::SEGMENT, TILES = TWO ? 2 : 1;
  constexpr int AT_ONCE = R < 4 ? 4 / R : 1;  // tokens
  static_assert(SEGMENT * R == 8 && N >= 64);
  const uint32_t base = shared_address(first + at<N>(warp * 8, 2 * lane));
  const uint32_t apart = TWO ? shared_address(second) - shared_address(first) : 0;
#pragma unroll
  for (int k = 0; k < N / 64; ++k) {
    const int pair = lane + 32 * k;
    float2 add[2][R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      add[0][r] = first_bias.at(k, r);
      if (TWO) add[1][r] = second_bias.at(k, r);
    }
    auto address = [&](int tile, int row) {
      return (base ^ (16 * row)) + 128 * row + (tile > 0 ? apart : 0) + k * ROWS * 128;
    };
    auto change = [&](auto known) {
      constexpr bool turned = decltype(known)::value;
#pragma unroll
      for (int start = 0; start < SEGMENT; start += AT_ONCE) {
        uint32_t words[AT_ONCE * R][TILES];
#pragma unroll
        for (int i = 0; i < AT_ONCE * R; ++i)
#pragma unroll
          for (int tile = 0; tile < TILES; ++tile)
            words[i][tile] = load_word(address(tile, start * R + i));
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) {
          float sine = 0, cosine = 1;
          if (turned) __sincosf(angles.value[start + j][32 * k < MOST ? k : 0], &sine, &cosine);
          if (table != nullptr && 32 * k < MOST && pair < pitch)
            table[(warp * SEGMENT + start + j) * pitch + pair] = __floats2half2_rn(cosine, sine);
          if (by != nullptr) {
            const float factor = by[warp * 8 + (start + j) * R];
            cosine *= factor;
            sine *= factor;
          }
#pragma unroll
          for (int r = 0; r < R; ++r)
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
              uint32_t& word = words[j * R + r][tile];
              float2 v = unpack(word);
              v.x += add[tile][r].x;
              v.y += add[tile][r].y;
              word = turned ? pack(v.x * cosine - v.y * sine, v.x * sine + v.y * cosine)
                            : pack(v.x * cosine, v.y * cosine);
            }
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE * R; ++i)
#pragma unroll
          for (int tile = 0; tile < TILES; ++tile)
            store_word(address(tile, start * R + i), words[i][tile]);
      }
    };
    if (32 * k < MOST && 32 * k < turning)
      change(std::true_type());
    else
      change(std::false_type());
  }
}

// Starts to add a product over K terms to this warp's 16 x (8 F) part of an M-row result; of the
// terms those before `first` or from `last` on are zero. With wgmma the four warps of a
// warpgroup make 64 rows together, and the sums stand only after products_wait.
// FRESH sums begin with nothing: a second group under way would wait for its zeros.
template <int M, int K, bool FRESH = false, int F, typename A, typename B>
__device__ __forceinline__ void product_begin(float (&c)[F][4], const A& left, const B& right,
                                              int first = 0, int last = K) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (M == 64 && (F == 4 || F == 8) && A::WIDE && B::WIDE) {
    products_begin();
#pragma unroll
    for (int k = 0; k < K; k += 16) {
      if constexpr (FRESH) {
        if (k == 0) {
          multiply_first<A::TRANSPOSED, B::TRANSPOSED>(c, left.descriptor(0), right.descriptor(0));
          continue;
        }
      }
      if constexpr (A::REGISTERS)
        multiply_async<B::TRANSPOSED>(c, left.part(k), right.descriptor(k));
      else
        multiply_async<A::TRANSPOSED, B::TRANSPOSED>(c, left.descriptor(k), right.descriptor(k));
    }
    products_commit();
    return;
  }
#endif
#pragma unroll
  for (int k = 0; k < K; k += 16) {
    if (k < first || k >= last) continue;
    uint32_t a[4];
    left.load(a, k);
#pragma unroll
    for (int f = 0; f < F; f += 2) {
      uint32_t b[4];
      right.load(b, k, f);
      multiply(c[f], a, b[0], b[1]);
      multiply(c[f + 1], a, b[2], b[3]);
    }
  }
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  products_commit();  // an empty group, for those who count
#endif
}

template <int M, int K, int F, typename A, typename B>
__device__ __forceinline__ void product(float (&c)[F][4], const A& left, const B& right,
                                        int first = 0, int last = K) {
  product_begin<M, K>(c, left, right, first, last);
  products_wait<0>(c);
}

// Of four fragments a lane holds a pair each; afterwards the lanes of a row hold one whole
// fragment each, that of their own number.
__device__ __forceinline__ uint4 gather(const uint32_t (&w)[4]) {
  const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
  const uint32_t first = __shfl_xor_sync(~0u, odd ? w[0] : w[1], 1);
  const uint32_t second = __shfl_xor_sync(~0u, odd ? w[2] : w[3], 1);
  const uint32_t a0 = odd ? first : w[0], a1 = odd ? w[1] : first;
  const uint32_t b0 = odd ? second : w[2], b1 = odd ? w[3] : second;
  const uint32_t c0 = __shfl_xor_sync(~0u, upper ? a0 : b0, 2);
  const uint32_t c1 = __shfl_xor_sync(~0u, upper ? a1 : b1, 2);
  return upper ? make_uint4(c0, c1, b0, b1) : make_uint4(a0, a1, c0, c1);
}

// The same of fragments `first` to `first` + 3 of an accumulator, in the upper or lower eight rows.
template <int F>
__device__ __forceinline__ uint4 gather(const float (&value)[F][4], int first, int half) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    words[i] = pack(value[first + i][2 * half], value[first + i][2 * half + 1]);
  return gather(words);
}

// The part of a state [P][N] that one warp accumulates: 16 rows by COLUMNS columns.
template <int P, int N>
struct StatePart {
  static constexpr int TILES = P / 16;
  static constexpr int COLUMNS = N * TILES / 8;
  static constexpr int FRAGMENTS = COLUMNS / 8;
  static_assert(FRAGMENTS % 2 == 0, "two fragments are loaded at once");
  float value[FRAGMENTS][4];
  int row, column;

  __device__ __forceinline__ StatePart() {
    const int warp = warp_number();
    row = (warp % TILES) * 16;
    column = (warp / TILES) * COLUMNS;
    zero();
  }
  __device__ __forceinline__ void zero() {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) value[f][i] = 0;
  }
  __device__ __forceinline__ void scale(float by) {
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) value[f][i] *= by;
  }
  // f(value, row, column) for each pair of neighbouring columns.
  template <typename F>
  __device__ __forceinline__ void each(F&& f) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        f(value[i][2 * half], value[i][2 * half + 1], row + (lane >> 2) + 8 * half,
          column + 8 * i + 2 * (lane & 3));
  }
  __device__ __forceinline__ void read(const bf16* state) {
    each([&](float& a, float& b, int r, int c) {
      const float2 v = unpack(word(state + r * N + c));
      a = v.x;
      b = v.y;
    });
  }
  __device__ __forceinline__ void write(bf16* tile) {
    const Elements<N, P> place(tile, row, column);
#pragma unroll
    for (int f = 0; f < FRAGMENTS; ++f)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        place.store(f, half, pack(value[f][2 * half], value[f][2 * half + 1]));
  }
  // Writes to device memory as a tile lies in shared memory.
  __device__ __forceinline__ void write_out(bf16* to) {
    const int lane = threadIdx.x & 31;
    if constexpr (FRAGMENTS % 4 == 0) {
#pragma unroll
      for (int f = 0; f < FRAGMENTS; f += 4)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          *reinterpret_cast<uint4*>(to + at<N, P>(row + (lane >> 2) + 8 * half,
                                                  column + 8 * (f + (lane & 3)))) =
              gather(value, f, half);
        }
    } else {
      each([&](float& a, float& b, int r, int c) { word(to + at<N, P>(r, c)) = pack(a, b); });
    }
  }
  // This warp's columns of rows[k][P], with each row times a factor.
  __device__ __forceinline__ LeftTransposedScaled<P> scaled(const bf16* rows,
                                                            const float* factors) const {
    return LeftTransposedScaled<P>(rows, row, factors);
  }
  // Adds sum over the rows of scaled rows[k][P]^T columns[k][N].
  __device__ __forceinline__ void accumulate_begin(const LeftTransposedScaled<P>& rows,
                                                   const bf16* columns) {
    product_begin<P, ROWS>(value, rows, RightTransposed<N>(columns, column));
  }
  __device__ __forceinline__ void accumulate_end() { products_wait<0>(value); }
  __device__ __forceinline__ void accumulate(const bf16* rows, const float* factors,
                                             const bf16* columns) {
    accumulate_begin(scaled(rows, factors), columns);
    accumulate_end();
  }
  // Adds what rounding the scaled rows to bf16 leaves out.
  __device__ __forceinline__ void accumulate_rest(const bf16* rows, const float* factors,
                                                  const bf16* columns) {
    const LeftTransposedScaled<P> scaled(rows, row, factors, true);
    product<P, ROWS>(value, scaled, RightTransposed<N>(columns, column));
  }
  // Adds sum over the rows of rows[k][P]^T columns[k][N].
  __device__ __forceinline__ void accumulate(const bf16* rows, const bf16* columns) {
    product<P, ROWS>(value, LeftTransposed<P>(rows, row), RightTransposed<N>(columns, column));
  }
};

// One warp's 16 x (8 F) part of a product over 64-row operands.
template <int F>
struct Part {
  float value[F][4];
  __device__ __forceinline__ Part() {
#pragma unroll
    for (int f = 0; f < F; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) value[f][i] = 0;
  }
  // Starts to add the product over `K` terms, of which those before `first` or from `last` on are
  // zero.
  template <int K, typename A, typename B>
  __device__ __forceinline__ void begin(const A& left, const B& right, int first = 0,
                                        int last = K) {
    product_begin<64, K>(value, left, right, first, last);
  }
  // The same of a part that is still empty.
  template <int K, typename A, typename B>
  __device__ __forceinline__ void begin_fresh(const A& left, const B& right) {
    product_begin<64, K, F == 4>(value, left, right);
  }
  // With at most PENDING later products under way.
  template <int PENDING>
  __device__ __forceinline__ void wait() {
    products_wait<PENDING>(value);
  }
  __device__ __forceinline__ void scale_rows(float low, float high) {
#pragma unroll
    for (int f = 0; f < F; ++f) {
      value[f][0] *= low;
      value[f][1] *= low;
      value[f][2] *= high;
      value[f][3] *= high;
    }
  }
  // Writes as bf16; `to` is the place of the first of the warp's columns in this thread's
  // first row, of which rows below `rows` are real.
  __device__ __forceinline__ void write_out(bf16* to, int64_t stride, int rows) {
    const int lane = threadIdx.x & 31;
    if constexpr (F % 4 == 0) {
#pragma unroll
      for (int f = 0; f < F; f += 4)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint4 whole = gather(value, f, half);
          if (8 * half < rows)
            __stcs(reinterpret_cast<uint4*>(to + 8 * half * stride + 8 * (f + (lane & 3))), whole);
        }
    } else {
      each([&](float& a, float& b, int f, int half) {
        if (8 * half < rows) word(to + 8 * half * stride + 8 * f + 2 * (lane & 3)) = pack(a, b);
      });
    }
  }
  // The same through the warp's 16 rows from `row` on of a tile of 64 columns, which no one else
  // uses; `to` is the place of the first of those rows, rows being tokens times ranks.
  template <int R>
  __device__ __forceinline__ void write_out(bf16* tile, int row, bf16* to, int64_t stride,
                                            int64_t rank, int rows) {
    const Elements<64> place(tile, row, 0);
    each([&](float& a, float& b, int f, int half) { place.store(f, half, pack(a, b)); });
    __syncwarp();
#pragma unroll
    for (int i = threadIdx.x & 31; i < 16 * F; i += 32)
      if (i / F < rows)
        __stcs(reinterpret_cast<uint4*>(to + i / F / R * stride + i / F % R * rank + i % F * 8),
               *reinterpret_cast<const uint4*>(tile + at<64>(row + i / F, i % F * 8)));
  }
  // g(a, b, fragment, half) for each pair of neighbouring columns.
  template <typename G>
  __device__ __forceinline__ void each(G&& g) {
#pragma unroll
    for (int f = 0; f < F; ++f)
#pragma unroll
      for (int half = 0; half < 2; ++half) g(value[f][2 * half], value[f][2 * half + 1], f, half);
  }
};

// Weights of the pairs that a thread holds of a 16 x 32 part of the chunk's matrix,
// rows being later tokens t and columns earlier ones u.
template <int R>
struct Weights {
  float row_decay[2], row_gamma[2];
  float column_decay[8], column_weight[8];
  int row, column;
  __device__ __forceinline__ Weights(const Gates& gates, int first_row, int first_column) {
    const int lane = threadIdx.x & 31;
    row = first_row + (lane >> 2);
    column = first_column + 2 * (lane & 3);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      row_decay[h] = gates.decay[row + 8 * h];
      row_gamma[h] = gates.gamma[row + 8 * h];
    }
#pragma unroll
    for (int f = 0; f < 4; ++f) {
      const float2 decay = *reinterpret_cast<const float2*>(&gates.decay[column + 8 * f]);
      const float2 weight = *reinterpret_cast<const float2*>(&gates.weight[column + 8 * f]);
      column_decay[2 * f] = decay.x;
      column_decay[2 * f + 1] = decay.y;
      column_weight[2 * f] = weight.x;
      column_weight[2 * f + 1] = weight.y;
    }
  }
  __device__ __forceinline__ int t(int h) const { return (row + 8 * h) / R; }
  __device__ __forceinline__ int u(int f, int e) const { return (column + 8 * f + e) / R; }
  __device__ __forceinline__ float strictly_lower(int f, int h, int e) const {
    const float weight =
        power_of_two(row_decay[h] - column_decay[2 * f + e]) * column_weight[2 * f + e];
    return u(f, e) < t(h) ? weight : 0.0f;
  }
  // With gamma where the token is the same.
  __device__ __forceinline__ float lower(int f, int h, int e) const {
    return u(f, e) == t(h) ? row_gamma[h] : strictly_lower(f, h, e);
  }
};

// Row length of the gradients of a token's angles.
__host__ __device__ constexpr int angle_pitch(int angles) { return (angles + 15) / 16 * 16; }

// Sums `value` over the eight lanes that hold the same columns of a fragment: each lane ends
// with the sum of number lane / 4 of eight, or lane / 8 of four. With R above one rows of
// different ranks stay apart: of eight each lane ends with the R from lane / 4 / R * R on, for
// rank lane / 4 % R.
template <int R = 1, int COUNT>
__device__ __forceinline__ void sum_columns(float (&value)[COUNT]) {
  static_assert((COUNT == 4 && R == 1) || COUNT == 8);
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int step = 16, half = COUNT / 2; half > R / 2; step /= 2, half /= 2) {
    const bool upper = lane & step;
#pragma unroll
    for (int i = 0; i < COUNT / 2; ++i) {
      if (i >= half) break;
      const float keep = upper ? value[i + half] : value[i];
      const float send = upper ? value[i] : value[i + half];
      value[i] = keep + __shfl_xor_sync(~0u, send, step);
    }
  }
  if (COUNT == 4) value[0] += __shfl_xor_sync(~0u, value[0], 4);
}

// Sum over the four lanes that share a row of a fragment.
__device__ __forceinline__ float sum_row(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

__device__ __forceinline__ const float* bias_of(const float* bias, int head, int width) {
  return bias + static_cast<int64_t>(head) * width;
}

}  // namespace cistron::cuda
