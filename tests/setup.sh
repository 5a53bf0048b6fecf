#!/bin/sh
# Installs the outside programs that the tests ask for: bcftools, tabix and Open MPI with apt-get, when
# that is there and we may; a Python with pyBigWig and safetensors in .venv-tests. What cannot be
# installed is named, and the tests that want it say SKIPPED (under CI=true they fail).
cd "$(dirname "$0")/.." || exit 1

if ! command -v bcftools >/dev/null || ! command -v tabix >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -q && apt-get install -q -y --no-install-recommends bcftools tabix
    fi
fi
if ! command -v mpicc >/dev/null || ! command -v mpirun >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -q && apt-get install -q -y --no-install-recommends \
            libopenmpi-dev openmpi-bin libclang-dev
    fi
fi
for program in bcftools tabix mpirun; do
    command -v "$program" >/dev/null || echo "tests/setup.sh: $program is absent: install it with your package manager" >&2
done

modules='import pyBigWig, safetensors.numpy'
if ! .venv-tests/bin/python -c "$modules" 2>/dev/null; then
    python3 -m venv .venv-tests &&
        .venv-tests/bin/python -m pip install --quiet --disable-pip-version-check \
            numpy pyBigWig safetensors
fi
.venv-tests/bin/python -c "$modules" 2>/dev/null ||
    echo "tests/setup.sh: no Python with pyBigWig and safetensors could be made in .venv-tests" >&2

# JBrowse 2, igv.js and what drives Chromium, for tests/tests/browsers.rs.
if [ ! -f tests/browser/node_modules/igv/package.json ] && command -v npm >/dev/null; then
    tests/browser/install.sh
fi
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get install -q -y --no-install-recommends chromium
fi
for program in node chromium; do
    command -v "$program" >/dev/null || echo "tests/setup.sh: $program is absent: install it with your package manager" >&2
done
exit 0
