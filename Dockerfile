# syntax=docker/dockerfile:1
# The image of one node: docker build -t campanile .
#
# It listens on port 8000 and keeps what it writes in /data. Everything is set by CAMPANILE_<SECTION>__<KEY> or by a
# campanile.toml in /data. It runs as nobody in particular, writes nowhere else, and needs no shell.

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY core core
COPY plugins plugins
COPY admin-ui admin-ui
COPY templates templates
COPY migrations migrations
COPY config config
# A member of the workspace, so cargo wants to see it; nothing of it is built.
COPY tests tests
# Shown by `campanile version` and campanile_build_info.
ARG CAMPANILE_COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    CAMPANILE_COMMIT="$CAMPANILE_COMMIT" cargo build --release --locked --package campanile-core --bin campanile \
    && install -D target/release/campanile /out/campanile

FROM debian:13-slim
# Roots for TLS towards PostgreSQL, RabbitMQ, mail relays and key sets.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 campanile \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin campanile \
    && install -d -o 10001 -g 10001 -m 700 /data
COPY --from=build /out/campanile /usr/local/bin/campanile
LABEL org.opencontainers.image.title="Campanile" \
      org.opencontainers.image.description="A notification platform in one binary" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV CAMPANILE_SERVER__LISTEN=0.0.0.0:8000 \
    CAMPANILE_SERVER__DATA_DIR=/data
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
# Drains: readiness off, deliveries finished, sockets told to come back. Give it 35 s before a kill.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["campanile", "healthcheck"]
ENTRYPOINT ["campanile"]
CMD ["serve"]
