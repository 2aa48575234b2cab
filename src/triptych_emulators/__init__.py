"""The hosted image APIs on loopback, for tests, demos and dry runs.

    with running("atlas", max_side=256) as api:
        …                       # a client against api.base_url with the key api.key
        assert len(api.accepted) == 1

One module per API (`atlas`, …), each with a class `Emulated`; `kit` has the parts that they share. Pictures are real
images of the requested size: simple ones by `kit.painter`, or those of a `painter` of the caller.

Rules: of Triptych only `core` and `images` are imported here, and those only when a picture is made. Nothing is fetched
from the network. Nothing is printed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych_emulators.kit import Emulator, FaultType, RecordedRequest

__all__ = ["Emulator", "FaultType", "RecordedRequest", "faults", "names", "running", "serve"]


@cache
def names() -> tuple[str, ...]:
    """Return the APIs that can be emulated, in alphabetical order, without importing them."""
    found = (m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and "_" not in m.name)
    return tuple(sorted(found))


def faults(name: str) -> tuple[FaultType, ...]:
    """Return the faults of an emulated API, as a table."""
    return _emulated(name).faults


@contextmanager
def running(
    name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    latency_s: float | None = 0.0,
    seed: int = 0,
    max_side: int | None = None,
    key: str | None = "test-key",
    **switches: Any,
) -> Iterator[Emulator]:
    """Run an emulated API in a thread for as long as the block lasts.

    `switches` are `clock` (a function of no arguments that returns seconds), `painter` (see `kit.painter`), and the
    arguments of the API's own class.
    """
    emulator = _emulated(name)(latency_s=latency_s, seed=seed, max_side=max_side, key=key, **switches)
    try:
        loopback = emulator.open(host, port)
        try:
            loopback.start()
            yield emulator
        finally:
            loopback.stop()
    finally:
        emulator.close()


def serve(
    name: str,
    host: str = "127.0.0.1",
    port: int = 8901,
    *,
    latency_s: float | None = None,
    seed: int = 0,
    max_side: int | None = None,
    key: str | None = None,
    on_ready: Callable[[str], None] = lambda base_url: None,
    **switches: Any,
) -> None:
    """Run an emulated API in this thread until SIGINT or SIGTERM; `on_ready` gets its base URL."""
    emulator = _emulated(name)(latency_s=latency_s, seed=seed, max_side=max_side, key=key, **switches)
    try:
        emulator.open(host, port).serve(on_ready)
    finally:
        emulator.close()


def _emulated(name: str) -> type[Emulator]:
    if name not in names():
        raise LookupError(f"no emulated API {name!r}; there are: {', '.join(names())}")
    emulated: type[Emulator] = importlib.import_module(f"{__name__}.{name}").Emulated
    return emulated


def __getattr__(name: str) -> Any:
    if name in ("Emulator", "FaultType", "RecordedRequest"):
        return getattr(importlib.import_module(f"{__name__}.kit"), name)
    raise AttributeError(name)
