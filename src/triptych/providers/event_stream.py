"""A provider's stream of server-sent events, read event by event for `client`.

Rules: the key is cut out of every event. A stream that is cut off, too long or too slow is an `errors.AnswerLost`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx2

from triptych.core import errors
from triptych.core.text import redact
from triptych.providers import STREAM_END, HttpResponse

STREAM_LIMIT_CHARS = 256 * 1024 * 1024
"""The limit of a whole stream: fifteen images as base64."""


class EventStream:
    """The one stream that a flow may have open; `title` is its provider's name for messages, `key` is cut out.

    `event_limit_bytes` is the limit of one event.
    """

    def __init__(self, title: str, key: str, event_limit_bytes: int) -> None:
        self._title = title
        self._key = key
        self._event_limit_bytes = event_limit_bytes
        self._response: httpx2.Response | None = None
        self._events: AsyncIterator[httpx2.ServerSentEvent] | None = None
        self._end = 0.0
        self._left_chars = STREAM_LIMIT_CHARS

    def takes(self, response: httpx2.Response, patience_s: float) -> bool:
        """Return whether a response is a stream of events, and keep it open then, for `patience_s` at most."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code != 200 or kind != "text/event-stream":
            return False
        response.encoding = "utf-8"  # the format's own encoding, whatever the header names
        self._response, self._events = response, aiter(httpx2.EventSource(response, self._event_limit_bytes))
        self._end = anyio.current_time() + patience_s
        return True

    async def next_event(self) -> HttpResponse:
        """Return the next event's data, or the `STREAM_END`.

        Raises: `errors.AnswerLost` when the stream is cut off.
        """
        assert self._events, "a flow asks for events of the stream that it opened"
        try:
            with anyio.fail_after(self._end - anyio.current_time()):
                event = await anext(self._events, None)
        except Exception as error:  # a hostile stream can raise anything in its reader
            raise errors.AnswerLost(f"The stream of {self._title} was cut off ({type(error).__name__}).") from error
        if event is None:
            return HttpResponse(STREAM_END, {}, b"")
        self._left_chars -= len(event.data)
        if self._left_chars < 0:
            raise errors.AnswerLost(f"The stream of {self._title} does not end.")
        return HttpResponse(200, {"event": event.event}, redact(self._key, event.data).encode())

    async def aclose(self) -> None:
        """Close the stream, if one is open."""
        if self._response:
            with anyio.CancelScope(shield=True):
                await self._response.aclose()
