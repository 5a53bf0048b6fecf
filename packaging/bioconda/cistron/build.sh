#!/usr/bin/env bash
set -euo pipefail

# The headers of libtorch are in $PREFIX/include, its libraries in $PREFIX/lib.
export LIBTORCH="$PREFIX"
export LIBTORCH_CXX11_ABI=1
export RUSTFLAGS="${RUSTFLAGS:-} -C link-arg=-Wl,-rpath,$PREFIX/lib"

cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --locked --no-track --path crates/cli --root "$PREFIX"

mkdir -p "$PREFIX/share/man/man1" \
    "$PREFIX/share/bash-completion/completions" \
    "$PREFIX/share/zsh/site-functions" \
    "$PREFIX/share/fish/vendor_completions.d"
"$PREFIX/bin/cistron" man --force "$PREFIX/share/man/man1"
"$PREFIX/bin/cistron" completions bash >"$PREFIX/share/bash-completion/completions/cistron"
"$PREFIX/bin/cistron" completions zsh >"$PREFIX/share/zsh/site-functions/_cistron"
"$PREFIX/bin/cistron" completions fish >"$PREFIX/share/fish/vendor_completions.d/cistron.fish"
