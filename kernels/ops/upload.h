// Small lists on their way to a device.
#pragma once
#include <ATen/ATen.h>
#include <cstdint>

namespace cistron::ops {

// i64 [count] on `device`. On CUDA by way of pinned memory: the copy is queued behind what
// the device has to do, and nobody waits for it.
at::Tensor upload(const std::int64_t* list, std::size_t count, at::Device device);

}  // namespace cistron::ops
