"""The picture that `view_images` returns: its images, their order, its captions, and how similar the images are.

An edited sequence is shown beside its sources, a chain as a grid of lanes (original, step 1, …), a single edit as a
pair of before and after. Images named one by one are shown in that order.

Rules: pictures are opened one at a time. A sheet holds at most `MOST_PICTURES`; its caption names the others. Must not
write anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from triptych.core import errors
from triptych.core.models import Image, Job, Output, Prediction
from triptych.core.requests import ORIGINAL, Look
from triptych.core.text import call
from triptych.jobs.results import Preview

if TYPE_CHECKING:
    from triptych.images import similarity

MOST_PICTURES = 40
MOST_BYTES, DETAIL_BYTES = 149_000, 400_000
"""Limits of the JPEG: 199 KB as base64, which some hosts put into the conversation as text; 534 KB with `detail`."""
PREVIEW_PX, DETAIL_PX = 768, 1536
"""The longer side of a single picture."""
MOST_PROMPT_CHARS = 600
MOST_REFERENCES = 10
"""Every model for edits takes at least so many."""

ImageOf = Callable[[str], Image | None]
"""Returns the image behind a handle, if it is stored."""
BytesOf = Callable[[Image], bytes]


@dataclass(frozen=True, slots=True)
class OutputOrigin:
    """An output with its job and its prediction."""

    job: Job
    prediction: Prediction
    output: Output

    @property
    def place(self) -> int:
        """Its place among the outputs of its prediction, from 1."""
        return self.output.n - self.prediction.first_output + 1


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a sheet; `image` is None if it is missing. Its label is its handle if no other is given."""

    handle: str
    image: Image | None
    note: str
    made: OutputOrigin | None = None
    label: str = ""


_NONE = "no picture"
"""In place of the original of a lane that began with words or references."""
_EARLIER = "an earlier job's"
"""In place of an output that an earlier job made, before the one with which a lane begins."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pictures in reading order with their caption; `group` of them stand side by side under `heads`."""

    pictures: tuple[Picture, ...]
    caption: str
    title: str = ""
    group: int = 1
    heads: tuple[str, ...] = ()
    look: Look | None = None
    look_pictures: tuple[Image, ...] = ()
    """Those images of the look that are stored: the pictures of the sheet are judged against them."""

    def with_look(self, look: Look, image_of: ImageOf) -> Sheet:
        """Return the sheet with a look above its pictures."""
        there = tuple(image for handle in look.images if (image := image_of(handle)))
        shown = f" {_label(look)} ({_listed(look.images)}) went into every request." if look.images else ""
        return replace(self, look=look, look_pictures=there, caption=f"{self.caption}{shown}")


def _label(look: Look) -> str:
    return f"look:{look.name} v{look.version}"


def of_images(images: Sequence[tuple[str, Image, OutputOrigin | None]]) -> Sheet:
    """Return the sheet of images in the order given, each with its size, its step and its sources."""
    pictures = tuple(Picture(handle, image, _origin(image, made), made) for handle, image, made in images)
    left_out = pictures[MOST_PICTURES:]
    caption = f"In reading order: {_listed([p.handle for p in pictures[:MOST_PICTURES]])}."
    if left_out:
        caption += f" Left out, as a sheet holds {MOST_PICTURES}: {_listed([p.handle for p in left_out])}."
    return Sheet(pictures[:MOST_PICTURES], caption)


def of_job(job: Job, predictions: Sequence[Prediction], outputs: Sequence[Output], image_of: ImageOf) -> Sheet:
    """Return the sheet of a job.

    Raises: `errors.UnknownHandle` if none of its images is stored.
    """
    job_id = job.id
    made = {f.n: OutputOrigin(job, p, f) for f in outputs for p in predictions if p.id == f.prediction_id}
    stored = {n: image for n, one in made.items() if one.output.sha256 and (image := image_of(one.output.handle))}
    if not stored:
        raise errors.UnknownHandle(
            f'{job_id} is {job.status}, and none of its images is here: get_status(job_id="{job_id}") says why.'
        )
    look = job.request.look
    if job.request.lanes * job.request.steps > 1:
        chain = _chain(job, predictions, made, stored, image_of)
        return chain.with_look(look, image_of) if look else chain
    inputs = predictions[0].inputs
    sources = [
        Picture(handle, image, "before" if len(outputs) == 1 else "source")
        for handle in inputs[: len(inputs) - len(look.images if look else ())]
        if (image := image_of(handle))
    ]
    after = "after, " if len(sources) == len(outputs) == 1 else ""
    made_pictures = [
        Picture(one.output.handle, stored.get(n), f"{after}{_size(stored[n])}" if n in stored else "not here", one)
        for n, one in sorted(made.items())
    ]
    from_what = f" from {_listed([p.handle for p in sources])} (first)" if sources else ""
    listed = _listed([picture.handle for picture in made_pictures])
    caption = f"{job.request.tool} {_quoted(job.request.prompt, 300)}{from_what}: {listed}."
    sheet = Sheet((*sources, *made_pictures), caption, title=_cut(job.request.prompt, 200))
    return sheet.with_look(look, image_of) if look else sheet


def _chain(
    job: Job,
    predictions: Sequence[Prediction],
    made: Mapping[int, OutputOrigin],
    stored: Mapping[int, Image],
    image_of: ImageOf,
) -> Sheet:
    """Return the sheet of a chain: a row per lane, with its original and the output of each step.

    A lane may have no original, and its first steps may be outputs of an earlier job.
    """
    request, job_id, lanes, steps = job.request, job.id, job.request.lanes, job.request.steps
    by_place = {(p.lane, p.step): p for p in predictions}
    shown = max(1, min(lanes, MOST_PICTURES // (1 + steps)))
    pictures, spans = [], []
    for lane in range(shown):
        row, first = request.row(lane), request.first_step(lane)
        original = row.original or next(iter(row.images), _NONE)
        values = ", ".join(f"{name}: {value}" for name, value in row.values.items())
        pictures.append(Picture(original, image_of(original), _cut(values, 120)))
        for step in range(steps):
            n = lane * steps + step + 1
            handle = f"{job_id}/{n}" if step >= first else row.images[0] if step + 1 == first else _EARLIER
            note = "" if n in stored or step < first else str(by_place[lane, step].state)
            pictures.append(Picture(handle, stored.get(n) if step >= first else image_of(handle), note, made.get(n)))
        spans.append(f"lane {lane + 1}: {original}, {_span(job_id, lane * steps + first + 1, steps - first)}")
    words = request.prompts
    listed_steps = ", ".join(f"step {n} {_quoted(prompt, 120)}" for n, prompt in enumerate(words, 1))
    heads = ("original", *(f"{n}. {_cut(prompt, 120)}" for n, prompt in enumerate(words, 1)))
    rest = [one for one in request.references if one != ORIGINAL]
    caption = f"edit_chain, every lane left to right: original, {listed_steps}"
    caption += f"; {', '.join(rest)} went into every request" if rest else ""
    caption += "; each original into every step from the second on. " if ORIGINAL in request.references else ". "
    caption += "; ".join(spans)
    if shown < lanes:
        left = _span(job_id, shown * steps + 1, (lanes - shown) * steps)
        caption += f". Left out, as a sheet holds {MOST_PICTURES} pictures: lanes {shown + 1} to {lanes} ({left})"
    if lanes == 1:
        # One lane needs no columns: larger pictures, each with the prompt of its step.
        notes = [f"{head}: {p.note}" if p.note else head for p, head in zip(pictures, heads, strict=True)]
        return Sheet(tuple(replace(p, note=note) for p, note in zip(pictures, notes, strict=True)), f"{caption}.")
    return Sheet(tuple(pictures), f"{caption}.", group=1 + steps, heads=heads)


# --- drawing ---


def draw(shown: Sheet, bytes_of: BytesOf, detail: bool = False) -> Preview:
    """Return a preview of one picture or a contact sheet of several, with the similarity of each set.

    The JPEG has at most `MOST_BYTES` bytes, with `detail` at most `DETAIL_BYTES`.
    """
    from triptych.images import contact_sheet, processing, similarity

    most = DETAIL_BYTES if detail else MOST_BYTES
    if len(shown.pictures) == 1 and (only := shown.pictures[0].image):
        note = f"{shown.pictures[0].handle}, {shown.pictures[0].note}."
        side_px = DETAIL_PX if detail else PREVIEW_PX
        return Preview(jpeg=processing.preview(bytes_of(only), max_side=side_px, max_bytes=most), caption=note)
    # At most as large as on the sheet; all decoded pictures together take at most about 25 MB.
    side_px = min(768, round(1.6 * contact_sheet.WIDTH_PX / len(shown.pictures) ** 0.5))
    cards, sets = [], dict[str, list[tuple[int, similarity.ImageStats]]]()
    finals: dict[int, similarity.ImageStats] = {}
    for i, picture in enumerate(shown.pictures):
        small = processing.thumbnail(bytes_of(picture.image), side_px) if picture.image else None
        cards.append(contact_sheet.Card(small, picture.label or picture.handle, picture.note))
        if small and picture.made:
            stats = similarity.measure(small)
            sets.setdefault(picture.made.prediction.id, []).append((i, stats))
            if picture.made.prediction.step == picture.made.job.request.steps - 1:
                finals[i] = stats
    sentences = [shown.caption]
    strip = [processing.thumbnail(bytes_of(image), 2 * contact_sheet.STRIP_PX) for image in shown.look_pictures]
    if strip and shown.look and (judged := list(finals)):
        far = similarity.from_look([finals[i] for i in judged], [similarity.measure(image) for image in strip])
        sentences.append(_look_words(shown.look, [shown.pictures[i] for i in judged], far))
        for i, measures in zip(judged, far, strict=True):
            if len(judged) >= similarity.MIN_IMAGES and (odd := [s.measure for s in measures if s.stands_out]):
                cards[i] = replace(cards[i], alert=f"far from the look: {', '.join(odd)}")
    for members in sets.values():
        pictures = [shown.pictures[i] for i, _ in members]
        deviations = similarity.deviations([stats for _, stats in members])
        if deviations:
            sentences.append(_drift_words(pictures, deviations))
        for (i, _), measures in zip(members, deviations, strict=False):
            if odd := [s.measure for s in measures if s.stands_out]:
                cards[i] = replace(cards[i], alert=f"stands out: {', '.join(odd)}")
    strip_title = f"{_label(shown.look)}: {shown.look.words}" if shown.look else ""
    drawn = contact_sheet.render(
        cards, group=shown.group, heads=shown.heads, title=shown.title, strip=strip, strip_title=strip_title
    )
    return Preview(jpeg=processing.small_jpeg(drawn, most), caption=" ".join(sentences))


def _look_words(look: Look, pictures: Sequence[Picture], distances: Sequence[tuple[similarity.Deviation, ...]]) -> str:
    """Return how far each picture is from the look, and which is the furthest."""
    from triptych.images import similarity

    listed = "; ".join(
        f"{column[0].measure} {', '.join(map(_number, column))}" for column in zip(*distances, strict=True)
    )
    text = f"Distance of {_listed([p.handle for p in pictures])} from {_label(look)}, its nearest image: {listed}."
    if len(pictures) < 2:
        return text
    furthest = max(
        range(len(pictures)), key=lambda i: sum(d.value / similarity.VISIBLE_FROM[d.measure] for d in distances[i])
    )
    return f"{text} Furthest: {pictures[furthest].handle}."


def _drift_words(pictures: Sequence[Picture], deviations: Sequence[tuple[similarity.Deviation, ...]]) -> str:
    """Return the drift of each picture; for one that stands out also its numbers and the call that makes it again."""
    listed = "; ".join(
        f"{column[0].measure} {', '.join(map(_number, column))}" for column in zip(*deviations, strict=True)
    )
    sentences = [f"Distance of {_listed([p.handle for p in pictures])} from the rest of their set: {listed}."]
    odd = [i for i, measures in enumerate(deviations) if any(s.stands_out for s in measures)]
    if not odd:
        return f"{sentences[0]} None stands out."
    steady = min(
        (i for i in range(len(pictures)) if i not in odd),
        key=lambda i: sum(s.value / max(s.high, 1e-6) for s in deviations[i]),
        default=0,
    )
    for i in odd:
        why = ", ".join(
            f"{s.measure} {_number(s)} (the rest {s.low:.3g}–{s.high:.3g})" for s in deviations[i] if s.stands_out
        )
        sentences.append(f"{pictures[i].handle} stands out: {why}.")
    call = redo(pictures[odd[0]], pictures[steady].handle)
    return " ".join([*sentences, f"If that is not meant, this makes {pictures[odd[0]].handle} anew: {call}"])


def redo(picture: Picture, steady: str) -> str:
    """Return the call that makes a picture of a set again, from the set's sources and a good picture of it."""
    assert picture.made
    job, prediction = picture.made.job, picture.made.prediction
    references = [*prediction.inputs[: MOST_REFERENCES - 1], steady]
    wish = _cut(job.request.with_look(job.request.prompt), MOST_PROMPT_CHARS).rstrip(".")
    prompt = (
        f"{wish}. Make only image {picture.made.place} of these "
        f"{prediction.count}, in the palette, light and style of the last reference, another image of the set."
    )
    size = f"{prediction.size[0]}x{prediction.size[1]}" if prediction.size else None
    arguments = {"images": references, "prompt": prompt, "model": job.model, "provider": job.provider}
    return call("edit_sequence", {**arguments, "size": size, "format": prediction.request.format})


# --- words ---


def _origin(image: Image, made: OutputOrigin | None) -> str:
    if not made:
        return _size(image)
    step = f", step {made.prediction.step + 1} of {made.job.request.steps}" if made.job.request.steps > 1 else ""
    source = f" from {', '.join(made.output.source)}" if made.output.source else ""
    return f"{_size(image)}{step}{source}"


def _size(image: Image) -> str:
    return f"{image.width}×{image.height}"


def _span(job_id: str, first: int, count: int) -> str:
    return f"{job_id}/{first}" + (f" to /{first + count - 1}" if count > 1 else "")


def _listed(handles: Sequence[str]) -> str:
    """Return the handles in order, consecutive outputs of a job as first and last."""
    runs: list[tuple[str, int, int]] = []  # a job and its first and last place, or an upload and zeros
    for handle in handles:
        job_id, _, place = handle.partition("/")
        n = int(place or 0)
        if n and runs and runs[-1][::2] == (job_id, n - 1):
            runs[-1] = (job_id, runs[-1][1], n)
        else:
            runs.append((job_id, n, n))
    return ", ".join(_span(job_id, first, last - first + 1) if first else job_id for job_id, first, last in runs)


def _number(deviation: similarity.Deviation) -> str:
    return f"{deviation.value:.2f}" if deviation.measure == "structure" else f"{deviation.value:.1f}"


def _quoted(text: str, chars: int) -> str:
    return json.dumps(_cut(text, chars), ensure_ascii=False)


def _cut(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1] + "…"
