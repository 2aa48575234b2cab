"""Prometheus metrics at `/metrics` (extra `otel`), if `TRIPTYCH_METRICS` is on.

Two kinds. Counters and histograms count what this process does, and start at zero with it. Gauges of jobs, predictions
and money come from the database: every process of an installation reports the same ones (take the maximum, not the
sum). They are read at a scrape, kept for `KEEP_S`, and missing while the database does not answer.

Rules: labels have few values (providers, states, names from the code), never owners, jobs or text from outside. The
page shows spending, so it has a token of its own, which opens nothing else; clients' tokens do not open it.
"""

from __future__ import annotations

import gc
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

from triptych import __version__
from triptych.core import telemetry

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from triptych.jobs.service import ImageService
    from triptych.storage.summaries import Overview

KEEP_S = 5.0
READ_LIMIT_S = 5.0
LOOP_EVERY_S = 0.25
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LONG_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
ROUTES = ("mcp", "sse", "messages", "files", "gallery", "webhooks", ".well-known", "metrics", "healthz", "readyz")
IN_FLIGHT = ("waiting", "queued", "submitting", "running", "fetching", "uncertain")
ALERTED = ("ok", "key_rejected", "no_funds", "answer_lost", "not_sent", "outage")
"""Outcomes that are there from the start: Prometheus sees no increase in a series that begins with 1."""
OPEN_JOBS = ("queued", "running", "uncertain")


class Metrics(telemetry.Listener):
    """The metrics of one process. `answer` is the page; `running` listens and watches the event loop.

    `checks` returns the state of each part that `/readyz` checks.
    """

    def __init__(
        self,
        checks: Callable[[], Awaitable[Mapping[str, str]]],
        open_service: Callable[[], Awaitable[ImageService]],
        token: str | None = None,
    ) -> None:
        self._checks = checks
        self._open_service = open_service
        self._token = token
        self._reading = anyio.Lock()
        self._read_s: float | None = None
        self.registry = registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        Gauge("triptych_build_info", "The running version.", ["version"], registry=registry).labels(__version__).set(1)
        self._loop_delay = Histogram(
            "triptych_event_loop_delay_seconds",
            "How late the event loop runs a timer.",
            buckets=SHORT_S,
            registry=registry,
        )
        self._database = Histogram(
            "triptych_database_call_duration_seconds",
            "From the request of a database call to its end, the wait for a connection included.",
            ["call"],
            buckets=SHORT_S,
            registry=registry,
        )
        self._calls = Histogram(
            "triptych_provider_call_duration_seconds",
            "A whole call of a provider (submit, poll, download, find …), its repetitions included.",
            ["provider", "kind"],
            buckets=LONG_S,
            registry=registry,
        )
        self._outcomes = Counter(
            "triptych_provider_calls_total",
            "Calls of a provider by outcome: ok, or the kind of error.",
            ["provider", "kind", "outcome"],
            registry=registry,
        )
        self._requests = Counter(
            "triptych_provider_requests_total",
            "HTTP requests to a provider by status class; `none` without a response.",
            ["provider", "kind", "status"],
            registry=registry,
        )
        self._poll_lag = Histogram(
            "triptych_poll_lag_seconds",
            "How late a due step is taken up.",
            ["provider"],
            buckets=LONG_S,
            registry=registry,
        )
        self._steps = Gauge("triptych_steps_in_progress", "Steps of predictions in work here.", registry=registry)
        self._moves = Counter(
            "triptych_prediction_moves_total",
            "Predictions that entered a state, written by this process.",
            ["provider", "state"],
            registry=registry,
        )
        self._charged = Counter(
            "triptych_charged_usd_total", "Charges that this process has written.", ["provider"], registry=registry
        )
        self._tools = Histogram(
            "triptych_tool_call_duration_seconds",
            "A tool call, its wait for images included.",
            ["tool"],
            buckets=LONG_S,
            registry=registry,
        )
        self._tool_outcomes = Counter(
            "triptych_tool_calls_total", "Tool calls: ok, refused or error.", ["tool", "outcome"], registry=registry
        )
        self.http = Histogram(
            "triptych_http_request_duration_seconds",
            "From an HTTP request to the head of its response.",
            ["route", "method"],
            buckets=LONG_S,
            registry=registry,
        )
        self.http_codes = Counter(
            "triptych_http_requests_total", "HTTP requests by status.", ["route", "method", "code"], registry=registry
        )
        self._installation = _Installation()
        registry.register(self._installation)

    # -- what the process does

    def started(self, span: telemetry.Span) -> None:
        span.kept[self] = time.perf_counter()
        if span.name == "step":
            self._steps.inc()

    def ended(self, span: telemetry.Span, error: BaseException | None) -> None:
        took_s = time.perf_counter() - span.kept[self]
        known = span.attributes
        match span.name:
            case "database":
                self._database.labels(_word(known["call"])).observe(took_s)
            case "call":
                names = str(known["provider"]), str(known["kind"])
                self._calls.labels(*names).observe(took_s)
                self._outcomes.labels(*names, _outcome(error)).inc()
            case "request":
                kind = telemetry.around.get().get("kind", "other")
                status = f"{int(known['status']) // 100}xx" if "status" in known else "none"
                self._requests.labels(str(known["provider"]), str(kind), status).inc()
            case "step":
                self._steps.dec()
            case "tool":
                self._tools.labels(str(known["tool"])).observe(took_s)
                self._tool_outcomes.labels(
                    str(known["tool"]), "error" if error else str(known.get("outcome", "ok"))
                ).inc()

    def valued(self, name: str, value: float, attributes: Mapping[str, telemetry.Attribute]) -> None:
        provider = str(attributes.get("provider"))
        match name:
            case "moves":
                self._moves.labels(provider, str(attributes["state"])).inc(value)
            case "charged_usd":
                self._charged.labels(provider).inc(value)
            case "poll_lag_s":
                self._poll_lag.labels(provider).observe(value)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, and watch the event loop, for as long as the block runs."""
        telemetry.listeners.append(self)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_loop)
                yield
                tasks.cancel_scope.cancel()
        finally:
            telemetry.listeners.remove(self)

    async def _watch_loop(self) -> None:
        while True:
            began_s = time.perf_counter()
            await anyio.sleep(LOOP_EVERY_S)
            self._loop_delay.observe(max(time.perf_counter() - began_s - LOOP_EVERY_S, 0.0))

    # -- the page

    async def answer(self, scope: Scope) -> Response:
        """Return the page, or 401 without its token."""
        headers = Headers(scope=scope)
        if self._token is not None and not _has_token(headers, self._token):
            return PlainTextResponse(
                "Triptych: Send `Authorization: Bearer …` with the server's TRIPTYCH_METRICS_TOKEN.\n",
                401,
                {"WWW-Authenticate": 'Bearer realm="triptych metrics"'},
            )
        await self._read()
        encode, content_type = choose_encoder(headers.get("accept", ""))
        return Response(encode(self.registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def _read(self) -> None:
        async with self._reading:
            if self._read_s is not None and anyio.current_time() - self._read_s < KEEP_S:
                return
            shown = self._installation
            shown.checks = await self._checks()
            shown.overview = None
            try:
                with anyio.fail_after(READ_LIMIT_S):
                    service = await self._open_service()
                    shown.overview = await service.overview()
            except Exception:  # the check of the database says so
                shown.overview = None
            else:
                shown.limits = {
                    name: account.provider.max_running
                    for name, account in service.config.accounts.items()
                    if account.usable
                }
                for provider in shown.limits:
                    for outcome in ALERTED:
                        self._outcomes.labels(provider, "submit", outcome)
            self._read_s = anyio.current_time()


class _Installation(Collector):
    """The gauges that come from the database, as last read."""

    def __init__(self) -> None:
        self.checks: Mapping[str, str] = {}
        self.limits: Mapping[str, int] = {}
        self.overview: Overview | None = None

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("triptych_ready", "Whether a part that /readyz checks is in order.", labels=["check"])
        for name, state in self.checks.items():
            ready.add_metric([name], float(state == "ok"))
        yield ready
        collections = CounterMetricFamily(
            "triptych_gc_collections", "Runs of Python's garbage collector.", labels=["generation"]
        )
        for generation, numbers in enumerate(gc.get_stats()):
            collections.add_metric([str(generation)], numbers["collections"])
        yield collections
        if self.overview is None:
            return
        yield from self._of_database(self.overview)

    def _of_database(self, now: Overview) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("triptych_jobs", "Jobs in flight or uncertain, by status.", labels=["status"])
        for status in {*OPEN_JOBS, *now.jobs}:
            jobs.add_metric([status], now.jobs.get(status, 0))
        predictions = GaugeMetricFamily(
            "triptych_predictions", "Predictions in flight or uncertain.", labels=["provider", "state"]
        )
        providers = {*self.limits, *(provider for provider, _ in now.predictions)}
        for provider in providers:
            for state in IN_FLIGHT:
                predictions.add_metric([provider, state], now.predictions.get((provider, state), 0))
        of_account = ["account", "provider"]
        running = GaugeMetricFamily("triptych_account_running", "Requests that run for one key.", labels=of_account)
        limit = GaugeMetricFamily("triptych_account_limit", "How many may run for one key.", labels=of_account)
        held = GaugeMetricFamily(
            "triptych_account_hold_seconds", "For how long no request is submitted, after a 429.", labels=of_account
        )
        for account, provider, at_once, hold_s in now.accounts:
            running.add_metric([account, provider], at_once)
            held.add_metric([account, provider], hold_s)
            if provider in self.limits:
                limit.add_metric([account, provider], self.limits[provider])
        yield from (jobs, predictions, running, limit, held)
        yield _gauge(
            "triptych_oldest_due_prediction_age_seconds",
            "How long the oldest submitted prediction is due.",
            now.oldest_due_s,
        )
        yield _gauge("triptych_spent_usd", "Charges of the last 24 hours.", float(now.budget.spent))
        yield _gauge(
            "triptych_reserved_usd", "Quotes of the last 24 hours without a charge.", float(now.budget.reserved)
        )
        if now.budget.cap is not None:
            yield _gauge("triptych_budget_limit_usd", "TRIPTYCH_BUDGET_USD.", float(now.budget.cap))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _word(name: object) -> str:
    return str(name) if str(name).isidentifier() else "other"


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    return str(getattr(error, "kind", "cancelled" if not isinstance(error, Exception) else "internal"))


def _has_token(headers: Headers, token: str) -> bool:
    sent = headers.getlist("authorization")
    kind, _, given = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


class Counted:
    """Middleware: counts HTTP requests by route, method and status, and times their responses' heads."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        first = scope["path"].lstrip("/").split("/", 1)[0]
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        names = (first if first in ROUTES else "other", method)

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.http.labels(*names).observe(time.perf_counter() - began_s)
                self._metrics.http_codes.labels(*names, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
