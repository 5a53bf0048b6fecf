//! Operators of the models: plain libtorch forms and the C++ shim.
