"""A provider with the key and the base URLs of this installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from triptych.core import errors
from triptych.core.secret import SecretStr
from triptych.providers import Provider, url_safety


@dataclass(frozen=True, slots=True)
class Account:
    """A provider with this user's key and base URLs.

    Raises: `errors.BadRequest`, naming the variable, for a base URL that would carry the key over plain http beyond
    this machine, and for a key that no header can carry.
    """

    provider: Provider
    key: SecretStr | None = None
    base_urls: Mapping[str, str] = field(default_factory=dict)
    callback_site: str | None = None
    """The site of this installation that the provider can call."""

    def __post_init__(self) -> None:
        for name, url in self.base_urls.items():
            known = self.provider.base_urls[name]
            if url != known.default and not url_safety.may_carry_key(url):
                raise errors.BadRequest(
                    f"{known.env} must be an https:// URL without credentials "
                    "(http:// only for 127.0.0.1, localhost or [::1])."
                )
        key = self.secret
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise errors.BadRequest(f"{self.provider.key_env} has a space or another character that is in no API key.")

    @property
    def secret(self) -> str:
        """The key as text; empty without one."""
        return self.key.get_secret_value() if self.key else ""

    @property
    def id(self) -> str:
        """The provider's name, and a hash of the key for its limits and pauses in the database; never the key."""
        if not self.key:
            return self.provider.name
        import hmac

        digest = hmac.digest(self.secret.encode(), b"Triptych account", "sha256")
        return f"{self.provider.name}:{digest.hex()[:8]}"

    @property
    def usable(self) -> bool:
        return self.provider.offline or bool(self.secret)

    @property
    def why_not(self) -> str | None:
        return None if self.usable else f"set {self.provider.key_env}"

    def loopback_origins(self) -> frozenset[str]:
        """Return the origins on this machine whose result URLs may be read."""
        urls = self.base_urls.values()
        return frozenset(url_safety.origin(url) for url in urls if url_safety.parsed(url).host in url_safety.LOOPBACK)
