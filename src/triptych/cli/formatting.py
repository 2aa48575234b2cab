"""Results as text for people, and exit codes for programs.

Pure: results in, text and numbers out. Lines have at most 100 columns, except paths and URLs, which have a line of
their own so that they can be copied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.core import errors
from triptych.core.errors import format_usd
from triptych.core.text import block, line

if TYPE_CHECKING:
    from triptych.jobs.look_results import LooksResult
    from triptych.jobs.model_results import ModelRow, ModelsResult
    from triptych.jobs.results import (
        ImageResult,
        JobResult,
        JobsResult,
        PrunedItem,
        PruneResult,
        SaveResult,
        SpendResult,
        UploadResult,
    )
    from triptych.storage.budget import Spent

COLUMNS = 100
MOST_SAVED = 20
"""The most saved files that are all listed; `--json` lists all."""
AS_COMMANDS = {
    r'get_status\(job_id="(job_\w+)", wait_s=\d+\)': r"`triptych status \1 --wait`",
    r'get_status\(job_id="(job_\w+)"\)': r"`triptych status \1`",
    r"list_models without arguments|list_models": "`triptych models`",
    r"list_jobs": "`triptych jobs`",
    r"call again with max_cost_usd=([\d.]*\d)": r"repeat the command with --max-cost-usd \1",
    r'provider="(\w+)"': r"--provider \1",
}
"""Calls of tools in sentences for both readers, and what a shell takes in their place."""
ESTIMATED = "~ an estimate at the list price: the provider reports no charge"


class Exit(IntEnum):
    """The exit codes; docs/command-line.md and `--help` show their meanings."""

    DONE = 0
    FAILED = 1
    BAD_REQUEST = 2
    PARTIAL = 3
    UNCERTAIN = 4
    RUNNING = 5
    TOO_COSTLY = 6
    UNAVAILABLE = 7
    CANCELLED = 8


EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed: the job, a check of doctor, or Triptych itself",
    Exit.BAD_REQUEST: "bad request or usage; nothing was sent",
    Exit.PARTIAL: "partial: some images are missing",
    Exit.UNCERTAIN: "uncertain: the request may have been paid, and its answer was lost",
    Exit.RUNNING: "still running (--no-wait, or interrupted)",
    Exit.TOO_COSTLY: "over the budget or the cap, or not confirmed; nothing was sent",
    Exit.UNAVAILABLE: "the provider refused or could not be reached",
    Exit.CANCELLED: "cancelled",
}

_OF_STATUS = {
    "done": Exit.DONE,
    "dry_run": Exit.DONE,
    "partial": Exit.PARTIAL,
    "failed": Exit.FAILED,
    "cancelled": Exit.CANCELLED,
    "uncertain": Exit.UNCERTAIN,
    "queued": Exit.RUNNING,
    "running": Exit.RUNNING,
}
_MARKS = {Exit.DONE: "✓", Exit.PARTIAL: "◐", Exit.RUNNING: "…", Exit.UNCERTAIN: "?"}


def exit_of_status(status: str) -> Exit:
    """Return the exit code of a job's status."""
    return _OF_STATUS[status]


def exit_of_error(error: errors.TriptychError) -> Exit:
    """Return the exit code of a refusal or failure."""
    match error:
        case errors.OverBudget():
            return Exit.TOO_COSTLY
        case errors.BadRequest() | errors.Unusable():
            return Exit.BAD_REQUEST
        case errors.Refused() | errors.Outage():
            return Exit.UNAVAILABLE
        case errors.Uncertain():
            return Exit.UNCERTAIN
        case _:
            return Exit.FAILED


def job_text(result: JobResult) -> str:
    """Return a job: one line of facts, its images, its error and warnings, and the next command."""
    return "\n".join(_job_lines(result))


def _job_lines(result: JobResult) -> Iterator[str]:
    mark = _MARKS.get(exit_of_status(result.status), "✗")
    if result.job_id is None:
        yield f"{mark} dry run: {_count(result.requested)}, {result.model} on {result.provider}"
        yield f"  quoted ${format_usd(result.cost.quoted)}; nothing was sent"
    else:
        yield f"{mark} {result.job_id} {result.status}: {result.returned} of {_count(result.requested)}"
        yield f"  {line(result.model)} on {result.provider}, {result.cost.text(result.status)}"
    for image in result.images:
        yield from _image_lines(image)
    if result.error:
        yield from wrapped(f"{result.error.kind}: {as_commands(result.error.message)}", "  ")
    for warning in result.warnings:
        yield from wrapped(f"note: {as_commands(warning)}", "  ")
    if result.request is not None:
        yield json.dumps(result.request, indent=2, ensure_ascii=False)
    match result.status:
        case "queued" | "running":
            yield f"  next: triptych status {result.job_id} --wait"
        case "uncertain":
            yield f"  look again: triptych status {result.job_id} --wait"
            yield f"  accept it as lost: triptych cancel {result.job_id}"
            yield "  pay again: the same command with --again"
        case _ if result.error and result.error.kind in ("deadline", "fetch_failed"):
            yield f"  look again: triptych status {result.job_id} --wait"


def _count(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _image_lines(image: ImageResult) -> Iterator[str]:
    facts = [image.handle]
    facts += [f"{image.width}x{image.height}"] if image.width else []
    facts += [f"from {', '.join(image.source)}"] if image.source else []
    facts += [image.layer.text()] if image.layer else []
    yield from wrapped("  ".join(facts), "  ")
    if image.url and not image.url.startswith("file:"):
        yield f"    {line(image.url)}"
        if image.url_expires_at:
            yield f"    (until {image.url_expires_at:%Y-%m-%d %H:%M} UTC)"
    if image.path:
        yield f"    {line(image.path)}"


def upload_text(result: UploadResult) -> str:
    """Return the handles and places of uploaded images."""
    lines = [line for image in result.images for line in _image_lines(image)]
    lines += [result.look] if result.look else []
    lines += [part for note in result.warnings for part in wrapped(f"note: {as_commands(note)}", "  ")]
    return "\n".join(lines)


def looks_text(result: LooksResult) -> str:
    """Return looks or versions of one, each with its words and its images."""
    if not result.looks:
        return 'No looks yet. `triptych upload photo.jpg --look NAME --words "…"` makes one.'
    lines = []
    for look in result.looks:
        lines += [f"look:{look.name} version {look.version}  {look.created_at:%Y-%m-%d %H:%MZ}"]
        lines += wrapped(look.words, "  ") if look.words else []
        lines += wrapped(", ".join(look.images), "  ")
    return "\n".join(lines)


def jobs_text(result: JobsResult) -> str:
    """Return the jobs as a table, newest first."""
    if not result.jobs:
        return 'No jobs yet. `triptych edit photo.jpg -p "…"` makes one.'
    rows = [
        (
            job.job_id,
            job.status,
            f"{job.returned}/{job.requested}",
            f"{job.created_at.astimezone():%m-%d %H:%M}",
            _amount(job.cost.quoted if job.cost.charged is None else job.cost.charged, job.cost.charge_is_estimate),
            job.prompt,
        )
        for job in result.jobs
    ]
    shown = table(("job", "status", "images", "made", "cost", "prompt"), rows)
    return f"{shown}\n{ESTIMATED}" if any(job.cost.charge_is_estimate for job in result.jobs) else shown


def _amount(usd: Decimal, is_estimate: bool) -> str:
    return f"{'~' if is_estimate else ''}${format_usd(usd)}"


def spend_text(result: SpendResult) -> str:
    """Return the spending as a table, with its total and the budget."""
    span = "today (UTC)" if result.days == 1 else f"the last {result.days} days (UTC)"
    lines = [f"Nothing in {span}."]
    if result.rows:
        rows = [(row.day, row.provider, row.model, *_amounts(row)) for row in result.rows]
        total = (f"{result.days} d" if result.days > 1 else "1 d", "", "in all", *_amounts(result.total))
        heads = ("day", "provider", "model", "jobs", "images", "quoted", "charged", "reserved")
        lines = table(heads, [*rows, total]).split("\n")
    if result.total.charge_is_estimate:
        lines.append(ESTIMATED)
    for budget, whose in ((result.budget, ""), (result.owner_budget, " of your own")):
        if budget is None:
            continue
        cap = "no cap" if budget.cap is None else f"of ${format_usd(budget.cap)}"
        left = "" if budget.left is None else f"; ${format_usd(budget.left)} left"
        lines.append(
            f"Last 24 hours{whose}: ${format_usd(budget.spent)} spent, ${format_usd(budget.reserved)} reserved, "
            f"{cap} ({budget.setting}){left}."
        )
    return "\n".join(lines)


def prune_text(result: PruneResult) -> str:
    """Return the removed or removable files: a line for each job, one for uploads, one for unknown files."""
    groups: dict[str, list[PrunedItem]] = {}
    for item in result.items:
        name = item.name.partition("/")[0] if item.kind == "output" else f"{item.kind} files"
        groups.setdefault(name, []).append(item)
    rows = [
        (
            name,
            str(len(items)),
            _size(sum(item.bytes for item in items)),
            f"{min(item.days_old for item in items)} days",
            next((_printable(Path(item.saved_path).parent) for item in items if item.saved_path), "–"),
        )
        for name, items in groups.items()
    ]
    age = f"older than {result.older_than_days} days"
    lines = [f"Nothing to remove that is {age}."]
    if rows:
        lines = table(("of", "files", "size", "age", "saved in"), rows).split("\n")
        what = f"{_count(len(result.items))}, {_size(result.bytes)}, {age}"
        lines.append(f"Removed: {what}." if result.done else f"Nothing was removed. --yes removes {what}.")
    if result.unsaved:
        lines.append(
            f"{_count(result.unsaved)} more, {_size(result.unsaved_bytes)}, are saved nowhere else: --unsaved removes "
            "them too."
        )
    return "\n".join(lines)


def _printable(path: Path) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(path))


def _size(count_bytes: int) -> str:
    return f"{count_bytes / 1e6:.1f} MB"


def _amounts(spent: Spent) -> tuple[str, ...]:
    charged = _amount(spent.charged, spent.charge_is_estimate)
    return (str(spent.jobs), str(spent.images), _amount(spent.quoted, False), charged, _amount(spent.reserved, False))


def models_text(result: ModelsResult) -> str:
    """Return the models by provider: price, number of references and images, endpoint ids."""
    lines: list[str] = []
    for p in result.providers:
        own_rows = [m for m in result.models if m.provider == p.provider]
        if not own_rows:
            continue
        default = ", the default" if p.provider == result.default_provider else ""
        balance = f", balance ${format_usd(p.balance_usd)}" if p.balance_usd is not None else ""
        state = f"usable{default}{balance}" if p.usable else f"not usable: {p.why_not}"
        parts = [line for sentence in _model_notes(own_rows) for line in wrapped(sentence, "  ")]
        lines += [f"{p.provider}: {state}", *(f"  {line}" for line in _model_rows(own_rows)), *parts, ""]
    lines = lines or ["No such model.", ""]
    notes = [line for note in result.warnings for line in wrapped(f"note: {as_commands(note)}")]
    return "\n".join([*lines, *notes]).rstrip()


def _model_rows(own_rows: Sequence[ModelRow]) -> list[str]:
    """Return one provider's models: a row for each endpoint id, with its operations in one request."""
    rows = []
    for m in own_rows:
        for endpoint, operations in m.by_endpoint().items():
            kinds = dict.fromkeys(operation.removesuffix("-sequential") for operation in operations)
            refs = str(m.max_references) if {"edit", "layers"} & {*kinds} else "0"
            several = any(operation.endswith(("-sequential", "layers")) for operation in operations)
            images = str(m.max_outputs) if several else "1"
            usd = m.usd_per_image
            each = "quoted" if usd is None else f"{'from ' if m.price else ''}${format_usd(usd)}"
            name = "live" if m.live else m.model
            rows.append((name, "/".join(kinds), refs, images, each, endpoint))
    return table(("model", "does", "refs", "images", "each", "endpoint id"), rows).split("\n")


def _model_notes(own_rows: Sequence[ModelRow]) -> list[str]:
    """Return a sentence for each model with a price in parts, without sets, or that will be retired."""
    sentences = []
    for m in own_rows:
        if m.title:
            sentences.append(f'{next(iter(m.endpoints.values()))}: "{m.title}"')
        if m.price:
            sentences.append(f"{m.model}: {m.price_text()}")
        if m.independent:
            sentences.append(f"{m.model}: several images of one request are variations of each other, not one set")
        if "retire" in (m.lifecycle or ""):
            sentences.append(f"{m.model}: {m.lifecycle}")
    return list(dict.fromkeys(sentences))


def save_text(result: SaveResult) -> str:
    """Return the path of each saved file; of many, the first and last ones and their number."""
    lines = [f"{s.handle}  {line(s.path)}" for s in result.saved]
    if len(lines) > MOST_SAVED:
        lines = [*lines[: MOST_SAVED // 2], f"… {len(lines) - MOST_SAVED} more …", *lines[-MOST_SAVED // 2 :]]
    if result.archive:
        lines.append(f"{result.count} files in {line(result.archive)}")
    elif result.count > MOST_SAVED:
        lines.append(f"{result.count} files in {line(result.directory)}")
    lines += [f"the values of its rows: {line(path)}" for path in result.manifests]
    lines += [part for warning in result.warnings for part in wrapped(f"note: {as_commands(warning)}")]
    return "\n".join(lines)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under heads in aligned columns; the last column is cut at 100 columns."""
    cells = [[line(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = []
    for row in cells:
        shown = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        lines.append(shown if len(shown) <= COLUMNS else shown[: COLUMNS - 1] + "…")
    return "\n".join(lines)


def as_commands(sentence: str) -> str:
    """Return a sentence of the service with commands in place of calls of tools."""
    for call, shell in AS_COMMANDS.items():
        sentence = re.sub(rf"(?<![`\w]){call}(?!\w)", shell, sentence)
    return sentence


def wrapped(text: str, indent: str = "") -> list[str]:
    """Return the text as lines of at most 100 columns; longer words (paths, URLs) stay whole."""
    from textwrap import wrap

    return wrap(
        block(text).replace("\n", " "),
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
