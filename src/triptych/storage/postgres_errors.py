"""PostgreSQL's errors as errors of Triptych: a sentence each that says what mends it, and never a password.

Hosts, users and the server's own words are for the operator alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import conninfo

from triptych.core import errors
from triptych.core.text import line

VARIABLE = "TRIPTYCH_DATABASE_URL"
_URL = (
    f"{VARIABLE} must be postgresql://user:password@host:5432/database. Write special characters of the user name and "
    "the password as percent codes (@ as %40, : as %3A, / as %2F, # as %23, % as %25)."
)
_LIBPQ_ASKS = re.compile(r"\s*Is the server running [^?]*\?")
_AGAIN = "Triptych asks again; the work goes on when the database answers."
_AWAY = f"The database cannot be reached or used now. {_AGAIN}"


class Target:
    """The server and database of a URL, as error messages name them; `parameters` are libpq's.

    Raises: `errors.Unusable` for a URL that cannot be used; its message holds no part of the URL.
    """

    def __init__(self, url: str) -> None:
        rest = url.partition("://")[2]
        authority = rest.partition("?")[0]
        if not url.startswith(("postgresql://", "postgres://")) or authority.count("@") > 1 or "#" in rest:
            raise errors.Unusable(f"{VARIABLE} cannot be read.", _URL)
        if "@" in authority.partition("/")[2]:
            raise errors.Unusable(f"{VARIABLE} cannot be read.", _URL)
        try:
            self.parameters = dict(conninfo.conninfo_to_dict(url))
        except psycopg.Error:
            raise errors.Unusable(f"{VARIABLE} cannot be read.", _URL) from None
        ports = str(self.parameters.get("port") or "").split(",")
        if not all(port.isdecimal() or not port for port in ports):
            raise errors.Unusable(f"{VARIABLE} cannot be read.", _URL)
        self._secrets = {str(self.parameters[key]) for key in ("password", "sslpassword") if self.parameters.get(key)}
        written = urlsplit(url.partition("?")[0]).password if authority else None
        self._secrets |= {part for secret in list(self._secrets) for part in (quote(secret, safe=""), quote(secret))}
        self._secrets |= {written} if written else set()
        self.name = self._named()

    def _named(self) -> str:
        host, port = str(self.parameters.get("host") or ""), str(self.parameters.get("port") or "5432")
        database = str(self.parameters.get("dbname") or self.parameters.get("user") or "")
        where = "" if not host else f" at {host}" if host.startswith("/") else f" at {host}:{port}"
        return f"the PostgreSQL database {errors.quoted(database, 60)}{where}"

    def safe(self, text: object) -> str:
        """Return a message of the server or of libpq on one line, without the password."""
        found = str(text)
        for secret in sorted(self._secrets, key=len, reverse=True):
            found = found.replace(secret, "…")
        found = _LIBPQ_ASKS.sub("", found)  # our own sentence says so
        return line(found.strip().removeprefix("connection failed: "), 250)

    def error(self, error: psycopg.Error) -> errors.Outage:
        """Return an error of psycopg as one of Triptych."""
        state, text = error.sqlstate or "", self.safe(error)
        known = _STATES.get(state) or _STATES.get(state[:2]) or next((k for part, k in _TEXTS if part in text), None)
        if known is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            known = _LOST
        found, mend, waits = known or _ODD
        found, mend = found.format(self.name, text), mend.format(user=self._user())
        found = found[0].upper() + found[1:]
        return errors.Outage(_AWAY, for_operator=f"{found} {mend}") if waits else errors.Unusable(found, mend)

    def _user(self) -> str:
        return errors.quoted(self.parameters.get("user") or "of this system", 60)


_Known = tuple[str, str, bool]
"""The fault, its remedy, and whether it passes by itself."""

_LOST: _Known = ("{} does not answer ({}).", f"Is the server running and reachable? {_AGAIN}", True)
_BUSY: _Known = ("{} did not finish a transaction ({}).", "Another one was in its way; Triptych asks again.", True)
_STARTING: _Known = ("{} is stopping or starting ({}).", _AGAIN, True)
_STANDBY: _Known = (
    "{} is a standby that cannot be written ({}).",
    f"After a failover, wait until it is promoted; else name the primary in {VARIABLE}, or all servers: "
    f"postgresql://user@one,two/database. {_AGAIN}",
    True,
)
_CONNECTIONS: _Known = (
    "{} has no free connection ({}).",
    f"Raise max_connections, put a pooler (pgbouncer) in front, or run fewer replicas. {_AGAIN}",
    True,
)
_DISK: _Known = ("{} has no space left ({}).", f"Free some space on the server's disk. {_AGAIN}", True)
_LOGIN: _Known = (
    "{} refused the login ({}).",
    f"Check user and password in {VARIABLE}, and the server's pg_hba.conf for {{user}}.",
    False,
)
_MISSING: _Known = (
    "{} does not exist ({}).",
    f"Make it (createdb, or CREATE DATABASE … ENCODING 'UTF8'), or mend its name in {VARIABLE}; Triptych makes the "
    "tables itself.",
    False,
)
_RIGHTS: _Known = (
    "{} does not let this user do what Triptych needs ({}).",
    "Let it make tables (GRANT ALL ON SCHEMA public TO …), or run triptych db migrate as the owner of the "
    "database and grant SELECT, INSERT, UPDATE, DELETE on its tables.",
    False,
)
_TABLES: _Known = (
    "The tables of {} are not those of this Triptych ({}).",
    "Run triptych db check; restore a backup, or name another database.",
    False,
)
_ODD: _Known = ("{} rejected a statement ({}).", "Run triptych db check.", True)
_TLS: _Known = ("{} refused this encryption ({}).", f"Check sslmode and sslrootcert in {VARIABLE}.", False)
_HOST: _Known = (
    "{} cannot be found ({}).",
    f"Check the host in {VARIABLE}, and this machine's name service. {_AGAIN}",
    True,
)

_STATES: Mapping[str, _Known] = {
    "08": _LOST,
    "25006": _STANDBY,
    "25P03": _BUSY,
    "40": _BUSY,
    "55P03": _BUSY,
    "57014": _BUSY,
    "23505": _BUSY,
    "57P": _STARTING,
    "57": _STARTING,
    "53300": _CONNECTIONS,
    "53": _DISK,
    "58": _DISK,
    "28": _LOGIN,
    "3D": _MISSING,
    "42501": _RIGHTS,
    "42": _TABLES,
    "23": _TABLES,
    "3F": _RIGHTS,
}
"""By SQLSTATE, or by its class."""

_TEXTS: tuple[tuple[str, _Known], ...] = (
    ("password authentication failed", _LOGIN),
    ("no password supplied", _LOGIN),
    ("pg_hba.conf", _LOGIN),
    ("SASL authentication failed", _LOGIN),
    ("no such user", _LOGIN),
    ("no such database", _MISSING),
    ('database "', _MISSING),
    ("too many", _CONNECTIONS),
    ("remaining connection slots", _CONNECTIONS),
    ("no more connections allowed", _CONNECTIONS),
    ('role "', _LOGIN),
    ("starting up", _STARTING),
    ("shutting down", _STARTING),
    ("recovery", _STARTING),
    ("read-only", _STANDBY),
    ("SSL", _TLS),
    ("certificate", _TLS),
    ("could not translate host name", _HOST),
    ("failed to resolve host", _HOST),
)
"""By a part of the message: libpq gives no SQLSTATE for a login that failed."""
