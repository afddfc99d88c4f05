# The image of oidc-mirror: the program, git with an ssh client, and certificates. Nothing in it builds or installs.
#   docker build --build-arg "COMMIT=$(git rev-parse HEAD)" -t oidc-mirror .
#   docker run --read-only --tmpfs /tmp -v oidc-mirror:/var/lib/oidc-mirror -v ./mirror.yaml:/etc/oidc-mirror/mirror.yaml:ro oidc-mirror
# BASE must be Debian or a child of it with Python 3.11 or newer and venv; name a digest to build the same image twice.
ARG BASE=python:3.12-slim-bookworm

# ---- build: what is needed once. The environment is made where it will lie, because its programs hold their path.
FROM ${BASE} AS build
WORKDIR /src
# Wheels only, every hash checked, nothing but what is locked: no code of a package runs while it is installed.
# scripts/setup says why dependencies are not looked for.
RUN python3 -m venv /opt/oidc-mirror /opt/builder
COPY requirements.lock requirements-build.lock ./
RUN /opt/oidc-mirror/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r requirements.lock && \
    /opt/builder/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r requirements-build.lock
# The program last: a change of it leaves the layers above as they are.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY mirror ./mirror
# What `oidc-mirror --version` says it was built from: there is no git history here.
ARG COMMIT=
RUN OIDC_MIRROR_COMMIT="$COMMIT" /opt/builder/bin/pip wheel --quiet --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --wheel-dir /dist . && \
    /opt/oidc-mirror/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps /dist/*.whl && \
    # The file system is read-only where it runs, so the bytecode is made here: it saves half of a start.
    /opt/oidc-mirror/bin/python -m compileall -q /opt/oidc-mirror/lib && \
    # What installs packages has no place in what runs.
    /opt/oidc-mirror/bin/python -m pip uninstall --quiet --yes --disable-pip-version-check setuptools pip

# ---- what runs
FROM ${BASE}
LABEL org.opencontainers.image.title="oidc-mirror" \
      org.opencontainers.image.description="Mirrors the OIDC discovery documents of private Kubernetes clusters, validated, to git and a public S3 bucket" \
      org.opencontainers.image.licenses="Apache-2.0"
# Their versions are the base image's: Debian removes older ones, so a pinned version would break the next build.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates git openssh-client && \
    rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*.log /var/log/apt && \
    # ssh asks for the name of its user, so the uid needs one. State is the only place that this user may write.
    useradd --uid 65532 --user-group --home-dir /var/lib/oidc-mirror --create-home --shell /usr/sbin/nologin oidc-mirror && \
    chmod 0700 /var/lib/oidc-mirror && mkdir /etc/oidc-mirror
COPY --from=build /opt/oidc-mirror /opt/oidc-mirror
ENV PATH=/opt/oidc-mirror/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/oidc-mirror \
    OIDC_MIRROR_HEALTH_URL=http://127.0.0.1:9797/healthz
# By number: Kubernetes' runAsNonRoot can check nothing else.
USER 65532:65532
WORKDIR /var/lib/oidc-mirror
VOLUME /var/lib/oidc-mirror
EXPOSE 9797
# For engines that look at it; Kubernetes has probes of its own. Set the URL where http.listen is another.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['OIDC_MIRROR_HEALTH_URL'], timeout=4)"]
# A process of a container is no group leader that a shell could signal: SIGTERM reaches the program itself.
ENTRYPOINT ["oidc-mirror"]
CMD ["run"]
