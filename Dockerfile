# The HTTP server: streamable HTTP at :8765/mcp, for clients that send `Authorization: Bearer $TRIPTYCH_AUTH_TOKEN`.
#
#   docker build -t triptych .
#   docker run --init -p 127.0.0.1:8765:8765 -v triptych:/data \
#       -e TRIPTYCH_AUTH_TOKEN -e TRIPTYCH_PUBLIC_URL=http://127.0.0.1:8765 -e ATLASCLOUD_API_KEY triptych
#
# Without TRIPTYCH_AUTH_TOKEN it does not start. /data holds jobs, images and the budget's ledger: keep it. Put pictures
# that clients may name by path under /pictures (-v "$PWD":/pictures).

# The same image is a stdio server with `docker run -i --rm -v triptych:/data triptych triptych`.

# Both stages name one base: the tag says the version, the digest of its index (all platforms) holds it fast.
FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS build
# Anything, such as postgres,s3,otel, adds all extras; see docs/self-hosting.md.
ARG EXTRAS=""
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
COPY scripts/constraints scripts/
RUN python -m venv --without-pip /opt/triptych \
    && python scripts/constraints --print package ${EXTRAS:+extras} > requirements.txt \
    && pip --python /opt/triptych/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src/
RUN pip --python /opt/triptych/bin/python install --no-cache-dir --no-deps .

FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285
LABEL io.modelcontextprotocol.server.name="io.github.triptych-mcp/triptych" \
      org.opencontainers.image.title="Triptych" \
      org.opencontainers.image.description="An MCP server for making and editing sets of images that belong together" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin triptych \
    && install -d -o triptych -g triptych /data /pictures
COPY --from=build /opt/triptych /opt/triptych
# Only /data and /tmp are written to, so that the rest may be read-only (docker run --read-only --tmpfs /tmp).
ENV PATH=/opt/triptych/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TRIPTYCH_HOME=/data \
    TRIPTYCH_ALLOWED_DIRS=/pictures
USER 10001:10001
WORKDIR /home/triptych
VOLUME ["/data"]
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
CMD ["triptych", "serve", "--transport", "http", "--host", "0.0.0.0"]
