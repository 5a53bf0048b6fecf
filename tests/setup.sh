#!/bin/sh
# Installs the outside programs that the tests ask for: bcftools, tabix and Open MPI with apt-get, when
# that is there and we may; a Python with pyBigWig, safetensors and Snakemake in .venv-tests; and
# Nextflow from Maven Central, with the mvn and java that are there or come with apt-get. What cannot
# be installed is named, and the tests that want it say SKIPPED (under CI=true they fail).
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
modules='import snakemake, pygments'
if ! .venv-tests/bin/python -c "$modules" 2>/dev/null; then
    .venv-tests/bin/python -m pip install --quiet --disable-pip-version-check 'snakemake[reports]>=9,<10'
fi
.venv-tests/bin/python -c "$modules" 2>/dev/null ||
    echo "tests/setup.sh: Snakemake could not be installed in .venv-tests: pip install 'snakemake[reports]' there" >&2

if ! ls .venv-tests/nextflow/nextflow-*.jar >/dev/null 2>&1; then
    if ! command -v mvn >/dev/null || ! command -v java >/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            apt-get update -q && apt-get install -q -y --no-install-recommends default-jre-headless maven
        fi
    fi
    mvn -q -B -f tests/nextflow/pom.xml dependency:copy-dependencies \
        -DoutputDirectory="$PWD/.venv-tests/nextflow.new" >&2 &&
        rm -rf .venv-tests/nextflow && mv .venv-tests/nextflow.new .venv-tests/nextflow
fi
ls .venv-tests/nextflow/nextflow-*.jar >/dev/null 2>&1 ||
    echo "tests/setup.sh: Nextflow could not be fetched: install Java 17 and Maven, or put nextflow on PATH" >&2
exit 0
