"""The hosted image APIs on loopback, for tests, demos and dry runs.

    with running("atlas", max_side=256) as api:
        …                       # a client against api.base_url with the key api.key
        assert len(api.accepted) == 1

One module per API (`atlas`, …), each with a class `Emulated`; what they share is in `stage`. Pictures are drawn by the
offline engine, so what comes back is a real image of the size asked for.

Rules: of Triptych only `images` and `providers.preview` are imported here, and those only when a picture is drawn.
Nothing is fetched from the network. Nothing is printed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych_emulators.stage import Emulator, Fault, Seen

__all__ = ["Emulator", "Fault", "Seen", "faults", "names", "running", "serve"]


def names() -> tuple[str, ...]:
    """Return the APIs that can be emulated, in alphabetical order, without importing them."""
    found = (m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and "_" not in m.name)
    return tuple(sorted(found))


def faults(name: str) -> tuple[Fault, ...]:
    """Return everything that can go wrong with an emulated API, as a table."""
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

    `switches` are `clock` (a function of no arguments that returns seconds) and whatever the API's own class takes.
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
    """Run an emulated API in this thread until SIGINT or SIGTERM; `on_ready` is told its base URL."""
    emulator = _emulated(name)(latency_s=latency_s, seed=seed, max_side=max_side, key=key, **switches)
    try:
        emulator.open(host, port).serve(on_ready)
    finally:
        emulator.close()


def _emulated(name: str) -> type[Emulator]:
    if name not in names():
        raise LookupError(f"no emulated API {name!r}; there are: {', '.join(names())}")
    made: type[Emulator] = importlib.import_module(f"{__name__}.{name}").Emulated
    return made


def __getattr__(name: str) -> Any:
    if name in ("Emulator", "Fault", "Seen"):
        return getattr(importlib.import_module(f"{__name__}.stage"), name)
    raise AttributeError(name)
