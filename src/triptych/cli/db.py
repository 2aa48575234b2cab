"""`triptych db`: make, check and fill the database that TRIPTYCH_DATABASE_URL names."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from triptych.cli.formatting import Exit
from triptych.cli.output import Screen, command, read_config
from triptych.core import errors
from triptych.core.json_fields import Result

if TYPE_CHECKING:
    from triptych.storage.postgres import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated(Result):
    """The migrations that ran."""

    ran: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Result):
    """The findings of a check; empty if all is right."""

    differences: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied(Result):
    """The number of rows that each table has in the copy."""

    rows: dict[str, int]


@click.group()
def db() -> None:
    """Make, check and fill the PostgreSQL database of TRIPTYCH_DATABASE_URL."""


@db.command()
@command
def migrate(screen: Screen) -> Exit:
    """Make the tables, or bring them to this version; servers may run meanwhile."""
    with closing(_postgres()) as database:
        ran = database.migrate()
    screen.show(Migrated(ran=ran), "\n".join(f"ran {name}" for name in ran) or "The tables have this version.")
    return Exit.DONE


@db.command()
@command
def check(screen: Screen) -> Exit:
    """Check that the tables are whole, and that the totals are those of the rows; changes nothing."""
    from triptych.storage.jobs import Store

    config = read_config()
    database = _postgres() if config.database_url else config.open_database()
    with closing(Store(database, config.home / "images")) as store:
        store.require_current()
        store.check()
        found = store.differences()
    text = "\n".join(found) or "The tables have this version, and the totals are those of the rows."
    if found:
        text += "\ntriptych doctor counts them again."
    screen.show(Checked(differences=found), text)
    return Exit.FAILED if found else Exit.DONE


@db.command()
@command
def copy(screen: Screen) -> Exit:
    """Copy the SQLite database in TRIPTYCH_HOME into an empty PostgreSQL database; the same command resumes it.

    Stop every server first. Afterwards no server works on the file, so that no queued job is sent twice.
    """
    from triptych.storage import copying

    home = read_config().home
    with closing(_postgres()) as database:
        done = copying.copy(home / "triptych.db", database, screen.note)
    rows = "\n".join(f"{count:>9} {name}" for name, count in done.rows.items())
    began = "It was copied before. The database has" if done.again else "Copied, compared, and open to servers:"
    screen.show(Copied(rows=done.rows), f"{began}\n{rows}\nImage files stay in {home / 'images'}.")
    return Exit.DONE


def _postgres() -> Database:
    """Return the database of the setting, as it is."""
    url = read_config().database_url
    if url is None:
        raise errors.BadRequest(
            "TRIPTYCH_DATABASE_URL is not set. It must be postgresql://user:password@host:5432/database; SQLite in "
            "TRIPTYCH_HOME needs no command."
        )
    from triptych.storage.database import open_postgres

    return open_postgres(url.get_secret_value(), migrate=False)
