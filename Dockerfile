# The HTTP server: streamable HTTP at :8765/mcp, for clients that send `Authorization: Bearer $TRIPTYCH_AUTH_TOKEN`.
#
#   docker build -t triptych .
#   docker run --init -p 127.0.0.1:8765:8765 -v triptych:/data \
#       -e TRIPTYCH_AUTH_TOKEN -e TRIPTYCH_PUBLIC_URL=http://127.0.0.1:8765 -e ATLASCLOUD_API_KEY triptych
#
# Without TRIPTYCH_AUTH_TOKEN it does not start. /data holds jobs, images and the budget's ledger: keep it. Put pictures
# that clients may name by path under /pictures (-v "$PWD":/pictures).

FROM python:3.13-slim AS build
# Such as postgres,s3,otel; see docs/self-hosting.md.
ARG EXTRAS=""
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/triptych \
    && /opt/triptych/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home triptych \
    && install -d -o triptych -g triptych /data /pictures
COPY --from=build /opt/triptych /opt/triptych
ENV PATH=/opt/triptych/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRIPTYCH_HOME=/data \
    TRIPTYCH_ALLOWED_DIRS=/pictures
USER triptych
WORKDIR /home/triptych
VOLUME ["/data"]
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
CMD ["triptych", "serve", "--transport", "http", "--host", "0.0.0.0"]
