"""The results of tools and commands: one shape for every job, and a few smaller ones.

These values are the output schemas that assistants see, so their field names are contracts. Rules: no base64, ever;
money is a JSON number of US dollars with at most six decimals; times are ISO 8601 in UTC; `text()` has the same facts
as the fields, for hosts that show only text, each item on one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.core.errors import format_usd, quoted
from triptych.core.json_fields import IF_ANY, IF_SET, Result, Usd, Utc
from triptych.core.models import Failure
from triptych.core.text import joined_lines
from triptych.storage.budget import Budget, Spent, SpentRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Result):
    done: int
    total: int
    remaining_s: int | None = field(default=None, metadata=IF_SET)
    """About how long the job still takes, in seconds; left out until some of its requests have finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Result):
    """One step of a job: its words, how many of its requests are done, and how many ended without an image."""

    prompt: str
    done: int
    lost: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStages(Result):
    """How far each step of a job is; `spent` is the charge of what has finished, or its quote until that is known."""

    steps: list[Stage]
    spent: Usd


def time_left(seconds: int) -> str:
    """Return a duration as "about 4 min left"."""
    if seconds < 90:
        return f"about {max(round(seconds, -1), 5)} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult(Result):
    """One layer of a picture that was taken apart; the base has `z_index` 0 and no box.

    `box` is left, top, right and bottom in pixels of the base.
    """

    z_index: int
    name: str = ""
    description: str = ""
    box: tuple[int, int, int, int] | None = None

    def text(self) -> str:
        """Return the layer in a few words."""
        place = f" at {','.join(map(str, self.box))}" if self.box else ""
        return f"layer {self.z_index}{f' {quoted(self.name, 60)}' if self.name else ''}{place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult(Result):
    """One image with its URLs and its path; unknown values are null."""

    handle: str
    url: str | None = None
    url_expires_at: Utc | None = None
    path: str | None = None
    uri: str
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None
    source: list[str] = field(default_factory=list)
    layer: LayerResult | None = field(default=None, metadata=IF_SET)


def images_text(images: Sequence[ImageResult]) -> list[str]:
    """Return a line for each image, in order, with its handle, URL and path; a first line has the common facts."""
    sizes = {f"{i.width}x{i.height}" for i in images if i.width}
    expiries = {f"{i.url_expires_at:%Y-%m-%d %H:%MZ}" for i in images if i.url_expires_at}
    shared = [f"each {size}" for size in sizes] if len(sizes) == 1 else []
    shared += [f"URLs until {expiry}" for expiry in expiries] if len(expiries) == 1 else []
    lines = [", ".join(shared)] if shared else []
    for image in images:
        words = [image.handle]
        words += [f"{image.width}x{image.height}"] if image.width and len(sizes) > 1 else []
        words += [f"from {', '.join(image.source)}"] if image.source else []
        words += [image.layer.text()] if image.layer else []
        words += [image.url] if image.url else []
        if image.url_expires_at and len(expiries) > 1:
            words.append(f"(until {image.url_expires_at:%Y-%m-%d %H:%MZ})")
        words += [image.path] if image.path else []
        lines.append(" ".join(words))
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Result):
    currency: str = "USD"
    quoted: Usd
    charged: Usd | None = None
    charge_is_estimate: bool = False
    """The charge is the list price of what came, at least in part: the provider reports none."""

    def text(self, status: str) -> str:
        """Return quote and charge of a job with this status in a few words."""
        if self.quoted == 0 and not self.charged:
            return "free"
        if self.charged == 0:
            charged = "nothing was charged"
        elif self.charged is not None and self.charge_is_estimate:
            charged = f"charged about ${format_usd(self.charged)}, the provider reports no charge"
        elif self.charged is not None:
            charged = f"charged ${format_usd(self.charged)}"
        elif status == "dry_run":
            charged = "nothing was sent"
        elif status == "done":  # some providers report it minutes later, or never
            charged = "the charge is not known yet"
        else:
            charged = "not charged yet" if status in ("queued", "running") else "it may have been charged"
        return f"quoted ${format_usd(self.quoted)}, {charged}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Result):
    """Which part of a job's images is listed: page `number` of `of`, from 1."""

    number: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult(Result):
    """The one result of every tool that makes or shows a job."""

    job_id: str | None
    """Null for a dry run, which makes no job."""
    status: str
    """queued, running, done, partial, failed, cancelled, uncertain; or dry_run."""
    provider: str
    model: str
    endpoint: str
    progress: Progress
    requested: int
    returned: int
    """The number of images so far. After the end of the job `images` lists them, on the number of pages in `page`."""
    page: Page | None = None
    """Null where `images` has all there are."""
    images: list[ImageResult]
    cost: Cost
    error: Failure | None = None
    warnings: list[str] = field(default_factory=list)
    next: str | None = None
    request: dict[str, Any] | None = None
    """A dry run's exact provider request."""

    def text(self) -> str:
        """Return the whole result as a few lines of text."""
        lines = [
            f"{self.job_id or 'no job'}: {self.status}, {self.returned} of {self.requested} images, "
            f"{self.model} on {self.provider}, {self.cost.text(self.status)}"
            f"{f', {time_left(self.progress.remaining_s)}' if self.progress.remaining_s else ''}"
        ]
        if self.page:
            lines.append(f"page {self.page.number} of {self.page.of}: {len(self.images)} of {self.returned} images")
        lines += images_text(self.images)
        if self.error:
            lines.append(f"error {self.error.kind}: {self.error.message}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.request is not None:
            lines.append(f"request: {self.request}")
        if self.next:
            lines.append(f"next: {self.next}")
        return joined_lines(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult(Result):
    images: list[ImageResult]
    more: list[str] = field(default_factory=list)
    """The handles of the images after those in `images`."""
    provider: str
    look: str | None = field(default=None, metadata=IF_SET)
    """The look that they are stored as, with its version, in words."""
    warnings: list[str] = field(default_factory=list)
    next: str | None = None

    def text(self) -> str:
        """Return the images, one a line, and the handles of those that are not in `images`."""
        lines = [*images_text(self.images), *([self.look] if self.look else [])]
        lines += [f"and {len(self.more)} more: {', '.join(self.more)}"] if self.more else []
        lines += [f"warning: {warning}" for warning in self.warnings]
        return joined_lines([*lines, f"next: {self.next}"] if self.next else lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary(Result):
    job_id: str
    status: str
    tool: str
    prompt: str
    provider: str
    model: str
    requested: int
    returned: int
    created_at: Utc
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsResult(Result):
    jobs: list[JobSummary]
    next: str | None = None

    def text(self) -> str:
        """Return the jobs, newest first, one a line."""
        if not self.jobs:
            return "No jobs yet."
        lines = [
            f"{j.job_id} {j.status} {j.returned}/{j.requested} {j.tool} {j.created_at:%Y-%m-%d %H:%MZ}: {j.prompt}"
            for j in self.jobs
        ]
        return joined_lines([*lines, f"next: {self.next}"] if self.next else lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendResult(Result):
    """The ledger by day, provider and model, the newest day first."""

    currency: str = "USD"
    days: int
    rows: list[SpentRow]
    total: Spent
    budget: Budget
    owner_budget: Budget | None = None
    """The caller's own, where the setting gives each owner one."""
    group_budget: Budget | None = None
    """That of the caller's group, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedItem(Result):
    """A file that was removed, or would be; `name` is a handle, or the file's name where nothing knows it."""

    name: str
    kind: str
    """output, upload, or unknown."""
    bytes: int
    days_old: int
    saved_path: str | None = None
    """Where a copy was saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult(Result):
    """The images that `triptych prune` removed, or would remove; `unsaved` counts those that need `--unsaved`."""

    done: bool
    older_than_days: int
    items: list[PrunedItem]
    bytes: int
    unsaved: int
    unsaved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult(Result):
    """The result of `triptych objects copy`; `lost` are the handles of images whose file is lost or damaged."""

    copied: int
    bytes: int
    lost: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Result):
    handle: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveResult(Result):
    """The saved files. `saved` lists them in order; of many it has the first ones, and `more` is about the rest.

    In an archive the paths are the names in it.
    """

    saved: list[Saved]
    more: str | None = field(default=None, metadata=IF_SET)
    count: int
    """How many files are saved; some may have been there before."""
    directory: str
    archive: str | None = field(default=None, metadata=IF_SET)
    """The path of the archive, if one was made."""
    manifests: list[str] = field(default_factory=list, metadata=IF_ANY)
    """For each job from a table: a file with the values and results of its rows."""
    warnings: list[str] = field(default_factory=list)
    next: str | None = field(default=None, metadata=IF_SET)

    def text(self) -> str:
        """Return where each image lies now, one a line."""
        lines = [f"{s.handle} saved as {s.path}" for s in self.saved]
        lines += [self.more] if self.more else []
        lines += [f"{self.count} files in {self.archive}"] if self.archive else []
        lines += [f"the values of its rows: {path}" for path in self.manifests]
        lines += [f"warning: {w}" for w in self.warnings]
        return joined_lines([*lines, f"next: {self.next}"] if self.next else lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(Result):
    """The result of `view_images`: a small JPEG and its caption."""

    jpeg: bytes
    caption: str
