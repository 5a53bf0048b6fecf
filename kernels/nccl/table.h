// What the shared object around libtorch's NCCL group offers; `crates/kernels/src/nccl.rs` has
// the same table. Every function that can fail returns null or false with a message.
#pragma once
#include <cstddef>
#include <cstdint>

namespace at {
class Tensor;
}

struct CistronNccl {
  // Meets the other ranks at the store `host:port`, which rank 0 opens when `serve` is set.
  void* (*join)(const char* host, std::uint16_t port, bool serve, const char* prefix, int rank,
                int world, int device, std::int64_t milliseconds, char* error, std::size_t size);
  void (*leave)(void* group);
  // Queues an exchange over all ranks behind the work of the current stream; `exchange` is 0 for
  // the sum of `tensor`, 1 for the sum of this rank's part alone, 2 for all parts to all ranks.
  void* (*start)(void* group, int exchange, at::Tensor* tensor, char* error, std::size_t size);
  // Makes the current stream wait for an exchange. Frees the handle.
  bool (*wait)(void* work, char* error, std::size_t size);
  // Text in the store; `get` waits until it is there.
  bool (*put)(void* group, const char* key, const char* value, char* error, std::size_t size);
  bool (*get)(void* group, const char* key, char* value, std::size_t room, char* error,
              std::size_t size);
};
