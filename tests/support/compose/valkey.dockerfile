# Stands in for Valkey's image where no registry of images can be reached: Debian's package of the same server.
# Of its packages whatever versions Debian has: it lives for one run of the tests.
FROM python:3.13-slim
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends valkey-server valkey-tools \
 && rm -rf /var/lib/apt/lists/* && install -d -o 999 -g 1000 /data
USER 999:1000
WORKDIR /data
