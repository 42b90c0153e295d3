# nginx with ngx_http_vaani_module, and the programs around it.
#
#     docker build -t vaani .                      the endpoint
#     docker build -t vaani-tools --target tools . vaani-call, vaani-calls
#     docker build -t vaani-board --target board . the call board
#
# The module is built against the very nginx that the image ships:
#
#     --build-arg NGINX_BASE=docker.io/library/nginx:stable
#         the official image, or another one of Debian that has an nginx
#     --build-arg NGINX_BASE=docker.io/library/debian:trixie-slim
#         Debian, with the nginx of its packages
#
# docs/install.md has more.

ARG NGINX_BASE=docker.io/library/nginx:stable
ARG TOOLS_BASE=docker.io/library/debian:bookworm-slim
ARG NODE_BASE=docker.io/library/node:22-bookworm-slim


# ---- vaani-call, vaani-calls ---------------------------------------------------

FROM ${TOOLS_BASE} AS tools

RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
        --no-install-recommends perl libio-socket-ssl-perl ca-certificates \
    && rm -rf /var/lib/apt/lists/*

LABEL org.opencontainers.image.title="vaani-call and vaani-calls" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.licenses="BSD-2-Clause"

COPY bin/vaani-call bin/vaani-calls /usr/local/bin/

USER 10001:10001
CMD ["vaani-call", "--help"]


# ---- the endpoint ------------------------------------------------------------------

FROM ${NGINX_BASE} AS base

COPY container/install-nginx /tmp/
RUN /tmp/install-nginx && rm /tmp/install-nginx


FROM base AS build

# Where nginx's releases are, and the SHA-256 of the one that is fetched.
ARG NGINX_SOURCE=https://nginx.org/download
ARG NGINX_SHA256=

COPY . /usr/src/vaani
RUN /usr/src/vaani/container/build /out


FROM base AS endpoint

# "make version" sets it here.
LABEL org.opencontainers.image.title="nginx with ngx_http_vaani_module" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.licenses="BSD-2-Clause"

COPY --from=build /out/ /

VOLUME /var/spool/vaani

# the endpoint; management: status page, metrics, health
EXPOSE 8080 8081

USER 10001:10001

# Requests in progress are answered; SIGTERM would cut them off.
STOPSIGNAL SIGQUIT

HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["vaani-health"]

ENTRYPOINT ["vaani-entrypoint"]
CMD ["nginx", "-e", "stderr", "-g", "daemon off;"]


# ---- the call board --------------------------------------------------------------

FROM ${NODE_BASE} AS board

LABEL org.opencontainers.image.title="call board of ngx_http_vaani_module" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.licenses="BSD-2-Clause"

WORKDIR /board
COPY examples/subscribers/node subscribers/node
RUN npm ci --prefix subscribers/node --ignore-scripts --no-audit --no-fund
COPY examples/call-board call-board

ENV HOST=0.0.0.0 PORT=8090
EXPOSE 8090

USER 10001:10001
CMD ["node", "call-board/server.js"]


# ---- what is built without a target: the endpoint ----------------------------------

FROM endpoint
