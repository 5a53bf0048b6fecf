#!/bin/sh
# Prints the options of cargo that give the tests ranks over MPI, where this machine can build them.
if command -v mpicc >/dev/null && command -v mpirun >/dev/null &&
    ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* 2>/dev/null | grep -q .; then
    echo --features cistron-cli/mpi,cistron-tests/mpi
fi
