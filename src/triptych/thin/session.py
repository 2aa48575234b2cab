"""One conversation with a client, and the answer to its next line.

One connection is of one era: that of its first request. `initialize` opens an earlier one, a request with the fields of
2026-07-28 the modern one. `Session.answer` raises `messages.Unknown` for everything that the real server must answer.
"""

from __future__ import annotations

from triptych.thin import messages
from triptych.thin.messages import Client, Message, RequestId, Unknown

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Callable

    from triptych.thin.snapshots import Snapshot

MODERN = "2026-07-28"
ASKED = ("ping", "server/discover", "tools/list", "prompts/list", "resources/templates/list")
"""Requests without params whose answers are in a snapshot."""
IGNORED = ("notifications/roots/list_changed",)
"""Notifications that change nothing before the first call of a tool."""

Replayed = tuple[bytes, RequestId | None]
"""A line that the real server reads again, and the id of the answer or acknowledgement that is not sent again."""


class Session:
    """One connection, answered from a snapshot. `listed` returns the images that `resources/list` shows, as JSON."""

    def __init__(self, snapshot: Snapshot, listed: Callable[[], list[str]]) -> None:
        self._snapshot = snapshot
        self._listed = listed
        self._version = ""
        self._client = Client()
        self._opening: list[Replayed] = []
        self._listening: Replayed | None = None
        self._listing: list[Replayed] = []
        self._told: list[str] | None = None
        """The images that the client knows of: told before, or there when it began to listen."""
        self._initialized = False

    def answer(self, line: bytes) -> bytes:
        """Return the lines that answer a client's line; nothing for a notification. Raises: `messages.Unknown`."""
        message = messages.read(line)
        if message.id is None:
            self._notice(message, line)
            return b""
        if self._listening and messages.same_id(self._listening[1], message.id):
            raise Unknown
        if message.method == "initialize":
            return self._initialize(message, line)
        declared = messages.envelope(message.params)
        if declared is None:
            if self._version in ("", MODERN):
                raise Unknown
            messages.check_plain(message.params)
            client = self._client
        else:
            version, client = declared
            if version != MODERN or self._version not in ("", MODERN):
                raise Unknown
        found = self._answer(message, line, client)
        if not self._version:
            self._version, self._opening = MODERN, [(line, message.id)]
        return found

    def replayed(self) -> list[Replayed]:
        """Return what the real server must read again to know this connection."""
        if self._listening and self._listening not in self._opening:
            return [*self._opening, self._listening]
        return [*self._opening, *self._listing]

    def news(self) -> bytes:
        """Return the line that tells the client that there are new images, if it waits for such."""
        if self._told is None or not (self._listening or self._initialized):
            return b""
        before, self._told = self._told, self._listed()
        if set(self._told) <= set(before):
            return b""
        return self._text("changed", self._listening[1] if self._listening else None)

    def farewell(self) -> bytes:
        """Return the line that ends an open stream when the client leaves."""
        return self._text("closed", self._listening[1]) if self._listening else b""

    def _initialize(self, message: Message, line: bytes) -> bytes:
        version, client = messages.initialize(message.params)
        if self._version == MODERN:  # Claude Code falls back to it if its first request is answered late
            return self._text(f"initialize {version}", message.id)
        if self._version:
            raise Unknown
        found = self._snapshot.text(version, "initialize", message.id)
        self._version, self._client, self._opening = version, client, [(line, message.id)]
        return found

    def _notice(self, message: Message, line: bytes) -> None:
        if not self._version:
            raise Unknown
        if message.method == "notifications/cancelled":
            cancelled = messages.cancelled(message.params)
            if self._listening and messages.same_id(self._listening[1], cancelled):
                if self._listening in self._opening:
                    raise Unknown
                self._listening = self._told = None
        elif message.method == "notifications/initialized" and not message.params:
            if self._version == MODERN or self._initialized:
                raise Unknown
            self._initialized = True
            self._opening.append((line, None))
        elif message.method not in IGNORED or message.params:
            raise Unknown

    def _answer(self, message: Message, line: bytes, client: Client) -> bytes:
        method, params = message.method, message.params.keys() - {"_meta"}
        if method == "subscriptions/listen":
            return self._listen(message, line)
        if params:
            raise Unknown
        if method == "resources/list":
            images = self._listed()
            found = self._text(_name(method, client), message.id, images)
            if self._version not in ("", MODERN):  # from its first listing on the real server tells of changes
                self._told, self._listing = images, [(line, message.id)]
            elif self._listening:
                self._told = images
            return found
        if method not in ASKED:
            raise Unknown
        return self._text(_name(method, client), message.id)

    def _listen(self, message: Message, line: bytes) -> bytes:
        if self._listening or message.params.keys() != {"_meta", "notifications"}:
            raise Unknown
        if message.params["notifications"] != {"resourcesListChanged": True}:
            raise Unknown
        images = self._listed()
        found = self._text("listening", message.id)
        self._listening, self._told = (line, message.id), images
        return found

    def _text(self, name: str, request_id: RequestId | None, images: list[str] | None = None) -> bytes:
        return self._snapshot.text(self._version or MODERN, name, request_id, images)


def _name(method: str, client: Client) -> str:
    """Return the name of an answer in the snapshot."""
    listed = method == "resources/list"
    gallery = "+ui" if client.gallery and (listed or method == "tools/list") else ""
    return method + gallery + ("+skills" if client.skills and listed else "")
