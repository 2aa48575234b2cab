"""Fixtures of `support` that the tests here use."""

from support.gallery_host import browser, open_host, server, tab
from support.server_fixtures import http_url

__all__ = ["browser", "http_url", "open_host", "server", "tab"]
