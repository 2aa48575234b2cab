"""The request of one paid call as a value, and the lanes in it.

Rules: every type is frozen and knows nothing of files, networks, clocks or databases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from triptych.core.offers import Operation

ORIGINAL = "original"
"""Among a chain's references: each lane's own first image, from its second step on."""

BRACES = re.compile(r"\{([^{}]*)\}")
"""A placeholder in a step or in a file name."""
_HASHED_AS_NULL = frozenset({"model", "provider", "size", "format"})
"""The fields that the first version hashed as null. No field is ever added here."""


@dataclass(frozen=True, slots=True)
class Row:
    """One lane of a chain: the images that its first request edits, and the values of its row in a table.

    Without images, the first request has the references alone, or words alone if there are none. `values` fills each
    `{column}` of the steps. The first `done` steps were made by an earlier job: `images` is then the output of the last
    of them, and `original` the first image of the lane.
    """

    images: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    done: int = 0
    original: str | None = None

    @property
    def handles(self) -> tuple[str, ...]:
        return (*self.images, self.original) if self.original else self.images

    def filled(self, prompt: str) -> str:
        """Return a step with the values of this row in place of each `{column}`; other braces stay."""
        return BRACES.sub(lambda found: self.values.get(found[1].strip(), found[0]), prompt)


@dataclass(frozen=True, slots=True)
class Look:
    """One version of a look: reference images, as handles, and words that go into every request."""

    name: str
    version: int
    words: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of one paid call that decide its images: read once, then hashed, stored and passed whole.

    `images` and `references` are handles after the images are stored; before that, texts of the caller. A chain has a
    lane for each image, or for each of its `rows`, and a step for each prompt; each of its requests has the
    `references`. Other requests have one lane and one prompt.
    """

    tool: str
    prompts: tuple[str, ...]
    images: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    count: int = 1
    model: str | None = None
    provider: str | None = None
    size: str | None = None
    format: str | None = None
    params: Mapping[str, Any] | None = None
    """The model's own parameters; one that is an image is a handle, as in `images`."""
    rows: tuple[Row, ...] | None = None
    """The lanes of a chain if they are more than one image each; `images` is empty then."""
    look: Look | None = None
    """The look in every request: its images come last, its words are added to the prompt."""
    retry_of: str | None = None
    """The id of the job whose failed lanes these are. It changes no image and is not hashed."""

    @property
    def is_chain(self) -> bool:
        return self.tool == "edit_chain"

    @property
    def operation(self) -> Operation:
        """The operation of its requests; of a chain, the one of its first request with an image, if there is one."""
        if self.is_chain:
            return Operation.EDIT if self.most_inputs else Operation.GENERATE
        if self.takes_apart:
            return Operation.LAYERS
        return Operation.EDIT_SEQUENTIAL if self.tool == "edit_sequence" else Operation.GENERATE_SEQUENTIAL

    @property
    def takes_apart(self) -> bool:
        """Whether the request takes an image apart into layers."""
        return bool(self.params and self.params.get("layers") is True)

    @property
    def prompt(self) -> str:
        """The prompts in one line."""
        return " → ".join(self.prompts)

    # -- its lanes and steps

    @property
    def lanes(self) -> int:
        return (len(self.images) if self.rows is None else len(self.rows)) if self.is_chain else 1

    @property
    def steps(self) -> int:
        return len(self.prompts)

    def row(self, lane: int) -> Row:
        """Return a lane of a chain."""
        return Row((self.images[lane],)) if self.rows is None else self.rows[lane]

    def first_step(self, lane: int) -> int:
        """Return the first step of a lane that this job makes."""
        return self.rows[lane].done if self.rows is not None else 0

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield the lane and the step of each request that this job makes, lane by lane."""
        for lane in range(self.lanes):
            for step in range(self.first_step(lane), self.steps):
                yield lane, step

    @property
    def requests(self) -> int:
        """The number of requests to the provider."""
        return self.lanes * self.steps - sum(row.done for row in self.rows or ())

    @property
    def requested(self) -> int:
        """The number of images requested."""
        return self.requests * self.count

    def prompt_at(self, lane: int, step: int) -> str:
        """Return the prompt of one request in the caller's words, with the values of its row."""
        return self.rows[lane].filled(self.prompts[step]) if self.rows is not None else self.prompts[step]

    @property
    def prompts_sent(self) -> list[str]:
        """The different prompts of its requests, with the words of the look."""
        if self.rows is None:
            return [self.with_look(prompt) for prompt in self.prompts]
        return [self.with_look(one) for one in dict.fromkeys(self.prompt_at(*place) for place in self.places())]

    def with_look(self, prompt: str) -> str:
        """Return a prompt with the words of the look."""
        if not self.look or not self.look.words:
            return prompt
        return f"{prompt}{'' if prompt.endswith(('.', '!', '?', '。')) else '.'} Keep this look: {self.look.words}"

    # -- its images

    def inputs(self, lane: int, step: int = 0, job_id: str = "") -> tuple[str, ...]:
        """Return the input handles of one request, in the order that the model sees them.

        From a lane's second step on, they begin with an output of the job `job_id`. An image of the look that is there
        already is not sent twice.
        """
        given = self._given(lane, step, job_id)
        return (*given, *(one for one in (self.look.images if self.look else ()) if one not in given))

    def _given(self, lane: int, step: int, job_id: str) -> tuple[str, ...]:
        """Return the input handles of one request without those of the look."""
        if not self.is_chain:
            return self.images
        row = self.row(lane)
        own = row.images if step <= row.done else (f"{job_id}/{lane * self.steps + step}",)
        original = row.original or (row.images[0] if row.images else f"{job_id}/{lane * self.steps + row.done + 1}")
        has_original = step > 0 and original not in own
        named = [original if one == ORIGINAL else one for one in self.references if one != ORIGINAL or has_original]
        return (*own, *named)

    @property
    def most_inputs(self) -> int:
        """The most input images of one request, if none of the look is among the others."""
        look = len(self.look.images) if self.look else 0
        if not self.is_chain:
            return len(self.images) + look
        kinds = {(len(row.images), row.done): lane for lane, row in enumerate(map(self.row, range(self.lanes)))}
        places = ((lane, step) for (_, done), lane in kinds.items() for step in range(done, self.steps)[:3])
        return max((len(self._given(lane, step, "")) + look for lane, step in places), default=0)

    @property
    def mixes_words_and_images(self) -> bool:
        """Whether the first request of a lane has no image, and another request has some."""
        return self.is_chain and bool(self.most_inputs) and any(map(self.begins_with_words, range(self.lanes)))

    def begins_with_words(self, lane: int) -> bool:
        """Return whether the first request of a chain's lane has no image."""
        return not self.inputs(lane, self.first_step(lane))

    def renamed(self, names: Mapping[str, str], in_params: Collection[str]) -> Request:
        """Return the request with another text for each image in `names`.

        `in_params` are the images among its parameters; any other text there stays, even if it is equal to an image's.
        """

        def new(one: str) -> str:
            return names.get(one, one)

        rows = None
        if self.rows is not None:
            rows = tuple(
                replace(row, images=tuple(map(new, row.images)), original=row.original and new(row.original))
                for row in self.rows
            )
        params = self.params and {
            name: new(one) if isinstance(one, str) and one in in_params else one for name, one in self.params.items()
        }
        return replace(
            self,
            images=tuple(map(new, self.images)),
            references=tuple(map(new, self.references)),
            rows=rows,
            params=params,
        )

    def retries_as(self, other: Request, model: str) -> bool:
        """Return whether both make the failed lanes of one job again, in the same way; `model` is a name for None.

        Which lanes they are does not count: an image that came late makes them fewer.
        """

        def way(one: Request) -> tuple[Request, tuple[str, int] | None]:
            # The images of a look may have been cut to a model's limit.
            look = (one.look.name, one.look.version) if one.look else None
            return replace(one, images=(), rows=None, look=None, model=one.model or model), look

        return self.retry_of is not None and way(self) == way(other)

    @property
    def handles(self) -> tuple[str, ...]:
        """All handles of images in it, and the other texts among its parameters."""
        return (*self.images_named, *self.texts)

    @property
    def images_named(self) -> tuple[str, ...]:
        """All images in it but those among its parameters."""
        references = tuple(one for one in self.references if one != ORIGINAL)
        of_rows = tuple(handle for row in self.rows or () for handle in row.handles)
        return (*self.images, *of_rows, *references, *(self.look.images if self.look else ()))

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts among its parameters; those that are images depend on the model."""
        return tuple(value for value in (self.params or {}).values() if isinstance(value, str))

    def fingerprint(self, owner: str | None, sha256_of: Mapping[str, str]) -> str:
        """Return a hash that is equal for equal requests of one owner; images count by their content.

        A field that is None does not count, except those of the first version: so the hash of a request stays the same
        in every later version, and a repeated call finds its job after an upgrade.
        """
        import hashlib

        asked: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        del asked["retry_of"]
        hashed: dict[str, Any] = {name: asked.pop(name) for name in ("tool", "prompts", "count")}
        for name in ("images", "references"):
            hashed[name] = [one if one == ORIGINAL else sha256_of[one] for one in asked.pop(name)]
        if asked["params"] is not None:
            asked["params"] = {
                name: sha256_of.get(value, value) if isinstance(value, str) else value
                for name, value in asked["params"].items()
            }
        if self.rows is not None:
            rows = hashlib.sha256()
            for row in self.rows:  # one by one: a table has megabytes
                hashed_row = [[sha256_of[handle] for handle in row.handles], dict(row.values), row.done]
                rows.update(json.dumps(hashed_row, sort_keys=True).encode() + b"\n")
            asked["rows"] = rows.hexdigest()
        if self.look is not None:
            asked["look"] = [self.look.words, [sha256_of[handle] for handle in self.look.images]]
        options = {name: value for name, value in asked.items() if value is not None or name in _HASHED_AS_NULL}
        return hashlib.sha256(
            json.dumps({**hashed, "owner": owner, "options": options}, sort_keys=True).encode()
        ).hexdigest()
