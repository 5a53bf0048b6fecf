// Activation checkpointing: a segment of a network keeps its input alone, and runs once
// more in the backward pass. The segment is a Rust closure from one tensor to one tensor.
#include "ops.h"

#include <string>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

extern "C" {
// Takes the input over; returns the output, or null with a message.
typedef at::Tensor* (*SegmentCall)(void* closure, at::Tensor* input, char* error, std::size_t size);
typedef void (*SegmentDrop)(void* closure);
}

// The closure, dropped with the last holder: the graph's node, in general.
struct Segment : torch::CustomClassHolder {
  void* closure;
  SegmentCall call;
  SegmentDrop drop;

  Segment(void* closure, SegmentCall call, SegmentDrop drop)
      : closure(closure), call(call), drop(drop) {}
  Segment(const Segment&) = delete;
  ~Segment() override { drop(closure); }

  at::Tensor run(const at::Tensor& input) const {
    char error[1024] = "";
    at::Tensor* output = call(closure, new at::Tensor(input), error, sizeof error);
    if (output == nullptr) throw std::runtime_error(error);
    at::Tensor result = std::move(*output);
    delete output;
    return result;
  }
};

// Inputs: the segment's input, then the leaves that it reads.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static at::Tensor forward(AutogradContext* ctx, at::TensorList tensors,
                            c10::intrusive_ptr<Segment> segment) {
    at::Tensor output = [&] {
      // Gradients are off here, but will be wanted: the run in the backward pass must be this one.
      const cistron::ops::GradientsLater later;
      return segment->run(tensors[0]);
    }();
    ctx->save_for_backward(tensors.vec());
    ctx->saved_data["segment"] = c10::IValue::make_capsule(std::move(segment));
    return output;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    variable_list tensors = ctx->get_saved_variables();
    auto holder = ctx->saved_data["segment"].toCapsule();
    const bool wanted = tensors[0].requires_grad();
    tensors[0] = tensors[0].detach().requires_grad_(wanted);
    at::Tensor output;
    {
      at::AutoGradMode with_graph(true);
      output = static_cast<const Segment*>(holder.get())->run(tensors[0]);
    }
    variable_list asked;
    for (const auto& tensor : tensors)
      if (tensor.requires_grad()) asked.push_back(tensor);
    variable_list found = torch::autograd::grad({output}, asked, {gradients[0]},
                                                /*retain_graph=*/false, /*create_graph=*/false,
                                                /*allow_unused=*/true);
    // One for each tensor, and one for the segment, which has none.
    variable_list result(tensors.size() + 1);
    std::size_t next = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i].requires_grad()) result[i] = std::move(found[next++]);
    return result;
  }
};

}  // namespace

// Gradients of `output` along `gradient` with respect to each input, into `found`.
extern "C" bool cistron_gradients(const at::Tensor* output, const at::Tensor* gradient,
                                  at::Tensor* const* inputs, std::size_t count, at::Tensor** found,
                                  char* error, std::size_t size) {
  return guarded(error, size, [&] {
    variable_list list;
    for (std::size_t i = 0; i < count; ++i) list.push_back(*inputs[i]);
    variable_list result = torch::autograd::grad({*output}, list, {*gradient});
    for (std::size_t i = 0; i < count; ++i) found[i] = new at::Tensor(std::move(result[i]));
  });
}

// Takes the closure over, also when it fails.
extern "C" at::Tensor* cistron_checkpoint(at::Tensor* const* tensors, std::size_t count,
                                          void* closure, SegmentCall call, SegmentDrop drop,
                                          char* error, std::size_t size) {
  at::Tensor* output = nullptr;
  guarded(error, size, [&] {
    auto segment = c10::make_intrusive<Segment>(closure, call, drop);
    variable_list list;
    for (std::size_t i = 0; i < count; ++i) list.push_back(*tensors[i]);
    output = new at::Tensor(Checkpoint::apply(at::TensorList(list), std::move(segment)));
  });
  return output;
}
