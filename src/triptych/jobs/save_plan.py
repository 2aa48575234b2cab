"""What one `save_images` call writes: its images, in each size, under their names.

Rules: writes nothing. Only images that the caller sees are found. Functions with a plain store may block:
`AsyncStore.run` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from triptych.core import errors
from triptych.core.models import Image, Job, Status
from triptych.images.files import suffix_of
from triptych.jobs import file_names
from triptych.jobs.file_names import Named
from triptych.jobs.image_access import Caller
from triptych.jobs.job_reads import visible_job
from triptych.storage.jobs import Store

if TYPE_CHECKING:
    from triptych.images.delivery import Delivery

LARGE_PIXELS = 24_000_000


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
        given["images"] = list(self.images)
        text = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items() if value)
        return f"save_images({text})" if len(text) <= 400 else "the same save_images call"


@dataclass(frozen=True, slots=True)
class Piece:
    """One image to save. `is_output` is set for an output of a job, by its handle."""

    image: Image
    named: Named
    is_output: bool = False

    @property
    def handle(self) -> str:
        return self.image.handle


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


def tasks_of(
    pieces: Sequence[Piece], deliveries: Sequence[Delivery], name: str | None, mime_type: str | None
) -> list[Task]:
    """Return the files to write, image by image. Different files have different names; the same file has one.

    Raises: `errors.OutOfLimits` for a name with an unknown placeholder.
    """
    from triptych.images import delivery

    file_names.check(name, list(dict.fromkeys(column for piece in pieces for column in piece.named.columns)))
    labels = delivery.labels(deliveries) if len(deliveries) > 1 else [one.label for one in deliveries]
    taken: dict[str, object] = {}
    tasks = []
    for n, piece in enumerate(pieces, 1):
        kept = piece.image.mime_type if piece.image.mime_type in delivery.FORMATS.values() else "image/png"
        target = mime_type or kept
        # A picture that is not changed is copied byte for byte.
        rendered = target if deliveries or (mime_type and mime_type != piece.image.mime_type) else None
        suffix = suffix_of(rendered or piece.image.mime_type)
        for one, label in zip(deliveries or (None,), labels or ("",), strict=True):
            stem = file_names.stem(name, piece.named, n, len(pieces), label, several=len(deliveries) > 1)
            task = Task(piece, one, rendered, stem, suffix)
            tries = 1
            while taken.setdefault(f"{stem}{suffix}".casefold(), task.key) != task.key:
                tries += 1
                stem = f"{task.stem}-{tries}"
            tasks.append(Task(piece, one, rendered, stem, suffix))
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


def piece_of(store: Store, image: Image, item: str) -> Piece:
    output = store.output(image.handle) if image.handle.startswith("job_") else None
    job = store.job(output.job_id) if output else None
    if output and job:
        return Piece(image, file_names.of_output(job, output.n), is_output=True)
    return Piece(image, file_names.of_item(item, image.handle))


def final_pieces(store: Store, job_id: str, caller: Caller) -> tuple[list[Piece], str]:
    """Return a job's final images that are stored, in order, and a sentence about those that are not.

    Raises: `errors.UnknownHandle` for another owner's job, and for one without any.
    """
    job = visible_job(store, job_id, caller)
    pieces, pruned = [], 0
    for output in store.outputs(job_id):
        if not output.sha256 or (job.request.is_chain and output.n % job.request.steps):
            continue
        image = store.image_by_sha256(output.sha256)
        if not image or not image.path.exists():
            pruned += 1
        else:
            named = file_names.of_output(job, output.n)
            pieces.append(Piece(replace(image, handle=output.handle), named, is_output=True))
    sentence = _missing(job, pieces, pruned)
    if not pieces:
        raise errors.UnknownHandle(sentence)
    return pieces, sentence


def _missing(job: Job, pieces: Sequence[Piece], pruned: int) -> str:
    """Return a sentence about the final images that are not stored; "" if all are."""
    is_chain = job.request.is_chain
    count = job.request.lanes if is_chain else max(job.request.requested, job.returned)
    if len(pieces) >= count:
        return ""
    has = f"{len(pieces)} of {count} final images are stored"
    if job.status in (Status.QUEUED, Status.RUNNING):
        return f'{job.id} is {job.status}: {has} so far. get_status(job_id="{job.id}", wait_s=50) waits for it.'
    parts = []
    if is_chain:
        there = {int(piece.named.values["lane"]) for piece in pieces}
        missing = [lane for lane in range(1, count + 1) if lane not in there]
        shown = ", ".join(map(str, missing[:12])) + (" …" if len(missing) > 12 else "")
        parts.append(f"missing: lane{'s' if len(missing) > 1 else ''} {shown}")
    parts += [f"{pruned} pruned"] if pruned else []
    return f"{job.id} is {job.status}: {has}" + (f" ({'; '.join(parts)})." if parts else ".")
