"""Fixtures of `support.server_fixtures` that the tests here use."""

from support.server_fixtures import anyio_backend, client_of, connect, era, http_url, sse_url, told

__all__ = ["anyio_backend", "client_of", "connect", "era", "http_url", "sse_url", "told"]
