"""Plans the files of one `save_images` call: its images, in each size, under their names.

Rules: writes nothing. Only images that the caller sees are found. Functions with a plain store may block:
`AsyncStore.run` runs them.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from triptych.core import errors
from triptych.core.models import Image, Job, Output
from triptych.core.text import call, counted
from triptych.images.files import ELSEWHERE, is_here
from triptych.images.naming import suffix_of
from triptych.jobs import file_names
from triptych.jobs.caller import Caller
from triptych.jobs.file_names import Named
from triptych.jobs.job_reads import job_named, visible_job
from triptych.storage.jobs import Store

if TYPE_CHECKING:
    from triptych.images.delivery import Delivery

LARGE_PIXELS = 24_000_000
MOST_CALL_CHARS = 400


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of one `save_images` call."""

    images: Sequence[str]
    directory: str
    name: str | None = None
    size: str | None = None
    format: str | None = None

    def call(self) -> str:
        """Return the call as an assistant writes it; the words "the same call" if it is long."""
        given = {name: getattr(self, name) for name in ("images", "directory", "name", "size", "format")}
        text = call("save_images", given | {"images": list(self.images)})
        return text if len(text) <= MOST_CALL_CHARS else "the same save_images call"


@dataclass(frozen=True, slots=True)
class Piece:
    """One image to save, number `n` of the call (from 1): a missing image of a job keeps its number.

    `output` is set if it is an output of a job that has ended.
    """

    image: Image
    named: Named
    n: int
    output: Output | None = None

    @property
    def handle(self) -> str:
        return self.image.handle


@dataclass(slots=True)
class Found:
    """The images of a call in order.

    `count` is the highest number that one may have, `missing` a sentence for each job that lacks some, `tables` the
    ids of the jobs from tables.
    """

    pieces: list[Piece] = field(default_factory=list)
    count: int = 0
    missing: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Task:
    """One file to write: an image in one delivery, under the name `stem` + `suffix`.

    `mime_type` None is a copy of the stored bytes.
    """

    piece: Piece
    delivery: Delivery | None
    mime_type: str | None
    stem: str
    suffix: str

    @property
    def key(self) -> tuple[str, Delivery | None, str | None]:
        return (self.piece.image.sha256, self.delivery, self.mime_type)


def tasks_of(found: Found, deliveries: Sequence[Delivery], name: str | None, mime_type: str | None) -> list[Task]:
    """Return the files to write, image by image. Different files have different names; the same file has one.

    Raises: `errors.OutOfLimits` for a name with an unknown placeholder.
    """
    from triptych.images import delivery

    file_names.check(name, list(dict.fromkeys(column for piece in found.pieces for column in piece.named.columns)))
    labels = delivery.labels(deliveries) if len(deliveries) > 1 else [one.label for one in deliveries]
    taken: dict[str, object] = {}
    tries: Counter[str] = Counter()
    tasks = []
    for piece in found.pieces:
        kept = piece.image.mime_type if piece.image.mime_type in delivery.FORMATS.values() else "image/png"
        target = mime_type or kept
        # A picture that is not changed is copied byte for byte.
        rendered = target if deliveries or (mime_type and mime_type != piece.image.mime_type) else None
        suffix = suffix_of(rendered or piece.image.mime_type)
        for one, label in zip(deliveries or (None,), labels or ("",), strict=True):
            stem = file_names.stem(name, piece.named, piece.n, found.count, label, several=len(deliveries) > 1)
            task = Task(piece, one, rendered, stem, suffix)
            if taken.get(f"{stem}{suffix}".casefold()) != task.key:
                while taken.setdefault(f"{stem}{suffix}".casefold(), task.key) != task.key:
                    tries[task.stem] += 1
                    stem = f"{task.stem}-{tries[task.stem] + 1}"
            tasks.append(replace(task, stem=stem))
    return tasks


def groups(tasks: Sequence[Task], at_once: int) -> Iterator[list[list[Task]]]:
    """Yield the images to work on together, each as its tasks in order; a large image is alone."""
    images: list[list[Task]] = []
    for task in tasks:
        if images and images[-1][0].piece is task.piece:
            images[-1].append(task)
        else:
            images.append([task])
    rest = iter(images)
    while group := list(islice(rest, at_once)):
        if any(one[0].piece.image.width * one[0].piece.image.height > LARGE_PIXELS for one in group):
            yield from ([one] for one in group)
        else:
            yield group


def look_up(store: Store, items: Sequence[str], images: Sequence[Image], caller: Caller) -> Found:
    """Return what a call saves: the final images of each job among the items, and `images` for the other items.

    Raises: `errors.UnknownHandle` for another owner's job, and for a job without a stored image.
    """
    rest, jobs, found = iter(images), functools.cache(store.job), Found()
    for item in items:
        if job_id := job_named(item):
            job = visible_job(store, job_id, caller)
            _add_final(store, job, found)
            if job.request.rows is not None and job.id not in found.tables:
                found.tables.append(job.id)
            continue
        image, found.count = next(rest), found.count + 1
        output = store.output(image.handle) if image.handle.startswith("job_") else None
        made = jobs(output.job_id) if output else None
        if output and made:
            named, ended = file_names.of_output(made, output.n), made.status.has_ended
            found.pieces.append(Piece(image, named, found.count, output if ended else None))
        else:
            found.pieces.append(Piece(image, file_names.of_item(item, image.handle), found.count))
    return found


def _add_final(store: Store, job: Job, found: Found) -> None:
    """Add a job's final images that are stored, in order. Raises: `errors.UnknownHandle` if there are none."""
    request = job.request
    outputs = [one for one in store.outputs(job.id) if not request.is_chain or one.n % request.steps == 0]
    pieces, pruned, missing = [], 0, 0
    for output in outputs:
        image = store.image_by_sha256(output.sha256) if output.sha256 else None
        if image and is_here(image):
            n = found.count + (output.n // request.steps if request.is_chain else output.n)
            ended = output if job.status.has_ended else None
            named = file_names.of_output(job, output.n)
            pieces.append(Piece(replace(image, handle=output.handle), named, n, ended))
        elif image and image.pruned_at:
            pruned += 1
        elif image:
            missing += 1
    count = request.lanes if request.is_chain else max(request.requested, job.returned, len(outputs))
    sentence = _missing(job, count, pieces, pruned, missing)
    if not pieces:
        raise errors.UnknownHandle(sentence)
    found.pieces += pieces
    found.count += count
    found.missing += [sentence] if sentence else []


def _missing(job: Job, count: int, pieces: Sequence[Piece], pruned: int, elsewhere: int) -> str:
    """Return sentences about those of `count` final images that are not here; "" if all are.

    `elsewhere` are those whose files this machine lacks though they were not pruned.
    """
    if len(pieces) >= count:
        return ""
    has = f"{len(pieces)} of {count} final images are {'here' if elsewhere else 'stored'}"
    if not job.status.has_ended:
        return f'{job.id} is {job.status}: {has} so far. get_status(job_id="{job.id}", wait_s=50) waits for it.'
    parts = []
    if job.request.is_chain:
        there = {int(piece.named.values["lane"]) for piece in pieces}
        lanes = [lane for lane in range(1, count + 1) if lane not in there]
        shown = ", ".join(map(str, lanes[:12])) + (" …" if len(lanes) > 12 else "")
        parts.append(f"missing: lane{'s' if len(lanes) > 1 else ''} {shown}")
    parts += [f"{pruned} pruned"] if pruned else []
    parts += [f"{counted(elsewhere, 'file')} missing in this server's TRIPTYCH_HOME"] if elsewhere else []
    said = f"{job.id} is {job.status}: {has}" + (f" ({'; '.join(parts)})." if parts else ".")
    return f"{said} {ELSEWHERE}." if elsewhere else said
