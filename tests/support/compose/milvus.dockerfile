# Stands in for Milvus's image where no registry of images can be reached: Milvus Lite's server.
# Of its packages whatever versions Debian has: it lives for one run of the tests.
FROM python:3.13-slim
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/* \
 && python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir milvus-lite pymilvus
COPY --chmod=755 milvus.py /usr/local/bin/milvus
