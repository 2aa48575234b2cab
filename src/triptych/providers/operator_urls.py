"""Requests to URLs that the operator set, such as those of an identity provider.

Unlike URLs from outside (`guarded_transport`) they may lead to a private address. The other rules hold: https, or http
to this machine only; no redirect; no cookie; limits on time and size. The environment's proxy is used, but none to this
machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio
import httpx2

from triptych.core import errors
from triptych.providers import guarded_transport, url_safety
from triptych.providers.client import DIRECT, new_client

LIMIT_S = 5.0
"""The time limit of one request, from its start to the end of its answer."""
LIMIT_BYTES = 512 * 1024


class OperatorUrls:
    """One client for the operator's URLs. It keeps no connection open, and so nothing has to be closed."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    async def read_json(
        self, url: str, *, form: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return the status and the JSON of an answer, None for a body that is no JSON; with `form`, POST it.

        `auth` is a name and a password for HTTP Basic.

        Raises: `errors.NotAllowed` for a URL that is neither https nor on this machine; `errors.Outage` without an
        answer in time, and for one that is too large.
        """
        if not url_safety.may_carry_key(url):
            raise errors.NotAllowed(
                f"Only https:// URLs are used (http:// only for this machine); this is {errors.quoted(url, 100)}."
            )
        if self._client is None:
            self._client = new_client(mounts=DIRECT, limits=httpx2.Limits(max_keepalive_connections=0))
        try:
            with anyio.fail_after(LIMIT_S):
                request = self._client.build_request(
                    "POST" if form else "GET", url, data=form, headers={"Accept": "application/json"}, timeout=LIMIT_S
                )
                response = await self._client.send(request, stream=True, auth=auth)
                try:
                    body = await guarded_transport.read_body(response, LIMIT_BYTES)
                finally:
                    await response.aclose()
        except guarded_transport.TooLarge as error:
            raise errors.Outage(f"The answer is larger than {LIMIT_BYTES} bytes.") from error
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, UnicodeError, TimeoutError) as error:
            raise errors.Outage(f"There was no answer ({type(error).__name__}).") from error
        try:
            return response.status_code, json.loads(body)
        except (ValueError, RecursionError):
            return response.status_code, None
