"""Settings from the environment, and logging to stderr.

Only `server` and `cli` read them; all other packages receive values.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from triptych.core import errors
from triptych.core.text import block, line
from triptych.jobs.service import ServiceConfig
from triptych.providers import load, names
from triptych.providers.client import Account, redact
from triptych.providers.url_safety import may_carry_key, site

TOKEN_CHARS = 16
"""The shortest token of an HTTP client; shorter ones can be guessed."""

SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""Endings of the names of variables whose values are removed from log lines."""

_SIGNATURE = re.compile(r"(/files/[^\s?'\"<>]*\?)[^\s'\"<>\\]+")
"""The signature in the URL of a file."""

_OAUTH = tuple(
    f"TRIPTYCH_OAUTH_{name}"
    for name in (
        *("ISSUER", "AUDIENCE", "SCOPE_PREFIX", "GROUPS_CLAIM"),
        *("INTROSPECTION_URL", "CLIENT_ID", "CLIENT_SECRET"),
    )
)

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class IntrospectionSettings:
    """The endpoint that is asked about opaque access tokens, and this server's name and password there."""

    url: str
    client_id: str
    client_secret: SecretStr


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """The identity provider of an HTTP server. `audience` None is the server's own URL."""

    issuer: str
    audience: str | None = None
    scope_prefix: str = ""
    groups_claim: str = "groups"
    introspection: IntrospectionSettings | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the environment."""

    setup: ServiceConfig
    auth_tokens: tuple[SecretStr, ...]
    log_level: str
    public_url: str | None = None
    """The URL at which clients reach an HTTP server: scheme, host and port, as `url_safety.site` spells them."""
    links: bool | None = None
    """Whether results have links to their images; None: chosen for each client."""
    oauth: OAuthSettings | None = None
    """The identity provider whose access tokens count over HTTP; None without one."""


def read(environ: Mapping[str, str], *, remote: bool = False) -> Settings:
    """Return the settings; with `remote`, callers may not use the working directory.

    Raises: `errors.BadRequest` naming the variable that is wrong.
    """
    accounts = _accounts(environ)
    default = environ.get("TRIPTYCH_PROVIDER", "").strip().lower()
    if default and default not in accounts:
        raise errors.BadRequest(
            f"TRIPTYCH_PROVIDER is {errors.quoted(default, 40)}; it must be one of {', '.join(accounts)}."
        )
    hosted = [name for name, account in accounts.items() if account.usable and not account.provider.offline]
    return Settings(
        setup=ServiceConfig(
            home=_home(environ),
            accounts=accounts,
            default_provider=default or (hosted[0] if hosted else "draft"),
            allowed_dirs=_allowed_dirs(environ, remote),
            budget_usd=_money(environ, "TRIPTYCH_BUDGET_USD", Decimal(10)),
            owner_budget_usd=_money(environ, "TRIPTYCH_OWNER_BUDGET_USD", None),
            group_budgets_usd=_group_budgets_usd(environ),
            confirm_usd=_confirm_usd(environ),
            live_models=_live_models(environ),
            database_url=_database_url(environ),
            proxy_resolves=environ.get("TRIPTYCH_PROXY_RESOLVES", "").strip().lower() in ("1", "true", "yes", "on"),
        ),
        auth_tokens=_auth_tokens(environ),
        log_level=log_level(environ),
        public_url=_public_url(environ),
        links=_on_or_off(environ, "TRIPTYCH_LINKS"),
        oauth=_oauth(environ),
    )


def log_level(environ: Mapping[str, str]) -> str:
    """Return the level in `TRIPTYCH_LOG_LEVEL`; WARNING without one or for an unknown word."""
    level = environ.get("TRIPTYCH_LOG_LEVEL", "").strip().upper()
    return level if level in LEVELS else "WARNING"


def configure_logging(level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send log lines to stderr, without any secret of the environment. stdout belongs to the protocol."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeLines(environ))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # These log whole URLs, and URLs can carry signatures.
    for noisy in ("httpx2", "httpcore2", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _SafeLines(logging.Formatter):
    """Removes all keys, tokens and passwords of the environment from every record, tracebacks included.

    Signatures in URLs of files are removed too: the SDK logs whole messages at DEBUG. A message stays on one line,
    without invisible characters.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        # Matched by name, so that no provider has to be loaded.
        self._secrets = [value.strip() for name, value in environ.items() if name.upper().endswith(SECRET_ENDINGS)]
        proxies = [value for name, value in environ.items() if name.upper().endswith(("_PROXY", "_DATABASE_URL"))]
        self._secrets += [password for proxy in proxies if (password := _password(proxy))]

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return line(self._without_secrets(super().formatMessage(record)))

    def format(self, record: logging.LogRecord) -> str:
        return block(self._without_secrets(super().format(record)))

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = redact(secret, text)
        return _SIGNATURE.sub(r"\1…", text)


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _accounts(environ: Mapping[str, str]) -> dict[str, Account]:
    accounts = {}
    for provider in sorted(map(load, names()), key=lambda p: (p.offline, p.rank, p.name)):
        base_urls = {
            base: environ.get(url.env, "").strip().rstrip("/") or url.default
            for base, url in provider.base_urls.items()
        }
        key = _secret(environ, provider.key_env) if provider.key_env else None
        account = Account(provider, key, base_urls)
        if provider.offers_at:
            account = replace(account, provider=replace(provider, offers=provider.offers_at(base_urls)))
        accounts[provider.name] = account
    return accounts


def _home(environ: Mapping[str, str]) -> Path:
    if named := environ.get("TRIPTYCH_HOME", "").strip():
        return _directory("TRIPTYCH_HOME", named)
    from platformdirs import user_data_path

    return user_data_path("triptych", appauthor=False)


def _allowed_dirs(environ: Mapping[str, str], remote: bool) -> tuple[Path, ...]:
    listed = [
        _directory("TRIPTYCH_ALLOWED_DIRS", item.strip())
        for item in environ.get("TRIPTYCH_ALLOWED_DIRS", "").split(os.pathsep)
        if item.strip()
    ]
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the directory was removed
        return tuple(listed)
    # A server started at the root of the file system would otherwise open the whole machine.
    return tuple(listed if remote or here == Path(here.anchor) else [here, *listed])


def _directory(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except (
        RuntimeError,
        FileNotFoundError,
    ) as error:  # `~` of an unknown user, or a relative path below a removed directory
        raise errors.BadRequest(f"{name} must be a directory; it is {errors.quoted(text, 100)}.") from error


def _on_or_off(environ: Mapping[str, str], name: str) -> bool | None:
    text = environ.get(name, "").strip().lower()
    if text not in ("", "on", "off"):
        raise errors.BadRequest(f"{name} must be on or off; it is {errors.quoted(text, 40)}.")
    return None if not text else text == "on"


def _live_models(environ: Mapping[str, str]) -> bool:
    text = environ.get("TRIPTYCH_MODELS", "").strip().lower()
    if text not in ("", "live", "builtin"):
        raise errors.BadRequest(
            "TRIPTYCH_MODELS must be live (all models of the providers' catalogues) or builtin (Triptych's own table); "
            f"it is {errors.quoted(text, 40)}."
        )
    return text != "builtin"


def _confirm_usd(environ: Mapping[str, str]) -> Decimal:
    value = _money(environ, "TRIPTYCH_CONFIRM_USD", Decimal(1))
    return Decimal("Infinity") if value is None else value


def _group_budgets_usd(environ: Mapping[str, str]) -> dict[str, Decimal]:
    """Return the cap of each group, in the order of the setting."""
    variable, found = "TRIPTYCH_GROUP_BUDGETS_USD", {}
    for item in filter(None, map(str.strip, environ.get(variable, "").split(","))):
        name, _, amount = (part.strip() for part in item.rpartition("="))
        usd = _money({variable: amount}, variable, None) if name and amount else None
        if usd is None or name in found:
            raise errors.BadRequest(
                f"{variable} must be groups with their amounts in US dollars, each group once, such as "
                f"design=20,press=5; it has {errors.quoted(item, 60)}."
            )
        found[name] = usd
    return found


def _oauth(environ: Mapping[str, str]) -> OAuthSettings | None:
    given = {name: text for name in _OAUTH if (text := environ.get(name, "").strip())}
    issuer = given.pop("TRIPTYCH_OAUTH_ISSUER", "")
    if not issuer:
        if given:
            raise errors.BadRequest(f"{min(given)} needs TRIPTYCH_OAUTH_ISSUER, the URL of the identity provider.")
        return None
    endpoint = given.get("TRIPTYCH_OAUTH_INTROSPECTION_URL")
    for name, url in (("ISSUER", issuer), ("INTROSPECTION_URL", endpoint)):
        if url and (not may_carry_key(url) or (name == "ISSUER" and re.search(r"[?#]", url))):
            raise errors.BadRequest(
                f"TRIPTYCH_OAUTH_{name} must be an https:// URL without credentials, as the identity provider spells "
                "it (http:// only for this machine)."
            )
    introspection = None
    if endpoint:
        client_id, secret = given.get("TRIPTYCH_OAUTH_CLIENT_ID"), _secret(environ, "TRIPTYCH_OAUTH_CLIENT_SECRET")
        if not client_id or not secret:
            raise errors.BadRequest(
                "TRIPTYCH_OAUTH_INTROSPECTION_URL needs TRIPTYCH_OAUTH_CLIENT_ID and TRIPTYCH_OAUTH_CLIENT_SECRET: the "
                "name and the password of this server at the identity provider."
            )
        introspection = IntrospectionSettings(endpoint, client_id, secret)
    return OAuthSettings(
        issuer=issuer,
        audience=given.get("TRIPTYCH_OAUTH_AUDIENCE"),
        scope_prefix=_scope_prefix(given.get("TRIPTYCH_OAUTH_SCOPE_PREFIX", "")),
        groups_claim=given.get("TRIPTYCH_OAUTH_GROUPS_CLAIM", "groups"),
        introspection=introspection,
    )


def _scope_prefix(text: str) -> str:
    if not re.fullmatch(r"[!#-\[\]-~]*", text):  # the characters of a scope, RFC 6749, 3.3
        raise errors.BadRequest(
            "TRIPTYCH_OAUTH_SCOPE_PREFIX is what stands before triptych:read at the identity provider, such as "
            f"api://triptych/; it is {errors.quoted(text, 100)}."
        )
    return text


def _money(environ: Mapping[str, str], name: str, default: Decimal | None) -> Decimal | None:
    text = environ.get(name, "").strip().lower().removeprefix("$")
    if not text:
        return default
    if text == "none":
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise errors.BadRequest(f"{name} must be an amount in US dollars such as 5 or 0.50 (or none); it is {text!r}.")
    return value


def _database_url(environ: Mapping[str, str]) -> SecretStr | None:
    value = _secret(environ, "TRIPTYCH_DATABASE_URL")
    if value and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise errors.BadRequest(
            "TRIPTYCH_DATABASE_URL must be postgresql://user:password@host:5432/database, or unset for SQLite in "
            "TRIPTYCH_HOME."
        )
    return value


def _public_url(environ: Mapping[str, str]) -> str | None:
    text = environ.get("TRIPTYCH_PUBLIC_URL", "").strip()
    if not text:
        return None
    found = site(text.removesuffix("/"))
    if not found or (urlsplit(found).hostname or "") in ("0.0.0.0", "::"):  # noqa: S104 (refused, not bound)
        raise errors.BadRequest(
            "TRIPTYCH_PUBLIC_URL must be http:// or https://, a host and at most a port, such as "
            f"https://images.example.com; it is {errors.quoted(text, 100)}. Leave out any path (clients add /mcp "
            "themselves), user name and query; a proxy must give Triptych its own host or port."
        )
    return found


def _auth_tokens(environ: Mapping[str, str]) -> tuple[SecretStr, ...]:
    value = _secret(environ, "TRIPTYCH_AUTH_TOKEN")
    tokens = re.split(r"[\s,]+", value.get_secret_value().strip(" ,")) if value else []
    for n, token in enumerate(tokens, 1):
        if len(token) < TOKEN_CHARS or not (token.isascii() and token.isprintable()):
            which = f"token {n} of {len(tokens)}" if len(tokens) > 1 else "the token"
            raise errors.BadRequest(
                f"TRIPTYCH_AUTH_TOKEN holds tokens separated by commas or spaces, each of at least {TOKEN_CHARS} ASCII "
                f"characters; {which} has {len(token)}, or non-ASCII characters. Make one with: "
                'python -c "import secrets; print(secrets.token_urlsafe())"'
            )
    return tuple(SecretStr(token) for token in dict.fromkeys(tokens))


def _secret(environ: Mapping[str, str], name: str) -> SecretStr | None:
    value = environ.get(name, "").strip()
    # Hosts that do not expand "${NAME}" pass the text on as it is.
    return SecretStr(value) if value and not value.startswith("${") else None
