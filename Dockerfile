# A server with the project in schema.py and functions/. Built from this folder: docker build -t reactor .
# docs/howto/deploy.md has the rest; a test runs each command below without Docker.

FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml README.md ./
COPY reactor ./reactor
RUN python -m venv --without-pip /convex/venv \
 && pip --python /convex/venv/bin/python install --no-cache-dir .

FROM python:3.11-slim
# curl: health checks written for Convex's own image call it.
RUN --mount=type=cache,target=/var/lib/apt/lists apt-get update && apt-get install -y --no-install-recommends curl
RUN useradd --uid 10001 --home-dir /convex --no-create-home --shell /usr/sbin/nologin convex \
 && mkdir -p /convex/data /data && chown convex:convex /convex/data /data
COPY --from=build /convex/venv /convex/venv
ENV PATH=/convex/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /convex
COPY deploy/run.sh deploy/generate_admin_key.sh ./
# The project. Another one: mount it at /convex/project, or build an image FROM this one that copies it there.
COPY schema.py pyproject.toml ./project/
COPY functions ./project/functions
USER convex
VOLUME /convex/data
EXPOSE 3210 3211
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["curl", "-fsS", "http://127.0.0.1:3210/version"]
CMD ["./run.sh", "serve", "--host", "0.0.0.0"]
