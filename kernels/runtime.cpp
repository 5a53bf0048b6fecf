// Facts about the running libtorch, and loading of its CUDA half on demand.
//
// The binary links libtorch_cpu alone: libtorch_cuda costs about 350 MB and
// 0.15 s before main() even where no GPU is used. Loading it with RTLD_GLOBAL
// registers its kernels and hooks with the dispatcher; this must happen before
// the first question about CUDA, whose answer libtorch caches.
#include "shim.h"

#include <ATen/Context.h>
#include <ATen/DeviceGuard.h>
#include <dlfcn.h>
#include <torch/version.h>

extern "C" {

const char* cistron_torch_version() { return TORCH_VERSION; }

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
}
