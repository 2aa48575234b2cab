"""An emulated API: the class that each of them derives from, with its faults, its jobs and its files.

An API's module has `routes()` (made with `self.at`, so that any response can be spoiled), `refusal()` (its error
shape) and its table of faults. Everything that a test needs of an emulator is here.

Rules: time is the injected clock's. Nothing is fetched from the network. A fault of a test comes before one of the
prompt.
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

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych_emulators.kit.callbacks import Callbacks
from triptych_emulators.kit.control import control_routes
from triptych_emulators.kit.faults import ActiveFault, BadDirective, FaultInjector, FaultType, JobFailure, take_first
from triptych_emulators.kit.images import EXTENSIONS, ImageFiles, UnreachableImage
from triptych_emulators.kit.jobs import EmulatedJob, JobRunner, JobSpec
from triptych_emulators.kit.loopback import LoopbackServer
from triptych_emulators.kit.painter import Painter, paint
from triptych_emulators.kit.requests import RecordedRequest, RequestLog, RequestRecorder
from triptych_emulators.kit.responses import faulty

Handler = Callable[[Request], Awaitable[Response]]

CLOCK_CHECK_S = 0.01
"""How often a held response looks at the clock, in real seconds."""

PAINTING_WAIT_S = 5.0
"""A poll waits this long for pictures whose time has come but which are still being painted; with an injected clock it
waits until they are ready."""


class Emulator:
    """One hosted API on loopback. `latency_s` None is realistic, a number is exact; `key` None accepts any key.

    With `url_chars`, the URLs of results have at least so many characters, as signed ones have. `painter` makes the
    pictures.
    """

    name: ClassVar[str]
    key_variable: ClassVar[str]
    faults: ClassVar[tuple[FaultType, ...]]
    unknown_path_status: ClassVar[int] = 404

    def __init__(
        self,
        *,
        latency_s: float | None = 0.0,
        seed: int = 0,
        max_side: int | None = None,
        key: str | None = "test-key",
        clock: Callable[[], float] = time.time,
        url_chars: int = 0,
        painter: Painter = paint,
    ) -> None:
        self.clock = clock
        self._painting_wait_s = PAINTING_WAIT_S if clock is time.time else None
        self.base_url = ""
        self._url_chars = url_chars
        self._key = key
        self._injector = FaultInjector(self.faults)
        self._lock = threading.Lock()
        self._log = RequestLog()
        self._jobs: dict[str, EmulatedJob] = {}
        self._stopping = asyncio.Event()
        self.performed: Counter[str] = Counter()
        """The number of requests of each operation, the spoiled ones included."""
        self.callbacks = Callbacks(self._waited)
        self.files = ImageFiles()
        self.runner = JobRunner(self.files, painter, seed=seed, max_side=max_side, latency_s=latency_s)

    # For tests

    @property
    def key(self) -> str:
        """An accepted key."""
        return self._key or "any-key"

    @property
    def seen(self) -> list[RecordedRequest]:
        """Every request so far, in order of arrival."""
        return self._log.entries()

    def seen_at(self, method: str, path: str) -> list[RecordedRequest]:
        """The requests to one method and path, in order of arrival."""
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    @property
    def jobs(self) -> list[EmulatedJob]:
        """Every accepted job, in order, without those of strangers."""
        return [job for job in self.account_jobs if not job.stranger]

    @property
    def account_jobs(self) -> list[EmulatedJob]:
        """Every accepted job of the account, in order; the header X-Emulator-Stranger marks a stranger's submit."""
        with self._lock:
            return list(self._jobs.values())

    @property
    def accepted(self) -> list[str]:
        """The ids of the accepted paid submits, in order."""
        return [job.id for job in self.jobs]

    @property
    def charged_usd(self) -> Decimal:
        """The charges of the account so far; failed jobs are released."""
        now = self.clock()
        return sum((job.charge_usd(now) for job in self.jobs), Decimal(0))

    def fault(self, op: str, name: str, times: int | None = 1, **options: Any) -> None:
        """Queue a fault for the next `times` requests of an operation (None: for all), first in, first out."""
        self._injector.queue(op, name, times, **options)

    def chance(self, share: float, seed: int = 0, but: Collection[str] = ()) -> None:
        """Spoil this share of each operation's requests from now on, in any way but those named in `but`."""
        self._injector.inject_randomly(share, seed, but)

    def clear(self) -> None:
        """Forget the queued faults, the random ones, and the log; accepted jobs stay."""
        self.clear_faults()
        self._log.clear()

    def clear_faults(self) -> None:
        """Forget the queued faults and the random ones."""
        self._injector.clear()

    def finish_all(self) -> None:
        """Make every running job finish now."""
        now = self.clock()
        for job in self.jobs:
            job.finish_at = min(job.finish_at, now)

    # Made by an API's module

    def routes(self) -> Sequence[Route]:
        """The API's own routes, made with `at`."""
        raise NotImplementedError

    def refusal(self, request: Request, status: int, message: str = "", **options: Any) -> Response:
        """An error in the API's own shape."""
        raise NotImplementedError

    def authorised(self, request: Request) -> bool:
        """Whether the request has an accepted key; a bearer token unless the API says otherwise."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and (token == self._key if self._key else bool(token.strip()))

    # Used by an API's module

    def at(
        self,
        op: str,
        method: str,
        path: str,
        handler: Handler,
        *,
        job_id: Callable[[Request], str] | None = None,
        key_needed: bool = True,
    ) -> Route:
        """Return a route whose responses can be spoiled; `job_id` returns the job that a request names."""

        async def endpoint(request: Request) -> Response:
            if key_needed and not self.authorised(request):
                return self.refusal(request, 401)
            return await self._perform(op, request, handler, self.job(job_id(request)) if job_id else None)

        return Route(path, endpoint, methods=[method])

    def job(self, job_id: str) -> EmulatedJob | None:
        """Return the accepted job of an id, or of the key in its result URLs."""
        with self._lock:
            return self._jobs.get(job_id) or next((job for job in self._jobs.values() if job.key == job_id), None)

    def has_fault(self, request: Request, name: str) -> bool:
        """Whether a test or the prompt gave a request this fault of reach `job`."""
        return any(active.type.name == name for active in _faults_of(request))

    def accept(self, request: Request, spec: JobSpec, *, job_id: str | None = None) -> EmulatedJob:
        """Accept a paid submit: afterwards the job is counted, charged, and being painted.

        `job_id` is the client's own id, where the API uses that.
        """
        with self._lock:
            job = self.runner.accept(spec, len(self._jobs) + 1, self.clock(), _faults_of(request))
            job.id = job_id or job.id
            job.stranger = _is_strangers(request)
            self._jobs[job.id] = job
        return job

    async def call_back(self, job: EmulatedJob, url: Any, body: Mapping[str, Any]) -> None:
        """Report the end of an accepted job at `url`, if its submit has one."""
        if url:
            fault = take_first(job.pending_faults, "callback") or self._injector.take("callback")
            await self.callbacks.expect(str(url), body, fault, lambda: self.ended(job))

    async def _waited(self, seconds: float) -> bool:
        end = self.clock() + seconds
        while self.clock() < end and not self._stopping.is_set():
            await self._sleep()
        return not self._stopping.is_set()

    async def outcome(self, job: EmulatedJob) -> str:
        """Return `running`, `failed` (with the reason in `job.failure`) or `done`."""
        if self.clock() < job.finish_at:
            return "running"
        if job.failure is None:
            painted = asyncio.wrap_future(job.pictures)
            await asyncio.wait([painted], timeout=self._painting_wait_s)
            if not painted.done():
                painted.add_done_callback(lambda future: future.cancelled() or future.exception())
                return "running"
            if (error := painted.exception()) is not None:
                known = isinstance(error, UnreachableImage)
                job.failure = JobFailure(str(error) if known else f"internal error: {error!r}", 400 if known else 500)
        return "failed" if job.failure else "done"

    async def ended(self, job: EmulatedJob, share: float = 1.0) -> str:
        """Wait on the emulator's clock for the end of a job, or for a smaller `share` of its time; return its outcome.

        Without latency it returns at once. It ends, too, when the emulator stops.
        """
        due = job.submitted_at + share * (job.finish_at - job.submitted_at)
        while self.clock() < min(due, job.finish_at) and not self._stopping.is_set():
            await self._sleep()
        if share < 1.0:
            return "running"
        while (outcome := await self.outcome(job)) == "running" and not self._stopping.is_set():
            await self._sleep()
        return outcome

    async def _sleep(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), CLOCK_CHECK_S)

    def output_urls(self, job: EmulatedJob) -> list[str]:
        """Return the URLs of the images of a finished job, in order."""
        urls = [
            f"{self.base_url}/_results/{job.key}/{n}.{EXTENSIONS[job.spec.mime_type_of(n)]}"
            for n in range(1, job.expected + 1)
        ]
        return [f"{url}?signature=".ljust(self._url_chars, "0") if self._url_chars else url for url in urls]

    def keep_upload(self, name: str, data: bytes, mime_type: str) -> str:
        """Keep an uploaded file and return its URL; the same file has the same URL."""
        path = f"{hashlib.sha256(data).hexdigest()[:24]}/{name}"
        self.files.uploads.put(path, data, mime_type)
        return f"{self.base_url}/_uploads/{quote(path)}"

    # Running

    def app(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """Return the API as an ASGI app that logs its requests."""
        files = [
            self.at("result", "GET", "/_results/{id}/{file}", self._result, job_id=id_in_path, key_needed=False),
            Route("/_uploads/{name:path}", self._upload, methods=["GET"]),
        ]

        async def unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            status = 401 if not self.authorised(request) else self.unknown_path_status
            await self.refusal(request, status)(scope, receive, send)

        router = Router([*control_routes(self), *files, *self.routes()], redirect_slashes=False, default=unknown_path)
        return RequestRecorder(self._dated(router), self._log, unlogged="/_emulator/")

    def _dated(self, app: ASGIApp) -> ASGIApp:
        """Add the provider's own time to every response, as HTTP servers do."""

        async def dated(scope: Scope, receive: Receive, send: Send) -> None:
            async def with_date(message: Message) -> None:
                if message["type"] == "http.response.start":
                    date = formatdate(self.clock(), usegmt=True).encode()
                    message["headers"] = [*message.get("headers", ()), (b"date", date)]
                await send(message)

            await app(scope, receive, with_date)

        return dated

    def open(self, host: str, port: int) -> LoopbackServer:
        """Bind a port; the caller starts and stops the returned server, and then calls `close`."""
        loopback = LoopbackServer(self.app(), host, port, self._stopping.set)
        self.base_url = loopback.base_url
        return loopback

    def close(self) -> None:
        self.runner.close()

    async def _perform(self, op: str, request: Request, handler: Handler, job: EmulatedJob | None) -> Response:
        if _is_strangers(request):
            return await handler(request)
        active = self._injector.take(op)
        self.performed[op] += 1
        try:
            own = await self._read_directives(request) if op == "submit" else None
        except BadDirective as error:
            return self.refusal(request, 400, str(error))
        if active is None:
            active = own or (take_first(job.pending_faults, op) if job else None)
        if active is None:
            return await handler(request)
        if active.type.reach == "job":
            if job:
                job.add(active)
            else:
                request.state.faults = [*_faults_of(request), active]
            return await handler(request)
        response = Response()
        if active.type.reach == "after" or active.options.get("accepted"):
            response = await handler(request)
            if response.status_code >= 300:
                return response

        def refuse(status: int, options: dict[str, Any]) -> Response:
            return self.refusal(request, status, **options)

        return faulty(active, request, response, refuse, self._stopping)

    async def _read_directives(self, request: Request) -> ActiveFault | None:
        """Put the faults of the job into `request.state.faults`; return the one of this very response, or None."""
        body = await request.body()
        if b"emulate:" not in body:
            return None
        digest = hashlib.sha256(body).hexdigest()
        own: ActiveFault | None = None
        faults: list[ActiveFault] = []
        for active in self._injector.directives(body.decode(errors="replace")):
            if active.type.op != "submit" or active.type.reach == "job":
                faults.append(active)
            elif own is None and self._injector.applies(active, digest):
                own = active
        request.state.faults = faults
        return own

    async def _result(self, request: Request) -> Response:
        found = self.files.results.get(f"{request.path_params['id']}/{request.path_params['file']}")
        if found is None:
            return Response("no such file", 404, media_type="text/plain")
        return Response(found[0], media_type=found[1])

    async def _upload(self, request: Request) -> Response:
        found = self.files.uploads.get(str(request.path_params["name"]))
        if found is None:
            return Response("no such file", 404, media_type="text/plain")
        return Response(found[0], media_type=found[1])


def id_in_path(request: Request) -> str:
    """Return the id of the job in a request's path."""
    return str(request.path_params["id"])


def retry_after(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the Retry-After header of a refusal, if the fault's options have it."""
    seconds = options.get("retry_after")
    return {} if seconds is None else {"Retry-After": str(seconds)}


async def form_file(request: Request) -> tuple[str, bytes, str, Mapping[str, Any]] | None:
    """Return name, bytes and media type of the field `file` of a form, and all of its fields; None without a file."""
    async with request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            return None
        kind = file.content_type or "application/octet-stream"
        return (file.filename or "file").replace("/", "_"), await file.read(), kind, dict(form)


def _faults_of(request: Request) -> Sequence[ActiveFault]:
    faults: Sequence[ActiveFault] = getattr(request.state, "faults", ())
    return faults


def _is_strangers(request: Request) -> bool:
    return "x-emulator-stranger" in request.headers
