// SwiGLU's product: value * silu(gate).
#pragma once
#include <cuda_runtime_api.h>

#include "kind.h"

namespace cistron::cuda {

// Values, gates and `y` are [tokens, hidden].
void swiglu_forward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden,
                    Rows value, Rows gate, Rows y, cudaStream_t stream);
// `y` is written once more where it has data.
void swiglu_backward(bool bfloat16, Width width, std::int64_t tokens, std::int64_t hidden,
                     Rows value, Rows gate, Rows dy, Rows dvalue, Rows dgate, Rows y,
                     cudaStream_t stream);

}  // namespace cistron::cuda
