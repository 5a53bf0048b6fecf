#include "upload.h"

#include "ops.h"

#include <cstring>

namespace cistron::ops {

at::Tensor upload(const std::int64_t* list, std::size_t count, at::Device device) {
  const auto size = static_cast<std::int64_t>(count);
  // The allocator of pinned memory keeps the list until the copy is done.
  const auto host = at::empty({size}, at::TensorOptions(at::kLong).pinned_memory(device.is_cuda()));
  if (count > 0) std::memcpy(host.data_ptr(), list, count * sizeof(std::int64_t));
  return host.to(device, /*non_blocking=*/true);
}

namespace {

// A copy in memory that devices read from without waiting. (tch names a device here, of which
// libtorch warns at every call.)
void pin(const Call& call) { call.give(0, call.tensor(0).pin_memory()); }

}  // namespace

CISTRON_OPERATOR(pin, pin)

}  // namespace cistron::ops

// i64 [count] on CUDA device `index`.
extern "C" at::Tensor* cistron_upload(const std::int64_t* list, std::int64_t count, int index,
                                      char* error, std::size_t size) {
  at::Tensor* output = nullptr;
  guarded(error, size, [&] {
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    output = new at::Tensor(cistron::ops::upload(list, static_cast<std::size_t>(count), device));
  });
  return output;
}
