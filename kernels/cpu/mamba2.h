// A Mamba-2 block between its norms, without gradients, on one CPU core.
#pragma once
#include "lanes.h"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace cistron::cpu {

// Weights, fp32 with neighbouring columns, and sizes.
struct Mamba2 {
  Size width, heads, head_dim, states, taps;
  const float* in_proj;      // [z | x B C | dt, width]
  const float* conv_weight;  // [x B C, taps]
  const float* conv_bias;    // [x B C]
  const float* dt_bias;      // [heads]
  const float* a_log;        // [heads]
  const float* d;            // [heads]
  const float* norm;         // [inner]
  const float* out_proj;     // [width, inner]

  Size inner() const { return heads * head_dim; }
  Size channels() const { return inner() + 2 * states; }
};

// Most taps of a convolution: what comes before a chunk fits into a vector.
constexpr Size MAX_TAPS = WIDE + 1;

// One sequence after another, each in chunks of tokens that stay in cache.
class Mamba2Run {
 public:
  explicit Mamba2Run(const Mamba2& block)
      : m_(block),
        columns_(rounded(m_.states)),
        room_(sizes().total) {
    const Sizes at = sizes();
    float* base = room_.get();
    input_ = base + at.input, gate_ = base + at.gate, x_ = base + at.x, b_ = base + at.b;
    c_ = base + at.c, b_tokens_ = base + at.b_tokens, scores_ = base + at.scores;
    mixing_ = base + at.mixing, weighted_ = base + at.weighted, state_ = base + at.state;
    tail_ = base + at.tail, delta_ = base + at.delta, decay_ = base + at.decay;
    squares_ = base + at.squares;
    std::memset(b_tokens_, 0, columns_ * CHUNK * sizeof(float));
    std::memset(tail_, 0, WIDE * m_.channels() * sizeof(float));
  }

  // `x`, `out`: [tokens, width]. Before the first token, and after the last: inputs of the
  // convolution `tail` [taps - 1, channels] and `state` [heads, head_dim, states]; null for
  // zeros, and where nobody asks.
  void run(const float* x, Size tokens, float* out, const float* tail, const float* state,
           float* last_tail, float* last_state) {
    const Size before = m_.taps - 1, channels = m_.channels(), rows = m_.inner();
    for (Size c = 0; c < channels; ++c)
      for (Size k = 0; k < before; ++k)
        tail_[(c + 1) * WIDE - before + k] = tail == nullptr ? 0.0f : tail[k * channels + c];
    std::memset(state_, 0, rows * columns_ * sizeof(float));
    live_ = state != nullptr;
    if (live_)
      for (Size p = 0; p < rows; ++p)
        std::memcpy(state_ + p * columns_, state + p * m_.states, m_.states * sizeof(float));
    for (Size first = 0; first < tokens; first += CHUNK) {
      const Size here = std::min(CHUNK, tokens - first);
      const bool keep = first + here < tokens || last_state != nullptr;
      chunk(x + first * m_.width, here, out + first * m_.width, keep);
    }
    if (last_tail != nullptr)
      for (Size c = 0; c < channels; ++c)
        for (Size k = 0; k < before; ++k) 
          last_tail[k * channels + c] = tail_[(c + 1) * WIDE - before + k];
    if (last_state != nullptr)
      for (Size p = 0; p < rows; ++p)
        std::memcpy(last_state + p * m_.states, state_ + p * columns_, m_.states * sizeof(float));
  }

 private:
  static constexpr Size CHUNK = 32;
  static constexpr float EPS = 1e-5f;

  // Where the buffers start, in floats.
  struct Sizes {
    Size input, gate, x, b, c, b_tokens, scores, mixing, weighted, state, tail, delta, decay,
        squares, total;
  };

  Sizes sizes() const {
    Size at = 0;
    auto take = [&](Size count) {
      const Size start = at;
      at += rounded(count);
      return start;
    };
    Sizes s;
    s.input = take(CHUNK * m_.width), s.gate = take(CHUNK * m_.inner());
    s.x = take(CHUNK * m_.inner()), s.b = take(CHUNK * m_.states), s.c = take(CHUNK * m_.states);
    s.b_tokens = take(CHUNK * columns_), s.scores = take(CHUNK * CHUNK);
    s.mixing = take(CHUNK * CHUNK), s.weighted = take(CHUNK * m_.head_dim);
    s.state = take(m_.inner() * columns_), s.tail = take(WIDE * m_.channels());
    s.delta = take(CHUNK * m_.heads), s.decay = take(CHUNK * m_.heads), s.squares = take(CHUNK);
    s.total = at;
    return s;
  }

  void chunk(const float* x, Size tokens, float* out, bool keep) {
    const Size panels = (tokens + LANES - 1) / LANES;
    to_panels(x, tokens, m_.width, input_);
    project(panels, tokens);
    gates(tokens);
    score(panels);
    std::memset(squares_, 0, CHUNK * sizeof(float));
    for (Size head = 0; head < m_.heads; ++head) scan(head, panels, tokens, keep);
    live_ = true;
    finish(panels, tokens, out);
  }

  // Rows of the in-projection from `row` on, and what follows from each: a block later, when
  // its stores have left for the cache and may be loaded askew.
  template <typename F>
  CISTRON_INLINE void project_rows(Size row, Size rows, Size panels, F&& use) {
    Size ready = 0, made = 0;
    auto follow = [&] {
      for (; ready < made; ++ready) use(ready, raw_[ready % (2 * ROWS)]);
    };
    by_rows(rows, [&](auto count, Size first) __attribute__((always_inline)) {
      const float* weight = m_.in_proj + (row + first) * m_.width;
      float* to = raw_[first % (2 * ROWS)] + WIDE;
      for (Size j = 0; j < panels; ++j) {
        Tile<count()> tile;
        tile.clear();
        tile.template add<1>(weight, m_.width, input_ + j * m_.width * LANES, m_.width);
        tile.write(to + j * LANES, WIDE + CHUNK);
      }
      follow();
      made += count();
    });
    follow();
  }

  // silu(z) to panels, silu(conv(x B C)) to rows and panels, and dt to rows.
  void project(Size panels, Size tokens) {
    const Size inner = m_.inner(), states = m_.states;
    project_rows(0, inner, panels, [&](Size c, float* row) {
      for (Size j = 0; j < panels; ++j)
        for (Size at = 0; at < LANES; at += WIDE)
          store(gate_ + (j * inner + c) * LANES + at, silu(load(row + WIDE + j * LANES + at)));
    });
    project_rows(inner, m_.channels(), panels, [&](Size c, float* row) {
      if (c < inner) return convolve(c, row, panels, tokens, x_ + c * CHUNK);
      float mixed[CHUNK];
      convolve(c, row, panels, tokens, mixed);
      const bool is_b = c < inner + states;
      const Size n = c - inner - (is_b ? 0 : states);
      float* to = is_b ? b_ : c_;
      for (Size j = 0; j < panels; ++j)
        std::memcpy(to + (j * states + n) * LANES, mixed + j * LANES, LANES * sizeof(float));
      if (is_b)
        for (Size t = 0; t < panels * LANES; ++t)
          b_tokens_[(n / LANES * CHUNK + t) * LANES + n % LANES] = mixed[t];
    });
    project_rows(inner + m_.channels(), m_.heads, panels, [&](Size head, float* row) {
      std::memcpy(delta_ + head * CHUNK, row + WIDE, CHUNK * sizeof(float));
    });
  }

  // A channel of the convolution: `row` has room for what came before, then the inputs.
  void convolve(Size c, float* row, Size panels, Size tokens, float* to) {
    const float* weight = m_.conv_weight + c * m_.taps;
    store(row, load(tail_ + c * WIDE));
    for (Size t = 0; t < panels * LANES; t += WIDE) {
      const float* from = row + WIDE + 1 - m_.taps + t;
      V sum = all(m_.conv_bias[c]);
      for (Size k = 0; k < m_.taps; ++k) sum += weight[k] * load(from + k);
      store(to + t, silu(sum));
    }
    store(tail_ + c * WIDE, load(row + tokens));
  }

  // dt to steps and log-decays from the start of the chunk; behind the last token nothing
  // decays and nothing is added.
  void gates(Size tokens) {
    for (Size head = 0; head < m_.heads; ++head) {
      float *delta = delta_ + head * CHUNK, *decay = decay_ + head * CHUNK;
      const float rate = std::exp(m_.a_log[head]);
      double sum = 0;
      for (Size t = 0; t < CHUNK; ++t) {
        delta[t] = t < tokens ? softplus(delta[t] + m_.dt_bias[head]) : 0.0f;
        sum -= delta[t] * rate;
        decay[t] = static_cast<float>(sum);
      }
    }
  }

  // b_s · c_t for s before the end of t's panel: panels of t with rows of s.
  void score(Size panels) {
    const Size states = m_.states;
    for (Size j = 0; j < panels; ++j)
      for (Size i = 0; i <= j; ++i)
        by_rows(LANES, [&](auto count, Size first) __attribute__((always_inline)) {
          Tile<count()> tile;
          tile.clear();
          tile.template add<LANES>(b_ + i * states * LANES + first, 1, c_ + j * states * LANES,
                                   states);
          tile.write(scores_ + (j * CHUNK + i * LANES + first) * LANES, LANES);
        });
  }

  // e^{decay_t - decay_s} Δ_s (b_s · c_t) for s ≤ t, else 0.
  void mix(const float* delta, const float* decay, Size panels) {
    const V count = {0, 1, 2, 3, 4, 5, 6, 7};
    for (Size j = 0; j < panels; ++j)
      for (Size s = 0; s < (j + 1) * LANES; ++s)
        for (Size at = 0; at < LANES; at += WIDE) {
          const Size place = (j * CHUNK + s) * LANES + at, t = j * LANES + at;
          const V value = exp(load(decay + t) - decay[s]) * (load(scores_ + place) * delta[s]);
          const V zero = {};
          store(mixing_ + place, count >= static_cast<float>(s - t) ? value : zero);
        }
  }

  void scan(Size head, Size panels, Size tokens, bool keep) {
    const Size inner = m_.inner(), start = head * m_.head_dim;
    const float *delta = delta_ + head * CHUNK, *decay = decay_ + head * CHUNK;
    const float* x = x_ + start * CHUNK;
    float* state = state_ + start * columns_;
    float from_start[CHUNK], to_end[CHUNK];
    const float whole = decay[CHUNK - 1];
    for (Size t = 0; t < CHUNK; t += WIDE) {
      store(from_start + t, exp(load(decay + t)));
      store(to_end + t, exp(whole - load(decay + t)) * load(delta + t));
    }
    mix(delta, decay, panels);
    by_rows(m_.head_dim, [&](auto count, Size first) __attribute__((always_inline)) {
      constexpr int R = count();
      for (Size j = 0; j < panels; ++j) {
        Tile<R> y;
        y.clear();
        if (live_) {
          y.template add<1>(state + first * columns_, columns_, c_ + j * m_.states * LANES,
                            m_.states);
          y.scale(from_start + j * LANES);
        }
        y.template add<1>(x + first * CHUNK, CHUNK, mixing_ + j * CHUNK * LANES, (j + 1) * LANES);
        gate(y, start + first, m_.d[head], x + first * CHUNK + j * LANES,
             gate_ + (j * inner + start + first) * LANES, squares_ + j * LANES);
      }
    });
    if (!keep) return;
    for (Size p = 0; p < m_.head_dim; ++p)
      for (Size t = 0; t < panels * LANES; t += WIDE)
        store(weighted_ + p * CHUNK + t, load(x + p * CHUNK + t) * load(to_end + t));
    const float kept = from_start[CHUNK - 1];
    by_rows(m_.head_dim, [&](auto count, Size first) __attribute__((always_inline)) {
      constexpr int R = count();
      for (Size at = 0; at < columns_; at += LANES) {
        float* to = state + first * columns_ + at;
        Tile<R> next;
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
          for (int h = 0; h < PARTS; ++h)
            next.v[r][h] = kept * load(to + r * columns_ + h * WIDE);
        next.template add<1>(weighted_ + first * CHUNK, CHUNK, b_tokens_ + at * CHUNK, tokens);
        next.write(to, columns_);
      }
    });
  }

  // Adds the skip and gates; sums squares, and multiplies by the norm's weight. `gate` holds
  // silu(z), and then the result.
  template <int R>
  CISTRON_INLINE void gate(Tile<R>& y, Size channel, float d, const float* x, float* gate,
                           float* squares) {
#pragma GCC unroll 4
    for (int h = 0; h < PARTS; ++h) {
      V sum = {};
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        V& value = y.v[r][h];
        value = (value + d * load(x + r * CHUNK + h * WIDE)) * load(gate + r * LANES + h * WIDE);
        sum += value * value;
        value *= m_.norm[channel + r];
      }
      store(squares + h * WIDE, load(squares + h * WIDE) + sum);
    }
    y.write(gate, LANES);
  }

  // The rest of the norm, and the out-projection.
  void finish(Size panels, Size tokens, float* out) {
    const Size inner = m_.inner();
    for (Size t = 0; t < CHUNK; ++t)
      squares_[t] = 1.0f / std::sqrt(squares_[t] / static_cast<float>(inner) + EPS);
    by_rows(m_.width, [&](auto count, Size first) __attribute__((always_inline)) {
      for (Size j = 0; j < panels; ++j) {
        Tile<count()> tile;
        tile.clear();
        tile.template add<1>(m_.out_proj + first * inner, inner, gate_ + j * inner * LANES, inner);
        tile.scale(squares_ + j * LANES);
        to_tokens(tile, std::min(LANES, tokens - j * LANES), m_.width,
                  out + j * LANES * m_.width + first);
      }
    });
  }

  const Mamba2 m_;
  const Size columns_;  // of a row of the state
  const Room room_;
  bool live_ = false;  // whether the state is other than zero
  // Inputs in panels; silu(z), then what the out-projection reads, in panels; x in rows; B and
  // C in panels; B as [columns / LANES, CHUNK, LANES]; scores and mixing matrix as panels of t.
  float *input_, *gate_, *x_, *b_, *c_, *b_tokens_, *scores_, *mixing_;
  // [head_dim, CHUNK]; [inner, columns]; [channels, WIDE]; [heads, CHUNK] twice; [CHUNK].
  float *weighted_, *state_, *tail_, *delta_, *decay_, *squares_;
  // Rows of two blocks, each behind room for what came before it.
  alignas(64) float raw_[2 * ROWS][WIDE + CHUNK];
};

}  // namespace cistron::cpu

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC pop_options
#endif
