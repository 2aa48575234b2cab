"""Opaque access tokens: the issuer's introspection endpoint says what they are (RFC 7662).

An answer is kept for half a minute, and never longer than its token is valid. The endpoint gets at most a few requests
at once; more tokens than that wait, and too many are turned away for a moment.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import anyio

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.providers.operator_urls import OperatorUrls
from triptych.server.scopes import IssuerAway, Rejected

if TYPE_CHECKING:
    from triptych.settings import IntrospectionSettings

log = logging.getLogger(__name__)

KEPT_S = 30
KEPT = 4096
AT_ONCE = 8
WAITING = 64
AGAIN_S = 5
SKEW_S = 60
"""How much the clocks of issuer and server may differ."""


class Introspection:
    """The endpoint, and its last answers."""

    def __init__(
        self, settings: IntrospectionSettings, issuer: str, audience: str, urls: OperatorUrls, clock: Clock
    ) -> None:
        self._settings = settings
        self._issuer = issuer
        self._audience = audience
        self._urls = urls
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, dict[str, Any] | str]] = OrderedDict()
        self._free = anyio.CapacityLimiter(AT_ONCE)

    async def claims(self, token: str) -> dict[str, Any]:
        """Return what the issuer says of a token that is valid here.

        Raises: `Rejected` with the reason why it is not; `IssuerAway` without an answer.
        """
        key = hashlib.sha256(token.encode()).digest()
        until_s, found = self._kept.get(key, (0.0, ""))
        if self._clock.monotonic() >= until_s:
            found, left_s = await self._ask(token)
            self._kept[key] = self._clock.monotonic() + min(KEPT_S, left_s), found
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        if isinstance(found, str):
            raise Rejected(found)
        return found

    async def _ask(self, token: str) -> tuple[dict[str, Any] | str, float]:
        """Return the claims of a token or why it does not count, and for how many seconds that holds."""
        if self._free.statistics().tasks_waiting >= WAITING:
            raise IssuerAway(AGAIN_S)
        name, password = self._settings.client_id, self._settings.client_secret.get_secret_value()
        try:
            async with self._free:
                status, answer = await self._urls.read_json(
                    self._settings.url,
                    form={"token": token, "token_type_hint": "access_token"},
                    auth=(quote_plus(name), quote_plus(password)),  # RFC 6749, 2.3.1
                )
        except errors.TriptychError as error:
            log.warning("the introspection of the identity provider does not answer: %s", error.message)
            raise IssuerAway(AGAIN_S) from error
        if status != 200 or not isinstance(answer, dict):
            hint = ": check TRIPTYCH_OAUTH_CLIENT_ID and TRIPTYCH_OAUTH_CLIENT_SECRET" if 400 <= status < 500 else ""
            log.warning("the introspection of the identity provider answers %s%s", status, hint)
            raise IssuerAway(AGAIN_S)
        now_s = self._clock.now().timestamp()
        if reason := self._wrong(answer, now_s):
            return reason, KEPT_S
        return answer, max(0.0, (_seconds(answer.get("exp", math.inf)) or 0) - now_s)

    def _wrong(self, answer: Mapping[str, Any], now_s: float) -> str | None:
        """Return why a token does not count here; None if it does."""
        expires_s, begins_s = _seconds(answer.get("exp", math.inf)), _seconds(answer.get("nbf", 0))
        audience = answer.get("aud")
        if answer.get("active") is not True:
            return "The token is not active."
        if expires_s is None or expires_s + SKEW_S <= now_s:
            return "The token has expired."
        if begins_s is None or begins_s - SKEW_S > now_s:
            return "The token is not valid yet."
        if answer.get("iss", self._issuer) != self._issuer:
            return "The token is from another issuer."
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            log.info("an introspected token has the audience %s", errors.quoted(audience, 200))
            return "The token is for another audience."
        return None


def _seconds(value: object) -> float | None:
    """Return a time of a claim; None for anything else."""
    try:
        seconds = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return None if math.isnan(seconds) else seconds
