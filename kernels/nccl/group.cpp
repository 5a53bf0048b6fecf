// Ranks over libtorch's own NCCL process group, which meets at a TCP store.
//
// This is a shared object of its own: it needs symbols of libtorch_cuda, which the binary does
// not link. The binary carries it, and opens it after libtorch_cuda.
#include "table.h"

#include "../shim.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl;
  int rank;
  int world;
  at::Device device;
};

void* join(const char* host, std::uint16_t port, bool serve, const char* prefix, int rank,
           int world, int device, std::int64_t milliseconds, char* error, std::size_t size) {
  Group* group = nullptr;
  guarded(error, size, [&] {
    // NVLink multicast stays off where the user has not asked for it: it fails on hosts whose
    // fabric manager does not lend it.
    setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
    c10d::TCPStoreOptions tcp;
    tcp.port = port;
    tcp.isServer = serve;
    tcp.numWorkers = world;
    tcp.timeout = std::chrono::milliseconds(milliseconds);
    auto store = c10::make_intrusive<c10d::PrefixStore>(
        prefix, c10::make_intrusive<c10d::TCPStore>(host, tcp));
    auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
    options->timeout = std::chrono::milliseconds(milliseconds);
    const at::Device place(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    const c10::DeviceGuard guard(place);
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world, options);
    group = new Group{store, nccl, rank, world, place};
  });
  return group;
}

void leave(void* handle) {
  char error[64];
  guarded(error, sizeof error, [&] {
    const std::unique_ptr<Group> group(static_cast<Group*>(handle));
    // Nothing is under way, or nobody waits for it; an orderly end would wait for the others.
    group->nccl->abort();
  });
}

void* start(void* handle, int exchange, at::Tensor* tensor, char* error, std::size_t size) {
  Work* work = nullptr;
  guarded(error, size, [&] {
    auto& group = *static_cast<Group*>(handle);
    const c10::DeviceGuard guard(group.device);
    const at::AutoDispatchBelowAutograd below;
    const auto own = [&] {
      const auto share = tensor->numel() / group.world;
      return tensor->narrow(0, group.rank * share, share);
    };
    Work done;
    switch (exchange) {
      case 0: {
        std::vector<at::Tensor> list{*tensor};
        done = group.nccl->allreduce(list);
        break;
      }
      case 1: {
        auto part = own();
        done = group.nccl->_reduce_scatter_base(part, *tensor);
        break;
      }
      default: {
        auto part = own();
        done = group.nccl->_allgather_base(*tensor, part);
      }
    }
    work = new Work(std::move(done));
  });
  return work;
}

bool wait(void* handle, char* error, std::size_t size) {
  const std::unique_ptr<Work> work(static_cast<Work*>(handle));
  return guarded(error, size, [&] { (*work)->wait(); });
}

bool put(void* handle, const char* key, const char* value, char* error, std::size_t size) {
  return guarded(error, size, [&] {
    static_cast<Group*>(handle)->store->set(key, std::string(value));
  });
}

bool get(void* handle, const char* key, char* value, std::size_t room, char* error,
         std::size_t size) {
  return guarded(error, size, [&] {
    const auto text = static_cast<Group*>(handle)->store->get(key);
    TORCH_CHECK(text.size() < room, "the store's value is too long");
    std::memcpy(value, text.data(), text.size());
    value[text.size()] = '\0';
  });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const CistronNccl* cistron_nccl_table() {
  static const CistronNccl table{join, leave, start, wait, put, get};
  return &table;
}
