"""The emulated APIs as the generic tests need them: how to submit, to poll and to reach every operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import httpx2

from support.pictures import picture
from triptych_emulators import names

Send = Callable[[httpx2.Client], httpx2.Response]
FORM_FILE = {"file": ("cat.png", picture(), "image/png")}


@dataclass(frozen=True)
class Api:
    """One API on the wire. `poll` is None where the submit itself is held until the images are made."""

    name: str
    submit: Callable[[httpx2.Client, str], httpx2.Response]
    """Send a request for one image."""
    job_id: Callable[[Any], str]
    """Read the job's id from the body of a submit's response."""
    poll: Callable[[httpx2.Client, str], httpx2.Response] | None
    status: Callable[[Any], str]
    """Read the job's status from the body of a poll."""
    urls: Callable[[Any], list[str]]
    """Read the result URLs from the body of a poll, or of a held submit."""
    code: Callable[[Any], Any]
    """Read the error code from the body of a refusal."""
    price_usd: str
    switches: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Send] = field(default_factory=dict)
    """The operations besides submit, poll and result."""


def apis() -> dict[str, Api]:
    """Return the APIs by name; each test module of an API has its own, as `generic_api`."""
    modules = {name: import_module(f"integration.emulators.test_{name}") for name in names()}
    return {name: module.generic_api() for name, module in modules.items()}
