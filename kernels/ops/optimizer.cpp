// The optimizer's work over all parameters at once: a few launches instead of some for each.
#include "../shim.h"

#include <ATen/ATen.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/GradMode.h>

namespace {
std::vector<at::Tensor> list(at::Tensor* const* tensors, std::size_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (std::size_t i = 0; i < count; ++i) out.push_back(*tensors[i]);
  return out;
}
}  // namespace

extern "C" {

// AdamW with decoupled weight decay, in place. Four lists end to end: parameters, gradients,
// first and second moments, each of `count`.
bool cistron_adamw(at::Tensor* const* tensors, std::size_t count, double step, double rate,
                   double beta1, double beta2, double decay, double eps, char* error,
                   std::size_t size) {
  return guarded(error, size, [&] {
    if (count == 0) return;
    c10::AutoGradMode no_grad(false);
    auto params = list(tensors, count), gradients = list(tensors + count, count);
    auto first = list(tensors + 2 * count, count), second = list(tensors + 3 * count, count);
    const auto options = params[0].options().dtype(at::kFloat).requires_grad(false);
    std::vector<at::Tensor> steps(count, at::full({}, step, options));
    at::_fused_adamw_(params, gradients, first, second, {}, steps, rate, beta1, beta2, decay, eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  });
}

// Euclidean norm of each tensor, stacked.
at::Tensor* cistron_norms(at::Tensor* const* tensors, std::size_t count, char* error,
                          std::size_t size) {
  at::Tensor* output = nullptr;
  guarded(error, size, [&] {
    c10::AutoGradMode no_grad(false);
    output = new at::Tensor(at::stack(at::_foreach_norm(list(tensors, count), 2)));
  });
  return output;
}

// Multiplies each tensor by `factor`, in place.
bool cistron_scale(at::Tensor* const* tensors, std::size_t count, double factor, char* error,
                   std::size_t size) {
  return guarded(error, size, [&] {
    c10::AutoGradMode no_grad(false);
    auto all = list(tensors, count);
    at::_foreach_mul_(all, factor);
  });
}

// Copies tensors into others: the targets, then as many sources.
bool cistron_copy(at::Tensor* const* tensors, std::size_t count, char* error, std::size_t size) {
  return guarded(error, size, [&] {
    if (count == 0) return;
    c10::AutoGradMode no_grad(false);
    auto to = list(tensors, count), from = list(tensors + count, count);
    at::_foreach_copy_(to, from);
  });
}
}
