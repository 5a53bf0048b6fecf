// Headers of libtorch that most sources include: compiled once, ahead of them.
#pragma once
#include <ATen/ATen.h>
#include <ATen/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
