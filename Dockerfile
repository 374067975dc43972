# One file, four targets: runtime (CPU), gpu (TORCH names a CUDA build), services (MLflow's server), dev (tests and tools).
# `make image` calls it; it needs no network: build/wheels holds every package, downloaded and verified by hash before.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG BUILD_IMAGE=python:3.11-bookworm

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
# USER and LOGNAME: the ledger records the user of a promotion, and the uid has no entry in /etc/passwd.
ENV PATH=/opt/mcti/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=mcti \
    LOGNAME=mcti \
    GIT_PYTHON_REFRESH=quiet \
    MPLCONFIGDIR=/tmp/matplotlib \
    DO_NOT_TRACK=true \
    GX_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false \
    MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false

# hadolint ignore=DL3006
FROM ${BUILD_IMAGE} AS packages
ARG TORCH=torch==2.13.0
ARG LOCK=requirements-runtime.lock
RUN python3 -m venv --without-pip /opt/mcti
COPY ${LOCK} /src/lock
# hadolint ignore=DL3013
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    python3 -m pip --python /opt/mcti/bin/python3 install --no-cache-dir --no-compile --no-index --find-links /wheels/torch --find-links /wheels/locked "${TORCH}" setuptools \
    && python3 -m pip --python /opt/mcti/bin/python3 install --no-cache-dir --no-compile --no-index --find-links /wheels/locked --no-deps --no-build-isolation --require-hashes -r /src/lock
# Only the result of this stage is copied: files that it removes are in no layer of the image.
COPY infra/images/trim.sh /src/trim.sh
RUN /src/trim.sh /opt/mcti

# A separate layer: a change of the code does not transfer all packages again.
FROM packages AS project
COPY pyproject.toml README.md LICENSE /src/
COPY mcti /src/mcti
RUN python3 -m pip --python /opt/mcti/bin/python3 install --no-cache-dir --no-index --no-deps --no-build-isolation \
    --root /only /src

FROM base AS runtime
ARG COMMIT=unknown
ENV MCTI_COMMIT=${COMMIT}
LABEL org.opencontainers.image.revision=${COMMIT} org.opencontainers.image.licenses=Apache-2.0
COPY --from=packages /opt/mcti /opt/mcti
COPY --from=project /only/opt/mcti /opt/mcti
# The root file system may be read-only: temporary files are written to this folder.
VOLUME /tmp
WORKDIR /tmp
USER 10001:10001
CMD ["mcti", "--help"]

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# With LOCK=requirements.lock, as in `make image TARGET=services`: MLflow's server, the backup.
FROM runtime AS services

FROM runtime AS dev
WORKDIR /src
COPY . /src
CMD ["python3", "-m", "pytest", "-m", "not stack and not container"]
