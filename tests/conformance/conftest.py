"""Fixtures of `support.server_fixtures` that the tests here use."""

from support.server_fixtures import anyio_backend, http_url, node, sse_url

__all__ = ["anyio_backend", "http_url", "node", "sse_url"]
