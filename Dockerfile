# One image for all roles, chosen by command: worker (the default), scheduler, dask-worker, lab, or any other
# command of ingestlab. Nothing but the base image is taken from a registry of images.
FROM python:3.13-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/ingestlab/bin:$PATH

# The locked packages: made anew when they change, and not when our code does.
FROM base AS packages
WORKDIR /build
COPY pyproject.toml requirements.lock ./
ARG EXTRAS=server
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/ingestlab \
 && mkdir ingestlab && touch ingestlab/__init__.py README.md LICENSE \
 && pip install --constraint requirements.lock ".[$EXTRAS]" \
 && pip uninstall --yes ingestlab \
 && find /opt/ingestlab -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -exec rm -r {} +

# Our own code, as the wheel that everyone gets.
FROM base AS wheel
WORKDIR /build
RUN --mount=type=cache,target=/root/.cache/pip python -m venv /opt/ingestlab && pip install hatchling==1.33.0
COPY pyproject.toml README.md LICENSE ./
COPY ingestlab ingestlab
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM base
# The home is for whichever user the image is run as, and /shared for what notebooks and workers share.
RUN useradd --uid 1000 --create-home ingestlab && chmod 0777 /home/ingestlab && install -d -m 0777 /app /shared
COPY --from=packages /opt/ingestlab /opt/ingestlab
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-index --no-deps --no-cache-dir /wheels/*.whl
WORKDIR /app
COPY --chown=1000:1000 pipelines pipelines
COPY --chown=1000:1000 notebooks notebooks
ENV HOME=/home/ingestlab \
    INGESTLAB_HOME=/home/ingestlab/.ingestlab \
    INGESTLAB_PIPELINES=/app/pipelines \
    INGESTLAB_NOTEBOOKS=/app/notebooks
USER 1000:1000
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --start-interval=1s CMD ["python", "-m", "ingestlab.stack.health"]
ENTRYPOINT ["ingestlab"]
CMD ["worker"]
