"""An issuer's public keys: where they are (RFC 8414, OpenID Connect Discovery), read, kept, and read again.

Rules: keys are read at the first token, again when they are a quarter of an hour old, and once for a key id that is not
among them. A flood of unknown key ids costs one reading a minute. While the issuer does not answer, the keys that were
read go on working. Symmetric keys are never used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import jwt

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.providers import url_safety
from triptych.providers.operator_urls import OperatorUrls
from triptych.server.scopes import IssuerAway

log = logging.getLogger(__name__)

ALGORITHMS: Mapping[str, str] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""The accepted algorithms and the type of their keys (`kty`). All are asymmetric."""
FRESH_S = 900
AGAIN_S = 60
"""The least time between two readings."""
FIRST_AGAIN_S = 5
"""The same while there are no keys at all."""
KEYS_LIMIT = 100
_PUBLIC = ("kty", "kid", "alg", "use", "n", "e", "crv", "x", "y")


class SigningKeys:
    """The keys of one issuer."""

    def __init__(self, issuer: str, urls: OperatorUrls, clock: Clock) -> None:
        self._issuer = issuer
        self._urls = urls
        self._clock = clock
        self._reading = anyio.Lock()
        self._keys: list[dict[str, Any]] = []
        self._built: dict[tuple[int, str], jwt.PyJWK] = {}
        self._stale_s = self._again_s = -math.inf
        self._keys_url: str | None = None
        self._is_away = False

    async def candidates(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """Return the keys that may have signed a token: with this id, or all without one; none if there is none.

        Raises: `IssuerAway` if there is none, and the issuer did not answer when it was last asked.
        """
        if self._clock.monotonic() >= self._stale_s:
            await self._read_again()
        found = self._suitable(kid, algorithm)
        if not found:
            await self._read_again()
            found = self._suitable(kid, algorithm)
        if not found and self._is_away:
            raise IssuerAway(max(1, math.ceil(self._again_s - self._clock.monotonic())))
        return found

    def _suitable(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        found = []
        for n, key in enumerate(self._keys):
            if key["kty"] != ALGORITHMS[algorithm] or key.get("alg", algorithm) != algorithm:
                continue
            if kid is not None and key.get("kid") != kid:
                continue
            if (n, algorithm) not in self._built:
                try:
                    self._built[n, algorithm] = jwt.PyJWK(key, algorithm)
                except Exception as error:  # one broken key must not hide the others
                    log.info("a key of %s cannot be used: %s", self._issuer, type(error).__name__)
                    continue
            found.append(self._built[n, algorithm])
        return found

    async def _read_again(self) -> None:
        """Read the keys, unless they were read a moment ago."""
        async with self._reading:
            now_s = self._clock.monotonic()
            if now_s < self._again_s:
                return
            self._again_s = now_s + (AGAIN_S if self._keys else FIRST_AGAIN_S)
            try:
                keys = await self._read()
            except errors.TriptychError as error:
                self._is_away, self._keys_url = True, None
                log.warning("the keys of the identity provider %s cannot be read: %s", self._issuer, error.message)
                return
            self._keys, self._built, self._is_away = keys, {}, False
            self._again_s, self._stale_s = now_s + AGAIN_S, now_s + FRESH_S

    async def _read(self) -> list[dict[str, Any]]:
        """Return the keys. Raises: `errors.TriptychError` saying why there are none."""
        url = self._keys_url or await self._discover()
        status, answer = await self._urls.read_json(url)
        listed = answer.get("keys") if status == 200 and isinstance(answer, dict) else None
        keys = [
            {name: key[name] for name in _PUBLIC if name in key}
            for key in (listed if isinstance(listed, list) else [])[:KEYS_LIMIT]
            if isinstance(key, dict) and key.get("kty") in ALGORITHMS.values() and key.get("use", "sig") == "sig"
        ]
        if not keys:
            raise errors.Outage(f"{errors.quoted(url, 200)} answers {status} without a key for signatures.")
        self._keys_url = url
        return keys

    async def _discover(self) -> str:
        """Return the URL of the keys, from the issuer's metadata."""
        reasons = []
        for url in metadata_urls(self._issuer):
            try:
                status, metadata = await self._urls.read_json(url)
            except errors.TriptychError as error:
                reasons.append(f"{url}: {error.message}")
                continue
            if status != 200 or not isinstance(metadata, dict):
                reasons.append(f"{url}: {status} without metadata")
            elif metadata.get("issuer") != self._issuer:
                named = errors.quoted(metadata.get("issuer"), 200)
                reasons.append(f"{url} names the issuer {named}: set TRIPTYCH_OAUTH_ISSUER to the right one, exactly")
            elif not isinstance(keys_url := metadata.get("jwks_uri"), str) or not url_safety.may_carry_key(keys_url):
                reasons.append(f"{url} has no https jwks_uri")
            else:
                return keys_url
        raise errors.Outage("; ".join(reasons))


def metadata_urls(issuer: str) -> list[str]:
    """Return where an issuer's metadata can be: RFC 8414, OpenID Connect the same way, OpenID Connect Discovery.

    RFC 8414 puts the well-known part between host and path, OpenID Connect Discovery behind the path.
    """
    parts = urlsplit(issuer)
    site, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    found = [f"{site}/.well-known/{name}{path}" for name in ("oauth-authorization-server", "openid-configuration")]
    return [*found, f"{site}{path}/.well-known/openid-configuration"] if path else found
