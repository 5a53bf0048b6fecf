// SwiGLU's product: value * silu(gate).
#pragma once
#include <cuda_runtime_api.h>

#include "kind.h"

namespace cistron::cuda {

// `x` is [tokens, 2 hidden], the values before the gates; `y` [tokens, hidden].
void swiglu_forward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden, Rows x,
                    Rows y, cudaStream_t stream);
// `dx` like `x`; `y` is written once more where it has data.
void swiglu_backward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden, Rows x,
                     Rows dy, Rows dx, Rows y, cudaStream_t stream);

}  // namespace cistron::cuda
