#!/usr/bin/env bash
# Finds or installs libtorch 2.11.0 and points cargo at it.
#
#   LIBTORCH        an existing libtorch 2.11.0 (a folder with include/ and lib/); used as it is
#   CISTRON_CACHE   a folder outside the checkout for libtorch and cargo's target folder
#   CISTRON_CUDA    1 installs the CUDA libraries too, 0 does not; by default as a driver is found
#
# Without LIBTORCH it is taken from the PyPI wheel of PyTorch, in a private virtual
# environment: .libtorch in the checkout, or in CISTRON_CACHE.
set -euo pipefail

VERSION=2.11.0
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${CISTRON_CACHE:+$(mkdir -p "$CISTRON_CACHE" && cd "$CISTRON_CACHE" && pwd)}
venv=${cache:-$root}/.libtorch

fail() {
    echo "error: $*" >&2
    exit 1
}

has_driver() {
    [ "${CISTRON_CUDA:-}" = 1 ] && return 0
    [ "${CISTRON_CUDA:-}" = 0 ] && return 1
    [ -e /dev/nvidia0 ] || ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'
}

install_wheel() {
    local python=${PYTHON:-python3} packages
    command -v "$python" >/dev/null || fail "$python is not found: install Python 3 with pip, or set LIBTORCH to a libtorch $VERSION"
    # The wheel's CPU half needs two small CUDA libraries and nothing else; the rest
    # (2.7 GB) is of use with an NVIDIA driver alone.
    if has_driver; then
        packages=("torch==$VERSION")
    else
        packages=(--no-deps "torch==$VERSION" nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96)
    fi
    echo "installing libtorch $VERSION into $venv" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "$python cannot make a virtual environment: install its venv module (Debian: python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "${packages[@]}" >&2 ||
        fail "pip cannot install torch==$VERSION: check the network, or set LIBTORCH to a libtorch $VERSION"
    touch "$venv/complete"
}

if [ -n "${LIBTORCH:-}" ]; then
    [ -f "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so: point it at the folder of libtorch $VERSION that holds include/ and lib/"
    torch=$(cd "$LIBTORCH" && pwd)
else
    { [ -f "$venv/complete" ] && [ -x "$venv/bin/python" ]; } || install_wheel
    torch=$(echo "$venv"/lib/python3*/site-packages/torch)
fi

config=$root/.cargo/config.toml
mkdir -p "$root/.cargo"
{
    echo "# Written by scripts/libtorch.sh; run \`make libtorch\` to write it again."
    echo "[build]"
    [ -n "$cache" ] && echo "target-dir = \"$cache/target\""
    echo "rustflags = [\"-C\", \"link-arg=-Wl,-rpath,$torch/lib\"]"
    echo "rustdocflags = [\"-C\", \"link-arg=-Wl,-rpath,$torch/lib\"]"
    echo
    echo "[env]"
    echo "LIBTORCH = { value = \"$torch\", force = true }"
} >"$config.new"
# An unchanged file keeps its time, and cargo what it has built.
if cmp -s "$config.new" "$config"; then rm "$config.new"; else mv "$config.new" "$config"; fi
