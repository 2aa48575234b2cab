"""Settings from the environment.

Only `server` and `cli` read them; all other packages receive values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from triptych.core import errors
from triptych.core.secret import SecretStr
from triptych.jobs import callbacks
from triptych.jobs.config import ObjectsPlace, ServiceConfig
from triptych.logs import LogFormat
from triptych.providers import load, names
from triptych.providers.accounts import Account
from triptych.providers.url_safety import may_carry_key, site

TOKEN_CHARS = 16
"""The shortest token of an HTTP client; shorter ones can be guessed."""

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
}
_S3_OPTIONS = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
    "AWS_ENDPOINT": "endpoint",
    "AWS_ENDPOINT_URL": "endpoint",
    "AWS_ENDPOINT_URL_S3": "endpoint",
}
"""Variables of S3 by the names of obstore, the stronger of two last. obstore reads all others from the environment."""

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
    log_format: LogFormat = "text"
    metrics: bool = False
    """Whether an HTTP server has `/metrics`."""
    metrics_token: SecretStr | None = None
    """The bearer token of `/metrics`, which opens nothing else."""
    public_url: str | None = None
    """The URL at which clients reach an HTTP server: scheme, host and port, as `url_safety.site` spells them."""
    links: bool | None = None
    """Whether results have links to their images; None: chosen for each client."""
    oauth: OAuthSettings | None = None
    """The identity provider whose access tokens count over HTTP; None without one."""

    @property
    def shared(self) -> bool:
        """Whether other machines use the database too."""
        return self.setup.database_url is not None


def variables() -> set[str]:
    """Return the name of every variable that `read` reads."""
    asked: set[str] = set()

    class Empty(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return default

    read(Empty())
    return asked


def read(environ: Mapping[str, str], *, remote: bool = False) -> Settings:
    """Return the settings; with `remote`, callers may not use the working directory.

    Raises: `errors.BadRequest` naming the variable that is wrong.
    """
    public_url = _public_url(environ)
    accounts = _accounts(environ, None if _on_or_off(environ, "TRIPTYCH_WEBHOOKS") is False else public_url)
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
            objects=_objects(environ),
            proxy_resolves=environ.get("TRIPTYCH_PROXY_RESOLVES", "").strip().lower() in ("1", "true", "yes", "on"),
        ),
        auth_tokens=_auth_tokens(environ),
        log_level=log_level(environ),
        log_format=log_format(environ),
        metrics=_metrics(environ),
        metrics_token=_metrics_token(environ),
        public_url=public_url,
        links=_on_or_off(environ, "TRIPTYCH_LINKS"),
        oauth=_oauth(environ),
    )


def log_level(environ: Mapping[str, str]) -> str:
    """Return the level in `TRIPTYCH_LOG_LEVEL`; WARNING without one or for an unknown word."""
    level = environ.get("TRIPTYCH_LOG_LEVEL", "").strip().upper()
    return level if level in LEVELS else "WARNING"


def log_format(environ: Mapping[str, str]) -> LogFormat:
    """Return the form of log lines in `TRIPTYCH_LOG_FORMAT`; text without one or for an unknown word."""
    return "json" if environ.get("TRIPTYCH_LOG_FORMAT", "").strip().lower() == "json" else "text"


def _metrics(environ: Mapping[str, str]) -> bool:
    chosen = _on_or_off(environ, "TRIPTYCH_METRICS")
    return _metrics_token(environ) is not None if chosen is None else chosen


def _metrics_token(environ: Mapping[str, str]) -> SecretStr | None:
    token = _secret(environ, "TRIPTYCH_METRICS_TOKEN")
    if token and (len(token.get_secret_value()) < TOKEN_CHARS or not token.get_secret_value().isascii()):
        raise errors.BadRequest(f"TRIPTYCH_METRICS_TOKEN must have at least {TOKEN_CHARS} ASCII characters.")
    return token


def _accounts(environ: Mapping[str, str], called_at: str | None) -> dict[str, Account]:
    accounts = {}
    for provider in sorted(map(load, names()), key=lambda p: (p.offline, p.rank, p.name)):
        base_urls = {
            base: environ.get(url.env, "").strip().rstrip("/") or url.default
            for base, url in provider.base_urls.items()
        }
        key = _secret(environ, provider.key_env) if provider.key_env else None
        account = Account(provider, key, base_urls, callbacks.site_for(called_at, base_urls.get("api", "")))
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
        usd = None
        if name and amount:
            with suppress(errors.BadRequest):
                usd = _money({variable: amount}, variable, None)
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


def _objects(environ: Mapping[str, str]) -> ObjectsPlace | None:
    text = environ.get("TRIPTYCH_OBJECTS_URL", "").strip()
    if not text:
        return None
    found = re.fullmatch(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]+(/[\w.=-]+)*/?", text, re.ASCII)
    if not found:
        shown = re.sub(r"//.*@", "//…@", text.partition("?")[0])
        raise errors.BadRequest(
            "TRIPTYCH_OBJECTS_URL must be s3://, gs:// or az://, a bucket and at most a prefix, such as "
            f"s3://my-bucket/triptych; it is {errors.quoted(shown, 100)}. Credentials and "
            "the endpoint have variables of their own, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL."
        )
    plain = False
    for name in _ENDPOINTS[found[1]]:
        if endpoint := environ.get(name, "").strip():
            plain = plain or endpoint.lower().startswith("http:")
            if not may_carry_key(endpoint):
                shown = errors.quoted(re.sub("//.*@", "//…@", endpoint), 100)
                raise errors.BadRequest(
                    f"{name} is {shown}; it must be https://, because images and credentials go there. "
                    "http:// is for an object store on this machine alone: http://127.0.0.1:9000."
                )
    options = {}
    if found[1] == "s3":
        options = {key: value for name, key in _S3_OPTIONS.items() if (value := environ.get(name, "").strip())}
    return ObjectsPlace(text.rstrip("/"), options, allow_http=plain)


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
    # Hosts that do not expand "${NAME}" or "{env:NAME}" pass the text on as it is.
    return SecretStr(value) if value and not value.startswith(("${", "{env:")) else None
