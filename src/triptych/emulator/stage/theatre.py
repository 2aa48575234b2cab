"""An emulated API: the class that each of them derives from, with its faults, its jobs and its files.

An API's module gives `routes()` (through `self.at`, so that every answer can be spoiled), `refusal()` (its error
shape) and its table of faults. Everything a test asks of an emulator is here.

Rules: time is the injected clock's. Nothing is fetched from the network. A fault that a test asked for comes before one
that the prompt asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from decimal import Decimal
from email.utils import formatdate
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych.emulator.stage.answers import spoiled
from triptych.emulator.stage.faults import Armed, BadDirective, Board, Failure, Fault, take_own
from triptych.emulator.stage.log import Log, Recorder, Seen
from triptych.emulator.stage.loopback import Loopback
from triptych.emulator.stage.works import EXTENSIONS, Order, Studio, UnreachableImage, Work

Handler = Callable[[Request], Awaitable[Response]]

LOOK_S = 0.01
"""How often a held answer looks at the clock, in real seconds."""

DRAWING_PATIENCE_S = 5.0
"""A poll waits this long for pictures whose time has come but which are still being drawn; by a clock that somebody
else turns, it waits until they are."""


class Emulator:
    """One hosted API on loopback. `latency_s` None is realistic, a number is exact; `key` None takes any key.

    With `url_chars`, the URLs of results have at least so many characters, as signed ones have.
    """

    name: ClassVar[str]
    key_variable: ClassVar[str]
    faults: ClassVar[tuple[Fault, ...]]

    def __init__(
        self,
        *,
        latency_s: float | None = 0.0,
        seed: int = 0,
        max_side: int | None = None,
        key: str | None = "test-key",
        clock: Callable[[], float] = time.time,
        url_chars: int = 0,
    ) -> None:
        self.clock = clock
        self._drawing_patience_s = DRAWING_PATIENCE_S if clock is time.time else None
        self.base_url = ""
        self._url_chars = url_chars
        self._key = key
        self._board = Board(self.faults)
        self._lock = threading.Lock()
        self._log = Log()
        self._works: dict[str, Work] = {}
        self._stopping = asyncio.Event()
        self.performed: Counter[str] = Counter()
        """How many requests each operation had, those that were spoiled among them."""
        self.studio = Studio(seed=seed, max_side=max_side, latency_s=latency_s)

    # What a test asks of it

    @property
    def key(self) -> str:
        """A key that is accepted."""
        return self._key or "any-key"

    @property
    def seen(self) -> list[Seen]:
        """Every request so far, in order of arrival."""
        return self._log.entries()

    def seen_at(self, method: str, path: str) -> list[Seen]:
        """The requests to one method and path, in order of arrival."""
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    @property
    def works(self) -> list[Work]:
        """Every accepted job, in order, but for those of strangers."""
        return [work for work in self.listed if not work.stranger]

    @property
    def listed(self) -> list[Work]:
        """Every accepted job of the account, in order: a submit with the header X-Emulator-Stranger is a stranger's."""
        with self._lock:
            return list(self._works.values())

    @property
    def accepted(self) -> list[str]:
        """The ids of the accepted paid submits, in order."""
        return [work.id for work in self.works]

    @property
    def charged_usd(self) -> Decimal:
        """What the account was charged so far; failed jobs are released."""
        now = self.clock()
        return sum((work.charge_usd(now) for work in self.works), Decimal(0))

    def fault(self, op: str, name: str, times: int | None = 1, **options: Any) -> None:
        """Queue a fault for the next `times` requests of an operation (None: for all), first in, first out."""
        self._board.arm(op, name, times, **options)

    def chance(self, share: float, seed: int = 0, but: Collection[str] = ()) -> None:
        """Let this share of each operation's requests go wrong from now on, in any way but those named in `but`."""
        self._board.leave_to_chance(share, seed, but)

    def clear(self) -> None:
        """Forget the queued faults, those left to chance, and the log; accepted jobs stay."""
        self._board.clear()
        self._log.clear()

    def finish_all(self) -> None:
        """Make every running job finish now."""
        now = self.clock()
        for work in self.works:
            work.finish_at = min(work.finish_at, now)

    # What an API's module brings

    def routes(self) -> Sequence[Route]:
        """The API's own routes, made with `at`."""
        raise NotImplementedError

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        """An error in the API's own shape."""
        raise NotImplementedError

    def authorised(self, request: Request) -> bool:
        """Whether the request carries an accepted key; a bearer token unless the API says otherwise."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and (token == self._key if self._key else bool(token.strip()))

    # What an API's module uses

    def at(
        self,
        op: str,
        method: str,
        path: str,
        handler: Handler,
        *,
        work_id: Callable[[Request], str] | None = None,
        key_needed: bool = True,
    ) -> Route:
        """Return a route whose answers can be spoiled; `work_id` tells which job a request is about."""

        async def endpoint(request: Request) -> Response:
            if key_needed and not self.authorised(request):
                return self.refusal(request, 401)
            return await self._perform(op, request, handler, self.work(work_id(request)) if work_id else None)

        return Route(path, endpoint, methods=[method])

    def work(self, work_id: str) -> Work | None:
        """The accepted job under an id, or under the key in its result URLs."""
        with self._lock:
            return self._works.get(work_id) or next((w for w in self._works.values() if w.key == work_id), None)

    def accept(self, request: Request, order: Order, *, work_id: str | None = None) -> Work:
        """Take a paid submit: the job is counted, charged, and being drawn when this returns.

        `work_id` is the client's own id, where the API goes by that.
        """
        with self._lock:
            work = self.studio.accept(order, len(self._works) + 1, self.clock(), getattr(request.state, "asked", ()))
            work.id = work_id or work.id
            work.stranger = _is_strangers(request)
            self._works[work.id] = work
        return work

    async def outcome(self, work: Work) -> str:
        """Where a job stands: `running`, `failed` (then `work.failure` says why) or `done`."""
        if self.clock() < work.finish_at:
            return "running"
        if work.failure is None:
            drawn = asyncio.wrap_future(work.pictures)
            await asyncio.wait([drawn], timeout=self._drawing_patience_s)
            if not drawn.done():
                drawn.add_done_callback(lambda late: late.cancelled() or late.exception())
                return "running"
            if (error := drawn.exception()) is not None:
                known = isinstance(error, UnreachableImage)
                work.failure = Failure(str(error) if known else f"internal error: {error!r}", 400 if known else 500)
        return "failed" if work.failure else "done"

    async def ended(self, work: Work, share: float = 1.0) -> str:
        """Where a job ends, waited for on the emulator's clock; with a smaller `share`, of that much of its time.

        With no latency it returns at once. A clock that nobody turns is looked at again and again, until the emulator
        stops.
        """
        due = work.submitted_at + share * (work.finish_at - work.submitted_at)
        while self.clock() < min(due, work.finish_at) and not self._stopping.is_set():
            await self._look_away()
        if share < 1.0:
            return "running"
        while (outcome := await self.outcome(work)) == "running" and not self._stopping.is_set():
            await self._look_away()
        return outcome

    async def _look_away(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), LOOK_S)

    def output_urls(self, work: Work) -> list[str]:
        """Where a finished job's images are, in order."""
        extension = EXTENSIONS[work.order.mime_type]
        urls = [f"{self.base_url}/_results/{work.key}/{n}.{extension}" for n in range(1, work.expected + 1)]
        return [f"{url}?signature=".ljust(self._url_chars, "0") if self._url_chars else url for url in urls]

    def keep_upload(self, name: str, data: bytes, mime_type: str) -> str:
        """Keep an uploaded file and return its URL; the same file has the same URL."""
        path = f"{hashlib.sha256(data).hexdigest()[:24]}/{name}"
        self.studio.uploads.put(path, data, mime_type)
        return f"{self.base_url}/_uploads/{quote(path)}"

    # How it runs

    def app(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The API as an ASGI app that writes down what it is asked."""
        control = [
            Route("/_emulator/faults", self._arm, methods=["POST"]),
            Route("/_emulator/faults", self._disarm, methods=["DELETE"]),
            Route("/_emulator/faults", self._list_faults, methods=["GET"]),
            Route("/_emulator/seen", self._show_seen, methods=["GET"]),
            Route("/_emulator/ledger", self._show_ledger, methods=["GET"]),
            Route("/_emulator/finish", self._finish, methods=["POST"]),
        ]
        files = [
            self.at(
                "result",
                "GET",
                "/_results/{key}/{file}",
                self._result,
                work_id=lambda request: str(request.path_params["key"]),
                key_needed=False,
            ),
            Route("/_uploads/{name:path}", self._upload, methods=["GET"]),
        ]

        async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            status = 401 if not self.authorised(request) else self.unknown_path_status
            await self.refusal(request, status)(scope, receive, send)

        router = Router([*control, *files, *self.routes()], redirect_slashes=False, default=nowhere)
        return Recorder(self._dated(router), self._log, unlogged="/_emulator/")

    def _dated(self, app: ASGIApp) -> ASGIApp:
        """Put the provider's own time on every answer, as every HTTP server does."""

        async def dated(scope: Scope, receive: Receive, send: Send) -> None:
            async def with_date(message: Message) -> None:
                if message["type"] == "http.response.start":
                    date = formatdate(self.clock(), usegmt=True).encode()
                    message["headers"] = [*message.get("headers", ()), (b"date", date)]
                await send(message)

            await app(scope, receive, with_date)

        return dated

    unknown_path_status: ClassVar[int] = 404

    def open(self, host: str, port: int) -> Loopback:
        """Bind a port; the caller starts and stops what is returned, and then calls `close`."""
        loopback = Loopback(self.app(), host, port, self._stopping.set)
        self.base_url = loopback.base_url
        return loopback

    def close(self) -> None:
        self.studio.close()

    async def _perform(self, op: str, request: Request, handler: Handler, work: Work | None) -> Response:
        if _is_strangers(request):
            return await handler(request)
        armed = self._board.take(op)
        self.performed[op] += 1
        try:
            own = await self._asked_in(request) if op == "submit" else None
        except BadDirective as error:
            return self.refusal(request, 400, str(error))
        if armed is None:
            armed = own or (take_own(work.waiting, op) if work else None)
        if armed is None:
            return await handler(request)
        if armed.fault.reach == "work":
            if work:
                work.attach(armed)
            else:
                request.state.asked = [*getattr(request.state, "asked", ()), armed]
            return await handler(request)
        answer = Response()
        if armed.fault.reach == "after" or armed.options.get("accepted"):
            answer = await handler(request)
            if answer.status_code >= 300:
                return answer

        def refuse(status: int, options: dict[str, Any]) -> Response:
            return self.refusal(request, status, **options)

        return spoiled(armed, request, answer, refuse, self._stopping)

    async def _asked_in(self, request: Request) -> Armed | None:
        """Put what the prompt asks of its job into `request.state.asked`; return what spoils this very answer."""
        body = await request.body()
        if b"emulate:" not in body:
            return None
        digest = hashlib.sha256(body).hexdigest()
        own: Armed | None = None
        asked: list[Armed] = []
        for armed in self._board.directives(body.decode(errors="replace")):
            if armed.fault.op != "submit" or armed.fault.reach == "work":
                asked.append(armed)
            elif own is None and self._board.meet(armed, digest):
                own = armed
        request.state.asked = asked
        return own

    async def _result(self, request: Request) -> Response:
        found = self.studio.results.get(f"{request.path_params['key']}/{request.path_params['file']}")
        if found is None:
            return Response("no such file", 404, media_type="text/plain")
        return Response(found[0], media_type=found[1])

    async def _upload(self, request: Request) -> Response:
        found = self.studio.uploads.get(str(request.path_params["name"]))
        if found is None:
            return Response("no such file", 404, media_type="text/plain")
        return Response(found[0], media_type=found[1])

    async def _arm(self, request: Request) -> Response:
        try:
            asked = dict(await request.json())
            self.fault(str(asked.pop("op")), str(asked.pop("name")), asked.pop("times", 1), **asked)
        except (BadDirective, KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error) or type(error).__name__}, 400)
        return Response(status_code=204)

    async def _disarm(self, _: Request) -> Response:
        self._board.clear()
        return Response(status_code=204)

    async def _list_faults(self, _: Request) -> Response:
        listed = [{"op": f.op, "name": f.name, "about": f.about, "options": dict(f.options)} for f in self.faults]
        return JSONResponse(listed)

    async def _show_seen(self, _: Request) -> Response:
        shown = [
            {**vars(seen), "body": None, "size": len(seen.body), "headers": _without_key(seen.headers)}
            for seen in self.seen
        ]
        return JSONResponse(shown)

    async def _show_ledger(self, _: Request) -> Response:
        return JSONResponse({"accepted": self.accepted, "charged_usd": str(self.charged_usd)})

    async def _finish(self, _: Request) -> Response:
        self.finish_all()
        return Response(status_code=204)


def _is_strangers(request: Request) -> bool:
    return "x-emulator-stranger" in request.headers


def _without_key(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: "…" if name in ("authorization", "api-key") else value for name, value in headers.items()}
