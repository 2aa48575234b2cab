"""Signed URLs of image files: an HTTP server returns the file to every client that has the URL, for a limited time.

    https://images.example.com/files/job_1a2b3c4d/2?e=1795267800&s=kH0v3…

`e` is the end in UTC seconds. `s` is an HMAC-SHA256 over handle, owner and end, cut to 128 bits. The owner is not in
the URL. The server has no list of the owners who sign in at an identity provider: for them `s` is the owner itself,
encrypted and bound to handle and end by AES-SIV (RFC 5297), which makes the same text each time. Pure: the secret and
the time are given.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

LIFETIME_S = 3600
"""A new URL is valid for at least this time."""
OBJECT_LIFETIME_S = 7 * 86_400
"""The same for an image in an object store: its URL is in results instead of the provider's, and outlives it."""
SAME_FOR_S = 900
"""A URL expires at a full quarter of an hour: a second URL made within it is the same, so caches can use it."""

SIGNED_IN = "oauth:"
"""The beginning of an owner who signed in at an identity provider. As an owner that may sign: all of them."""

_QUERY = re.compile(rb"e=([1-9][0-9]{0,11})&s=([A-Za-z0-9_-]{22}|[A-Za-z0-9_-]{43})")


def make(
    secret: str, files_url: str, handle: str, owner: str | None, now: datetime, lifetime_s: int = LIFETIME_S
) -> tuple[str, datetime]:
    """Return a URL below `files_url`, and when it expires: after `lifetime_s`, or up to a quarter hour later."""
    until_s = (int(now.timestamp()) // SAME_FOR_S + 1) * SAME_FOR_S + lifetime_s
    url = f"{files_url}/{quote(handle)}?e={until_s}&s={_sign(secret, handle, owner, until_s)}"
    return url, datetime.fromtimestamp(until_s, UTC)


def read(query: bytes) -> tuple[int, str] | None:
    """Return the end and the signature in a URL's query; None for any other query."""
    found = _QUERY.fullmatch(query)
    return (int(found[1]), found[2].decode("ascii")) if found else None


def signers(
    secret: str, handle: str, owners: Iterable[str | None], until_s: int, signature: str, now: datetime
) -> list[str | None]:
    """Return the owners with this signature; none for a wrong signature, and none after the expiry.

    Every owner's signature is compared, each in constant time.
    """
    owners = list(owners)
    right: list[str | None] = [
        owner
        for owner in owners
        if owner != SIGNED_IN and hmac.compare_digest(signature, _sign(secret, handle, owner, until_s))
    ]
    if SIGNED_IN in owners and (found := _opened(secret, handle, until_s, signature)):
        right.append(found)
    return right if now.timestamp() < until_s else []


def _sign(secret: str, handle: str, owner: str | None, until_s: int) -> str:
    if owner and owner.startswith(SIGNED_IN):
        sealed = _cipher(secret).encrypt(bytes.fromhex(owner.removeprefix(SIGNED_IN)), _bound(handle, until_s))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")
    message = json.dumps(["triptych file", handle, owner, until_s]).encode()
    digest = hmac.digest(bytes.fromhex(secret), message, hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode("ascii")


def _opened(secret: str, handle: str, until_s: int, signature: str) -> str | None:
    """Return the owner in a signature; None for a signature that is not of this handle and end."""
    from cryptography.exceptions import InvalidTag

    try:
        sealed = base64.urlsafe_b64decode(f"{signature}=")
        owner = f"{SIGNED_IN}{_cipher(secret).decrypt(sealed, _bound(handle, until_s)).hex()}"
    except (InvalidTag, ValueError):
        return None
    # The last character of the text has two bits that are not part of the bytes.
    return owner if hmac.compare_digest(signature, _sign(secret, handle, owner, until_s)) else None


def _cipher(secret: str) -> AESSIV:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(hmac.digest(bytes.fromhex(secret), b"triptych files of owners who signed in", hashlib.sha512))


def _bound(handle: str, until_s: int) -> list[bytes]:
    return [json.dumps(["triptych file", handle, until_s]).encode()]
