"""Stage hands for the server's tests: child processes that serve, and a service that answers as it is told."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from mcp import Client

from triptych import settings
from triptych.core import errors
from triptych.core.models import Status
from triptych.jobs.request_facts import JobRequest
from triptych.jobs.results import Cost, ImageResult, JobResult, Progress
from triptych.jobs.service import Caller
from triptych.storage.summaries import ListedImage, Seen

Connect = Callable[..., AbstractAsyncContextManager[Client]]

SAMPLES = Path(settings.__file__).parent / "samples"

SMALL = "400x300"
"""A size of which the offline engine paints a scene in a third of the time."""

SERVE = """
import os, sys
from triptych import settings
from triptych.server.transports import serve
serve(settings.read(os.environ, remote=True), sys.argv[1], "127.0.0.1", 0)
"""


def environ(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with no keys in it, the samples allowed, and a home of its own."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "SYSTEMROOT")}
    return {**kept, "TRIPTYCH_HOME": str(home), "TRIPTYCH_ALLOWED_DIRS": str(SAMPLES), **more}


class Child:
    """A server in a process of its own, which says on stderr where it listens."""

    def __init__(self, *argv: str, env: dict[str, str], ready: str = "is listening on") -> None:
        self._ready = ready
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, *argv], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)

    def url(self) -> str:
        """Return where it listens, once it does."""
        while (line := self._lines.get(timeout=60)) is not None:
            self.said.append(line)
            if self._ready in line:
                return line.split()[-1]
        raise AssertionError(f"the server ended: {''.join(self.said)}")

    def end(self) -> int:
        """Ask it to end if it has not, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=60)
        while not self._lines.empty():
            self.said.append(self._lines.get() or "")
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code


# -- a service that answers as it is told
# -------------------------------------------------------------------------------


def image_result(handle: str = "job_12345678/1", **fields: Any) -> ImageResult:
    return ImageResult(**{"handle": handle, "uri": f"triptych://images/{handle}", **fields})


def job_result(**fields: Any) -> JobResult:
    """Return a job of one image that is done, but for the fields given."""
    plain = {
        "job_id": "job_12345678",
        "status": "done",
        "provider": "draft",
        "model": "draft",
        "endpoint": "draft/edit",
        "progress": Progress(done=1, total=1),
        "requested": 1,
        "returned": 1,
        "images": [],
        "cost": Cost(quoted=Decimal(0)),
    }
    return JobResult(**{**plain, **fields})


@dataclass
class CannedService:
    """Answers every use-case with `answer` (raised if it is an exception), and remembers what it was asked."""

    answer: Any = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    listeners: list[Callable[[str], None]] = field(default_factory=list)
    jobs: dict[str, JobResult] = field(default_factory=dict)
    act: Callable[[Caller], Awaitable[Any]] | None = None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def use_case(*arguments: Any, **named: Any) -> Any:
            caller = next((a for a in (*arguments, *named.values()) if isinstance(a, Caller)), None)
            self.asked.append((name, *(a for a in arguments if a is not caller)))
            if caller:
                self.callers.append(caller)
                if self.act:
                    return await self.act(caller)
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer if self.answer is not None else job_result()

        return use_case

    async def recent_images(self, limit: int, caller: Caller | None = None) -> list[ListedImage]:
        image = image_result()
        return [ListedImage(image.handle, image.width, image.height, tuple(image.source))]

    async def seen(self, job_id: str) -> Seen:
        job = await self.job(job_id)
        return Seen(Status(job.status), job.requested, None, None, job.returned)

    async def job(self, job_id: str, caller: Caller | None = None, *, every: bool = False) -> JobResult:
        try:
            return self.jobs[job_id]
        except KeyError:
            raise errors.UnknownHandle(f"There is no job {job_id}.") from None

    async def making(self, job_id: str, caller: Caller | None = None) -> JobRequest:
        return JobRequest(tool="edit_sequence", prompts=["warmer"], lanes=[["img_12345678"]], requests=[])

    async def image_facts(self, handle: str, caller: Caller | None = None) -> dict[str, Any]:
        return {"made_from_it": []}

    async def preview(self, handle: str, caller: Caller | None = None) -> tuple[bytes, ImageResult]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return b"\xff\xd8jpeg", image_result(handle)

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def changed(self, job_id: str, **fields: Any) -> None:
        """Let a job be as the fields say, and tell the listeners."""
        self.jobs[job_id] = job_result(job_id=job_id, **fields)
        for listener in list(self.listeners):
            listener(job_id)
