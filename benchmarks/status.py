"""How long the server works on the questions that assistants ask most: `get_status`, and `tools/list`.

A job of four images is made by the offline engine and finished. Then its status is asked for again and again: of the
service, which is what the server does; and through an in-memory client, which adds the protocol on both sides. The list
of tools has to be one object, made once.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import Client

from benchmarks.table import Row, main
from triptych import settings
from triptych.core.requests import Request
from triptych.jobs.planning import Terms
from triptych.jobs.service import ImageService, open_service
from triptych.server import tools
from triptych.server.app import build

CALLS = 300
LIMIT_MS = 5.0


def measure() -> list[Row]:
    """Return the median of some hundred calls of each."""
    with tempfile.TemporaryDirectory() as home:
        setup = settings.read({"TRIPTYCH_HOME": home}).setup
        return anyio.run(_measure, setup)


async def _measure(setup: Any) -> list[Row]:
    async with open_service(setup) as service:
        job_id = await _finished(service)
        async with Client(build(_same(service), remote=False)) as client:

            async def ask() -> None:
                told = await client.call_tool("get_status", {"job_id": job_id})
                assert told.structured_content and len(told.structured_content["images"]) == 4

            in_server_ms = await p50_ms(lambda: service.get_status(job_id))
            round_trip_ms = await p50_ms(ask)
            listed_ms = await p50_ms(client.list_tools)
    return [
        _limited("get_status, 4 images, p50: in the server", in_server_ms),
        _limited("get_status, 4 images, p50: in-memory client and back", round_trip_ms),
        _listing(),
        Row("tools/list, p50: in-memory client and back", f"{listed_ms:.2f} ms"),
    ]


async def _finished(service: ImageService) -> str:
    """Return the id of a finished job of four images."""
    request = Request("generate_sequence", ("a lighthouse by day, at dusk, at night and in fog",), count=4)
    result = await service.make(request, Terms(wait_s=55))
    while result.status == "running" and result.job_id:
        result = await service.get_status(result.job_id, 55)
    assert result.status == "done" and result.returned == 4 and result.job_id, result
    return result.job_id


def _same(service: ImageService) -> Callable[[], Awaitable[ImageService]]:
    async def opened() -> ImageService:
        return service

    return opened


async def p50_ms(call: Callable[[], Awaitable[Any]]) -> float:
    """Return the median time of a call, in milliseconds, once it is warm."""
    for _ in range(10):
        await call()
    times_s = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()
        times_s.append(time.perf_counter() - began)
    return statistics.median(times_s) * 1000


def _limited(what: str, ms: float) -> Row:
    return Row(what, f"{ms:.2f} ms", f"{LIMIT_MS:g} ms (limit)", ms / LIMIT_MS, "< 1×", ms < LIMIT_MS)


def _listing() -> Row:
    def each_us(build_list: Callable[[], Any], times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            build_list()
        return (time.perf_counter() - began) / times * 1e6

    same = tools.listing() is tools.listing()
    ours, anew = each_us(tools.listing, 10_000), each_us(tools.listing.__wrapped__, 20)
    return Row(
        "tools/list: making the answer",
        f"{ours:.2f} µs ({'one object' if same else 'NOT one object'})",
        f"{anew:,.0f} µs (made anew)",
        ours / anew,
        "one object",
        same,
    )


if __name__ == "__main__":
    main(measure)
