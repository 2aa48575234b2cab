"""The configuration of a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from triptych.core.secret import SecretStr
from triptych.images.objects import ObjectsPlace
from triptych.providers.accounts import Account
from triptych.storage.budget import Caps
from triptych.storage.database import Database, open_database

__all__ = ["ObjectsPlace", "ServiceConfig"]


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The configuration of a service; `settings` reads it from the environment.

    `accounts` are all known providers, usable or not, in order of preference. `allowed_dirs` may be read and written by
    every caller. No cap: `budget_usd` None, `owner_budget_usd` (for each owner) None, and a group that is not in
    `group_budgets_usd`. `proxy_resolves` is explained in `ProviderClient`. With `live_models` the providers' live
    catalogues are used, else the built-in table alone.
    """

    home: Path
    accounts: Mapping[str, Account]
    default_provider: str
    allowed_dirs: tuple[Path, ...] = ()
    budget_usd: Decimal | None = Decimal(10)
    owner_budget_usd: Decimal | None = None
    group_budgets_usd: Mapping[str, Decimal] = field(default_factory=dict)
    confirm_usd: Decimal = Decimal(1)
    proxy_resolves: bool = False
    live_models: bool = True
    database_url: SecretStr | None = None
    """A PostgreSQL database; None is the SQLite file in `home`."""
    objects: ObjectsPlace | None = None
    """The object store for images; None: they are files below `home`."""

    def open_database(self) -> Database:
        """Open the configured database; this may block.

        Raises: `errors.Unusable` if it cannot be used, `errors.Outage` if it cannot be used now.
        """
        url = self.database_url.get_secret_value() if self.database_url else None
        return open_database(self.home / "triptych.db", url)

    @property
    def caps(self) -> Caps:
        """The caps of the ledger."""
        return Caps(self.budget_usd, self.owner_budget_usd, self.group_budgets_usd)
