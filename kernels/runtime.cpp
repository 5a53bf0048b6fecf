// Facts about the running libtorch, and loading of its CUDA half on demand.
//
// The binary links libtorch_cpu alone: libtorch_cuda costs about 350 MB and
// 0.15 s before main() even where no GPU is used. Loading it with RTLD_GLOBAL
// registers its kernels and hooks with the dispatcher; this must happen before
// the first question about CUDA, whose answer libtorch caches.
#include "shim.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/DeviceGuard.h>
#include <dlfcn.h>
#include <malloc.h>
#include <torch/version.h>

extern "C" {

const char* cistron_torch_version() { return TORCH_VERSION; }

bool cistron_kernels_built() {
#ifdef CISTRON_CUDA
  return true;
#else
  return false;
#endif
}

// glibc returns large blocks to the system on free, and every operator would pay
// for fresh zeroed pages: a quarter of the time of small CPU models. Keep them.
void cistron_keep_memory() {
  // Older versions of glibc refuse more than 32 MB.
  if (mallopt(M_MMAP_THRESHOLD, 1 << 30) == 0) mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
}

bool cistron_load_cuda(char* error, std::size_t size) {
  for (const char* library : {"libc10_cuda.so", "libtorch_cuda.so"}) {
    if (dlopen(library, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      std::snprintf(error, size, "%s", dlerror());
      return false;
    }
  }
  return true;
}

bool cistron_driver_present() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return false;
  dlclose(driver);
  return true;
}

// 0 where CUDA is absent; e.g. 13000 for CUDA 13.0.
std::int64_t cistron_cuda_version(char* error, std::size_t size) {
  std::int64_t version = 0;
  guarded(error, size, [&] {
    if (at::hasCUDA()) version = at::detail::getCUDAHooks().versionCUDART();
  });
  return version;
}

// Products of fp32 matrices on the GPU with inputs rounded to TF32 (10 bits), or in full.
void cistron_allow_tf32(bool allow) { at::globalContext().setAllowTF32CuBLAS(allow); }

// Bytes that the caching allocator has had in use at most since the last reset, or -1.
std::int64_t cistron_peak_memory(std::int64_t device, bool reset, char* error, std::size_t size) {
  std::int64_t bytes = -1;
  guarded(error, size, [&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    if (reset) at::accelerator::resetPeakStats(index);
    // The first entry counts all pools together.
    bytes = at::accelerator::getDeviceStats(index).allocated_bytes[0].peak;
  });
  return bytes;
}
}
