"""Access tokens of an identity provider: an OAuth 2.1 resource server's checks. Imported when an issuer is set.

A JWT is checked here, with the issuer's public keys (`signing_keys`): signature by an asymmetric algorithm, issuer,
audience, expiry, start. Any other token is sent to the issuer's introspection endpoint, if one is set
(`introspection`). PyJWT does the cryptography. Of a token's header only `alg` and `kid` are used: a key or an address
of a key in it is not.

A caller is the hash of issuer and subject. Its budget group is the first of `TRIPTYCH_GROUP_BUDGETS_USD` that the token
names.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jwt
from mcp.server.auth.provider import AccessToken

from triptych.core.clock import Clock, SystemClock
from triptych.jobs.caller import READ, SPEND
from triptych.jobs.file_links import SIGNED_IN
from triptych.providers.operator_urls import OperatorUrls
from triptych.server import scopes
from triptych.server.introspection import SKEW_S, Introspection
from triptych.server.signing_keys import ALGORITHMS, SigningKeys

if TYPE_CHECKING:
    from triptych.settings import OAuthSettings

log = logging.getLogger(__name__)

TOKEN_LIMIT_CHARS = 16 * 1024
KID_LIMIT_CHARS = 256
SUBJECT_LIMIT_CHARS = 1024
GROUPS_LIMIT = 1000

_REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: "The token is for another audience.",
    jwt.InvalidIssuerError: "The token is from another issuer.",
    jwt.MissingRequiredClaimError: "The token lacks a required claim (iss, aud, sub, exp).",
}


def owner_of(issuer: str, subject: str) -> str:
    """Return the owner of a subject: always the same id, and another one at another issuer."""
    digest = hashlib.sha256(b"triptych signed-in owner\0" + json.dumps([issuer, subject]).encode()).hexdigest()
    return SIGNED_IN + digest[:32]


class OAuth:
    """The SDK's `TokenVerifier` for the access tokens of one issuer.

    `resource` is this server as its clients know it. `groups` are the groups with a budget, in order.
    """

    def __init__(
        self,
        settings: OAuthSettings,
        resource: scopes.Resource,
        groups: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        clock, urls = clock or SystemClock(), OperatorUrls()
        self.resource = resource
        self._issuer = settings.issuer
        self._audience = settings.audience or resource.url
        self._groups = tuple(groups)
        self._groups_claim = settings.groups_claim
        self._keys = SigningKeys(settings.issuer, urls, clock)
        self._introspection = (
            Introspection(settings.introspection, settings.issuer, self._audience, urls, clock)
            if settings.introspection
            else None
        )
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True, "verify_jti": False})

    async def verify_token(self, token: str) -> AccessToken:
        """Return what a token allows.

        Raises: `scopes.Rejected` for a token that does not count; `scopes.IssuerAway` while nobody can say whether it
        does.
        """
        token = token.strip()
        if not token or len(token) > TOKEN_LIMIT_CHARS or not (token.isascii() and token.isprintable()):
            raise scopes.Rejected("The token is not an access token.")
        header = _header(token)
        if header is not None:
            claims = await self._signed_claims(token, header)
        elif self._introspection:
            claims = await self._introspection.claims(token)
        else:
            raise scopes.Rejected("The token is not a JWT, and no introspection is set.")
        return self._access(claims)

    async def _signed_claims(self, token: str, header: Mapping[str, Any]) -> dict[str, Any]:
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise scopes.Rejected("The token is not signed by an algorithm that is accepted.")
        if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= KID_LIMIT_CHARS):
            raise scopes.Rejected("The token's key id is not one.")
        reason = "The token is signed by an unknown key."
        for key in await self._keys.candidates(kid, algorithm):
            try:
                return self._jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=SKEW_S,
                    options={"require": ["iss", "aud", "sub", "exp"]},
                )
            except Exception as error:  # a hostile token can raise anything in its reader
                reason = _REASONS.get(type(error), "The token's signature or content is wrong.")
                log.info("an access token was refused (%s); this server is %s", type(error).__name__, self._audience)
        raise scopes.Rejected(reason)

    def _access(self, claims: Mapping[str, Any]) -> AccessToken:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LIMIT_CHARS:
            raise scopes.Rejected("The token has no subject.")
        return AccessToken(
            token="",
            client_id=owner_of(self._issuer, subject),
            scopes=self._scopes(claims),
            claims={"group": self._group(claims)},
        )

    def _scopes(self, claims: Mapping[str, Any]) -> list[str]:
        """Return our scopes in a token, without the prefix: from `scope`, `scp` (Entra, Okta) or `roles` (Entra)."""
        given = {one for name in ("scope", "scp", "roles") for one in words(claims.get(name))}
        both = (READ, SPEND)
        return [scope for scope in both if scope in given or self.resource.prefix + scope in given]

    def _group(self, claims: Mapping[str, Any]) -> str | None:
        value = claims.get(self._groups_claim)
        named = {value} if isinstance(value, str) else set(words(value))
        return next((group for group in self._groups if group in named), None)


def words(value: object) -> list[str]:
    """Return a claim as a list of texts: a text with spaces, or a list."""
    if isinstance(value, str):
        return value.split()
    return [one for one in value[:GROUPS_LIMIT] if isinstance(one, str)] if isinstance(value, list) else []


def _header(token: str) -> dict[str, Any] | None:
    """Return the header of a JWT; None for a token of another form."""
    if token.count(".") != 2:
        return None
    try:
        return jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None
    except Exception as error:
        raise scopes.Rejected("The token is not an access token.") from error
