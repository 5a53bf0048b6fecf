// Small lists on their way to a device.
#include "../shim.h"

#include <ATen/ATen.h>
#include <cstring>

// i64 [count] on CUDA device `index`, by way of pinned memory: the copy is queued behind
// what the device has to do, and nobody waits for it. The allocator of pinned memory keeps
// the list until the copy is done.
extern "C" at::Tensor* cistron_upload(const std::int64_t* list, std::int64_t count, int index,
                                      char* error, std::size_t size) {
  at::Tensor* output = nullptr;
  guarded(error, size, [&] {
    const auto pinned = at::empty({count}, at::TensorOptions(at::kLong).pinned_memory(true));
    if (count > 0) std::memcpy(pinned.data_ptr(), list, count * sizeof(std::int64_t));
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    output = new at::Tensor(pinned.to(device, /*non_blocking=*/true));
  });
  return output;
}
