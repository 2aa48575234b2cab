"""Fixtures of `support.server_fixtures` that the tests here use."""

from support.server_fixtures import anyio_backend, client_of, era, told

__all__ = ["anyio_backend", "client_of", "era", "told"]
