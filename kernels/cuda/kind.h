// A matrix of activations whose kind is known at run time.
#pragma once
#include <cstdint>

namespace cistron::cuda {

// Rows of fp32 or bf16 values. `data` is null where a matrix is absent.
struct Rows {
  void* data;
  std::int64_t stride;  // between rows, in elements
};

// How many neighbouring values are moved at once: 8, or 1 where a width, a stride or an
// address does not allow it.
enum class Width { scalar, vector };

}  // namespace cistron::cuda
