"""Tells listeners how the work goes: spans with a duration, and single values. Nobody listens by default.

`server.metrics`, `server.tracing` and the structured logs listen. Without a listener a span costs one comparison.

Rules: attributes are names, ids and numbers, never prompts, URLs, keys or other text from outside. A listener's error
is logged and changes nothing: a paid request goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

log = logging.getLogger(__name__)

Attribute = str | int | float | bool

around: ContextVar[Mapping[str, Attribute]] = ContextVar("around", default={})  # noqa: B039 (never changed in place)
"""The attributes of all spans around the running code, for log lines."""


class Span:
    """One piece of work with a duration. A listener keeps what it needs of it in `kept`."""

    __slots__ = ("attributes", "kept", "name")

    def __init__(self, name: str, attributes: Mapping[str, Attribute | None]) -> None:
        self.name = name
        self.attributes: dict[str, Attribute] = {}
        self.kept: dict[object, Any] = {}
        self.set(**attributes)

    def set(self, **attributes: Attribute | None) -> None:
        """Add attributes that are known only later; None adds nothing."""
        self.attributes.update({name: value for name, value in attributes.items() if value is not None})


class Listener:
    """Hears every span and value of this process, on the event loop's thread. The base class does nothing."""

    def started(self, span: Span) -> None:
        """Hear of a span before its work."""

    def ended(self, span: Span, error: BaseException | None) -> None:
        """Hear of a span after its work, with the exception that ended it."""

    def valued(self, name: str, value: float, attributes: Mapping[str, Attribute]) -> None:
        """Hear of one value."""


listeners: list[Listener] = []


class _Unheard(AbstractContextManager[Span]):
    """The span without listeners."""

    def __enter__(self) -> Span:
        return Span("", {})

    def __exit__(self, *_: object) -> None:
        pass


_UNHEARD = _Unheard()


def span(name: str, **attributes: Attribute | None) -> AbstractContextManager[Span]:
    """Return a context manager around one piece of work."""
    return _heard(name, attributes) if listeners else _UNHEARD


def value(name: str, number: float, **attributes: Attribute) -> None:
    """Tell one value; its unit is in its name."""
    for listener in listeners:
        try:
            listener.valued(name, number, attributes)
        except Exception:
            log.exception("%s cannot hear of %s", type(listener).__name__, name)


@contextmanager
def _heard(name: str, attributes: Mapping[str, Attribute | None]) -> Iterator[Span]:
    work = Span(name, attributes)
    error: BaseException | None = None
    heard_by = [listener for listener in listeners if _tell(listener.started, work)]
    token = around.set({**around.get(), **work.attributes})
    try:
        yield work
    except BaseException as raised:
        error = raised
        raise
    finally:
        around.reset(token)
        for listener in reversed(heard_by):
            _tell(listener.ended, work, error)


def _tell(method: Any, *arguments: Any) -> bool:
    try:
        method(*arguments)
    except Exception:
        log.exception("a listener cannot hear of %s", arguments[0].name)
        return False
    return True
