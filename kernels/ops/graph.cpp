// CUDA graphs: a step is recorded once and then replayed with a single launch.
//
// at::cuda::CUDAGraph also tells the caching allocator which memory the recording holds.
// It lies in libtorch_cuda, which is opened on demand and never linked, so its members are
// looked up by their mangled names; the header gives the size of the object.
#include "../shim.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#ifdef CISTRON_CUDA
#include "ops.h"
#include <ATen/cuda/CUDAGraph.h>
#include <dlfcn.h>
#include <optional>

namespace {

template <typename F>
F member(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "libtorch's CUDA half has no ", name,
              ": cistron was built for libtorch 2.11");
  return reinterpret_cast<F>(found);
}

struct Graph {
  using Object = at::cuda::CUDAGraph;
  explicit Graph(at::Device device)
      : guard(device.type()),
        device(device),
        stream(guard.getStreamFromGlobalPool(device)),
        capture_begin(member<decltype(capture_begin)>(
            "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")),
        capture_end(member<decltype(capture_end)>("_ZN2at4cuda9CUDAGraph11capture_endEv")),
        replay(member<decltype(replay)>("_ZN2at4cuda9CUDAGraph6replayEv")),
        destroy(member<decltype(destroy)>("_ZN2at4cuda9CUDAGraphD1Ev")) {
    member<void (*)(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb")(object, false);
  }
  ~Graph() { destroy(object); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  c10::impl::VirtualGuardImpl guard;
  at::Device device;
  c10::Stream stream;                   // where the recording is made
  std::optional<c10::Stream> previous;  // the current stream before it
  void (*capture_begin)(void*, c10::MempoolId_t, cudaStreamCaptureMode);
  void (*capture_end)(void*);
  void (*replay)(void*);
  void (*destroy)(void*);
  alignas(Object) unsigned char object[sizeof(Object)];
};

}  // namespace
#else
namespace {
struct Graph {};
}  // namespace
#endif

extern "C" {

// Makes an empty graph; its stream becomes the current one until `cistron_graph_leave`.
bool cistron_graph_enter(int index, Graph** out, char* error, std::size_t size) {
  return guarded(error, size, [&] {
#ifdef CISTRON_CUDA
    auto graph = std::make_unique<Graph>(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)));
    graph->guard.synchronizeStream(graph->guard.getStream(graph->device));
    graph->previous = graph->guard.exchangeStream(graph->stream);
    *out = graph.release();
#else
    TORCH_CHECK(false, "this build has no CUDA kernels");
#endif
  });
}

bool cistron_graph_begin(Graph* graph, char* error, std::size_t size) {
  return guarded(error, size, [&] {
#ifdef CISTRON_CUDA
    graph->guard.synchronizeStream(graph->stream);
    graph->capture_begin(graph->object, {0, 0}, cudaStreamCaptureModeThreadLocal);
#endif
  });
}

bool cistron_graph_end(Graph* graph, char* error, std::size_t size) {
  return guarded(error, size, [&] {
#ifdef CISTRON_CUDA
    graph->capture_end(graph->object);
#endif
  });
}

void cistron_graph_leave(Graph* graph) {
#ifdef CISTRON_CUDA
  if (graph->previous) graph->guard.exchangeStream(*graph->previous);
  graph->previous.reset();
#endif
}

bool cistron_graph_replay(Graph* graph, char* error, std::size_t size) {
  return guarded(error, size, [&] {
#ifdef CISTRON_CUDA
    graph->replay(graph->object);
#endif
  });
}

void cistron_graph_free(Graph* graph) { delete graph; }
}
