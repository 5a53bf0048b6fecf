// Opens a shared object that the binary carries.
#include "../shim.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

// Loads `count` bytes of a shared object from memory and returns what its function `name`,
// which takes nothing, returns; null with a message when that fails. It stays loaded.
extern "C" const void* cistron_open_object(const unsigned char* bytes, std::size_t count,
                                           const char* name, char* error, std::size_t size) {
  const int file = memfd_create("cistron", MFD_CLOEXEC);
  if (file < 0) {
    std::snprintf(error, size, "memfd_create: %s", std::strerror(errno));
    return nullptr;
  }
  for (std::size_t written = 0; written < count;) {
    const auto n = write(file, bytes + written, count - written);
    if (n <= 0) {
      std::snprintf(error, size, "writing to memory: %s", std::strerror(errno));
      close(file);
      return nullptr;
    }
    written += static_cast<std::size_t>(n);
  }
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  close(file);
  using Function = const void* (*)();
  const auto function =
      object == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(object, name));
  if (function == nullptr) {
    std::snprintf(error, size, "%s", dlerror());
    return nullptr;
  }
  return function();
}
