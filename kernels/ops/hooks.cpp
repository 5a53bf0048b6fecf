// Gradients that gather in a tensor of ours, and say when they are complete.
#include "../shim.h"

#include <memory>
#include <stdexcept>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace {

extern "C" {
// Returns false with a message when it fails.
typedef bool (*HookCall)(void* closure, char* error, std::size_t size);
typedef void (*HookDrop)(void* closure);
}

// The closure, dropped with the leaf.
struct Hook : torch::autograd::PostAccumulateGradHook {
  void* closure;
  HookCall call;
  HookDrop drop;

  Hook(void* closure, HookCall call, HookDrop drop) : closure(closure), call(call), drop(drop) {}
  Hook(const Hook&) = delete;
  ~Hook() override { drop(closure); }

  void operator()(const at::Tensor&) override {
    char error[1024] = "";
    if (!call(closure, error, sizeof error)) throw std::runtime_error(error);
  }
};

}  // namespace

// From now on the gradient of `leaf` is added to `gradient`, which has its shape and kind;
// the closure is called each time that this is done. Takes the closure over.
extern "C" bool cistron_gather_into(at::Tensor* leaf, const at::Tensor* gradient, void* closure,
                                    HookCall call, HookDrop drop, char* error, std::size_t size) {
  auto hook = std::make_unique<Hook>(closure, call, drop);
  return guarded(error, size, [&] {
    leaf->mutable_grad() = *gradient;
    torch::autograd::impl::set_post_acc_grad_hooks(*leaf, std::move(hook));
  });
}
