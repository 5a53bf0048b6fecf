// The C boundary between Rust and libtorch. No exception crosses it: a function
// that can fail returns false and leaves its message in `error`, a buffer of
// `size` bytes that is always NUL-terminated.
#pragma once
#include <cstdint>
#include <cstdio>
#include <exception>

template <typename F>
bool guarded(char* error, std::size_t size, F&& body) {
  try {
    body();
    return true;
  } catch (const std::exception& e) {
    std::snprintf(error, size, "%s", e.what());
  } catch (...) {
    std::snprintf(error, size, "unknown C++ exception");
  }
  return false;
}
