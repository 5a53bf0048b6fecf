// What every kernel file uses.
#pragma once
#include <stdexcept>
#include <string>

#include <cuda_runtime.h>

namespace cistron::cuda {

// Throws what the last launch failed with.
inline void check(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
}

}  // namespace cistron::cuda

// To stand after every launch.
#define CISTRON_LAUNCH_CHECK(name) ::cistron::cuda::check(name)
