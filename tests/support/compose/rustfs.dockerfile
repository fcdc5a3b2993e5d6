# Stands in for RustFS's image where no registry of images can be reached: ministack's S3 server.
# Of its packages whatever versions Debian has: it lives for one run of the tests.
FROM python:3.13-slim
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/* \
 && python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir ministack \
 && install -d -o 10001 -g 10001 /data /home/rustfs
ENV GATEWAY_PORT=9000 BIND_HOST=0.0.0.0 S3_PERSIST=1 S3_DATA_DIR=/data HOME=/home/rustfs
USER 10001:10001
CMD ["/opt/venv/bin/python", "-m", "ministack"]
