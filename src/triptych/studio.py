"""The use-cases behind tools and commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from triptych.results import JobResult, JobsResult, ModelsResult, Preview, SaveResult, UploadResult

Report = Callable[[float, float, str], Awaitable[None]]
"""Told of progress: done, total, one line of text."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the directories this caller may read and write, and where to report progress."""

    roots: tuple[Path, ...] = ()
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """The optional arguments that the three paid tools share; DESIGN's words."""

    model: str | None = None
    provider: str | None = None
    size: str | None = None
    format: str | None = None
    wait_s: float = 25
    save_to: str | None = None
    max_cost_usd: Decimal | None = None
    dry_run: bool = False
    again: bool = False


class Studio:
    async def upload_images(self, images: Sequence[str], caller: Caller = Caller()) -> UploadResult: ...
    async def edit_sequence(self, images: Sequence[str], prompt: str, count: int = 1, options: Options = Options(), caller: Caller = Caller()) -> JobResult: ...
    async def edit_chain(self, images: Sequence[str], steps: Sequence[str], references: Sequence[str] = (), options: Options = Options(), caller: Caller = Caller()) -> JobResult: ...
    async def generate_sequence(self, prompt: str, count: int = 1, options: Options = Options(), caller: Caller = Caller()) -> JobResult: ...
    async def get_status(self, job_id: str, wait_s: float = 0, caller: Caller = Caller()) -> JobResult: ...
    async def list_jobs(self, limit: int = 20, status: str | None = None) -> JobsResult: ...
    async def cancel_job(self, job_id: str) -> JobResult: ...
    async def list_models(self, query: str = "", operation: str | None = None, provider: str | None = None) -> ModelsResult: ...
    async def view_images(self, images: Sequence[str], caller: Caller = Caller()) -> Preview: ...
    async def save_images(self, images: Sequence[str], directory: str, name: str | None = None, caller: Caller = Caller()) -> SaveResult: ...
    # for resources
    def recent_images(self, limit: int = 20) -> list: ...          # list[ImageResult], newest first
    def job(self, job_id: str) -> JobResult: ...                   # raises errors.BadRequest when unknown
    async def preview(self, handle: str) -> tuple[bytes, object]: ...  # JPEG <= 100 KB, ImageResult
    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]: ...  # told job ids that changed; returns an unsubscribe
