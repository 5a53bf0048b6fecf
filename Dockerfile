# cistron in a container.
#
#   docker build -t cistron:0.1.0 .                                  CPU
#   docker build --build-arg CUDA=1 -t cistron:0.1.0-cuda .          NVIDIA GPUs, CUDA 13.0
#   docker run --rm -v "$PWD:/data" cistron:0.1.0 cistron doctor
#   docker run --rm --gpus all -v "$PWD:/data" cistron:0.1.0-cuda cistron doctor

FROM rust:1.95-slim-bookworm AS build
ARG CUDA=0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# libtorch in /opt/cistron/.libtorch, and with CUDA=1 the compiler of the kernels.
RUN CISTRON_CACHE=/opt/cistron CISTRON_CUDA=${CUDA} scripts/libtorch.sh \
    && if [ "${CUDA}" = 1 ]; then \
        /opt/cistron/.libtorch/bin/python -m pip install --no-cache-dir \
            nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl; \
    fi
# The run path names the library folder, which the next stage has at the same place.
RUN cargo install --locked --path crates/cli --root /opt/cistron \
    && strip /opt/cistron/bin/cistron \
    && rm -rf /opt/cistron/target \
    && mkdir -p /opt/cistron/share/man/man1 \
    && /opt/cistron/bin/cistron man --force /opt/cistron/share/man/man1 \
    && /opt/cistron/bin/cistron selftest
# What is needed to run: shared libraries, without headers, Python and archives.
RUN find /opt/cistron/.libtorch -type d \( -name include -o -name '*.dist-info' -o -name share \) \
        -prune -exec rm -rf {} + \
    && find /opt/cistron/.libtorch -type f ! -name '*.so' ! -name '*.so.*' -delete \
    && find /opt/cistron/.libtorch -type l ! -name '*.so*' -delete

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="cistron" \
    org.opencontainers.image.description="A genome language model workbench for prokaryotes" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.source="https://github.com/cistron-bio/cistron"
# procps: Nextflow measures tasks with ps. No entry point: engines start bash.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends procps \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/cistron /opt/cistron
ENV PATH=/opt/cistron/bin:$PATH \
    MANPATH=/opt/cistron/share/man:
WORKDIR /data
CMD ["cistron", "--help"]
