#!/bin/sh
# Prints the options of cargo that give the tests ranks over MPI, when CISTRON_MPI=1 asks for them and this
# machine can build them.
if [ "${CISTRON_MPI:-}" = 1 ] && command -v mpicc >/dev/null && command -v mpirun >/dev/null &&
    ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* 2>/dev/null | grep -q .; then
    echo --features cistron-cli/mpi,cistron-tests/mpi
fi
