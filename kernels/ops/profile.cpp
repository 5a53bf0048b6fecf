// libtorch's own profiler: what ran when, on the CPU and on the GPU.
#include "../shim.h"

#include <torch/csrc/autograd/profiler_kineto.h>

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

// Begins to record what the GPU runs if `gpu`, else what this thread does.
extern "C" bool cistron_profile_start(bool gpu, char* error, std::size_t size) {
  return guarded(error, size, [&] {
    profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
    // Of a GPU its own work alone: to record what queues it slows the host down.
    std::set<ActivityType> activities{gpu ? ActivityType::CUDA : ActivityType::CPU};
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(config, activities);
  });
}

// Ends it and writes the trace to `path`, in Chrome's format.
extern "C" bool cistron_profile_stop(const char* path, char* error, std::size_t size) {
  return guarded(error, size, [&] { profiler::disableProfiler()->save(path); });
}
