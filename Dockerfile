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
RUN python3 -m venv --without-pip /opt/oidc-mirror && python3 -m venv /opt/builder
COPY requirements.lock requirements-build.lock ./
RUN /opt/builder/bin/pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r requirements-build.lock && \
    /opt/builder/bin/pip --python /opt/oidc-mirror install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r requirements.lock
# The program last: a change of it leaves the layers above as they are.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY mirror ./mirror
COPY scripts/image-trim ./scripts/
# What `oidc-mirror --version` says it was built from: there is no git history here.
ARG COMMIT=
RUN OIDC_MIRROR_COMMIT="$COMMIT" /opt/builder/bin/pip wheel --quiet --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --wheel-dir /dist . && \
    /opt/builder/bin/pip --python /opt/oidc-mirror install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
        --no-deps /dist/*.whl && \
    # What installs packages, and what is never asked for, has no place in what runs.
    scripts/image-trim packages /opt/oidc-mirror && \
    # The file system is read-only where it runs, so the bytecode is made here: it saves half of a start.
    /opt/oidc-mirror/bin/python -m compileall -q /opt/oidc-mirror/lib

# ---- what runs
FROM ${BASE}
# Where it was built from: --build-arg SOURCE=URL --build-arg COMMIT=…
ARG SOURCE="" COMMIT=""
LABEL org.opencontainers.image.title="oidc-mirror" \
      org.opencontainers.image.description="Mirrors the OIDC discovery documents of private Kubernetes clusters, validated, to git and a public S3 bucket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /src/scripts/image-trim /tmp/
# Their versions are the base image's: Debian removes older ones, so a pinned version would break the next build.
# hadolint ignore=DL3008
RUN useradd --uid 65532 --user-group --home-dir /var/lib/oidc-mirror --create-home --shell /usr/sbin/nologin oidc-mirror && \
    # State is the only place that is written: by this user, or by any in group 0, as OpenShift has it.
    chown 65532:0 /var/lib/oidc-mirror && chmod 0770 /var/lib/oidc-mirror && mkdir /etc/oidc-mirror && \
    printf 'path-exclude /usr/share/%s/*\n' man info locale doc >/etc/dpkg/dpkg.cfg.d/oidc-mirror && \
    echo 'path-include /usr/share/doc/*/copyright' >>/etc/dpkg/dpkg.cfg.d/oidc-mirror && \
    apt-get update && \
    # ssh asks for the name of its user. The image's own has one; libnss-unknown has one for any other uid.
    apt-get install --yes --no-install-recommends ca-certificates git openssh-client libnss-unknown && \
    /tmp/image-trim programs && \
    rm -rf /tmp/image-trim /var/lib/apt/lists/* /var/cache/* /var/log/*.log /var/log/apt
COPY --from=build /opt/oidc-mirror /opt/oidc-mirror
ENV PATH=/opt/oidc-mirror/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/oidc-mirror \
    NSS_UNKNOWN_HOME=/var/lib/oidc-mirror \
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
