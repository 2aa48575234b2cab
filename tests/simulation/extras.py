"""Models and parameters that half of the worlds have besides: live models, `params`, layers, a small quota of files.

All of it is drawn from streams of its own, so that the other worlds stay as they are. A live model names its revision
in a field that every request must carry: so the audit knows under which schema a request was sent.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from triptych_emulators import live_models

REVISION = "revision"
EDITS, DRAWS = "new-lab/brush-1/edit", "new-lab/brush-1"
SHARED: Mapping[str, tuple[str, ...]] = {
    "atlas": ("openai/gpt-image-2.5-sunburst/edit",),
    "wavespeed": ("bria/eraser", "kwaivgi/kling-image-o3/edit"),
}
"""The models of the emulators' own catalogues that these worlds keep: one without a price, one that needs a mask, one
that makes sets."""
BEHIND_ENDPOINT = "seedream-4-5-251128"
ENDPOINTS = ("ep-20261101120000-abcde seedream-4.5", "ep-20261101120000-abcde")
CHANGES = ("catalogue gone", "catalogue torn", "catalogue incomplete")
"""What happens to a stored catalogue, each time just after the provider changed its models."""
_IMAGE = {"type": "string", "x-ui-component": "uploader", "x-accept": "image/*"}
_BACKGROUND = {"type": "string", "enum": ["auto", "transparent", "opaque"], "default": "auto"}


def has_extras(seed: object) -> bool:
    """Return whether a seed's world has them."""
    return random.Random(f"{seed}:extras").random() < 0.5


def _entries(revisions: list[str]) -> list[dict[str, Any]]:
    """Return the catalogue's own models, as they take requests of these revisions."""
    common = {
        "prompt": {"type": "string"},
        "num_images": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        "background": _BACKGROUND,
        REVISION: {"type": "string", "enum": revisions},
    }
    edits = {**common, "images": {"type": "array", "items": _IMAGE, "maxItems": 4}, "mask": {**_IMAGE}}
    return [
        {"model": EDITS, "usd": "0.03", "schema": _object(edits, "prompt", "images", REVISION)},
        {"model": DRAWS, "usd": None, "kind": "text-to-image", "schema": _object(common, "prompt", REVISION)},
    ]


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


class Catalogue:
    """The live models of one emulated provider, which publishes new revisions of them."""

    def __init__(self, api: Any, name: str, chance: random.Random) -> None:
        self._api, self._name = api, name
        self._revisions: list[str] = []
        self._takes_old = chance.random() < 0.7
        self.ids = (EDITS, EDITS, DRAWS, *SHARED[name])
        self._kept = {model: api._live[model] for model in SHARED[name]}
        self._parse, api._parse = api._parse, self._parsed
        self.publish()

    def publish(self) -> None:
        """Replace the models by their next revision."""
        self._revisions.append(f"r{len(self._revisions) + 1}")
        self._api._live = self._models(self._revisions[-1:])

    def _models(self, revisions: list[str]) -> dict[str, Any]:
        made = live_models.load(self._name, "image-to-image", _entries(revisions), ())
        if self._name == "atlas":
            made |= {EDITS: replace(made[EDITS], kind="IMAGE-TO-IMAGE")}
        return {**{model: made[model] for model in (EDITS, DRAWS)}, **self._kept}

    def _parsed(self, *args: Any) -> Any:
        """Return the job of a body, of an older revision too where the provider still takes those."""
        listed = self._api._live
        if self._takes_old:
            self._api._live = self._models(self._revisions)
        try:
            return self._parse(*args)
        finally:
            self._api._live = listed


def foreign_files(api: Any, many: int, data: bytes) -> set[str]:
    """Keep files of another program at EvoLink; return their paths."""
    kept = set()
    for n in range(many):
        url = api.keep_upload(f"{n}.png", data, "image/png")
        kept.add(url.partition("/_uploads/")[2])
        name, time = url.rpartition("/")[2], api._now().isoformat()
        file_id = f"file_foreign{n}"
        api._files[file_id] = {
            "file_id": file_id, "file_name": name, "file_size": len(data), "upload_time": time, "file_url": url,
        }  # fmt: skip
    return kept


def spoil(kind: str, file: Path) -> bool:
    """Do to a stored catalogue what happens to it; return whether there is one."""
    if not file.is_file():
        return False
    if kind == "catalogue gone":
        file.unlink()
        return True
    data = file.read_bytes()
    if kind == "catalogue torn":
        data = data[: len(data) // 2]
    else:
        document = json.loads(data)
        data = json.dumps({**document, "complete": False}).encode()
    file.write_bytes(data)
    return True


def vary(
    world: Any,
    chance: random.Random,
    tool: str,
    arguments: dict[str, Any],
    options: dict[str, Any],
    pictures: list[str],
) -> str:
    """Change what a client asks for to something that only these worlds have; return the tool to call."""
    kinds = [kind for kind, provider in _KINDS if provider in world.providers or not provider]
    kind = chance.choice(kinds)
    if kind == "live":
        name = chance.choice([one for one in SHARED if one in world.providers])
        model = chance.choice(world.providers[name].catalogue.ids)
        tool = _as(tool, arguments, "generate_sequence" if model == DRAWS else "edit_sequence", pictures, chance)
        options |= {"provider": chance.choice((name, name, None)), "model": model}
        params: dict[str, Any] = {}
        if model == "bria/eraser" or (model == EDITS and chance.random() < 0.4):
            params["mask"] = chance.choice(pictures)
        if model in (EDITS, DRAWS) and chance.random() < 0.3:
            params["background"] = chance.choice(("transparent", "auto"))
        arguments["params"] = params
        if model == "bria/eraser":
            arguments |= {"count": 1, "images": pictures[:1]}
    elif kind == "layers":
        name = chance.choice([one for one in ("ark", "atlas", "evolink", "wavespeed") if one in world.providers])
        tool = _as(tool, arguments, "edit_sequence", pictures, chance)
        arguments |= {"images": [chance.choice(pictures)], "count": 1, "params": {"layers": True}}
        model = chance.choice(("seedream-5.0-flash", "seedream-5.0-flash", "seedream-5.0-pro", "seedream-5.5"))
        options |= {"provider": name, "model": model}
        if chance.random() < 0.7:
            options["max_cost_usd"] = Decimal(5)
    elif kind == "endpoint":
        options |= {"provider": "ark", "model": chance.choice(ENDPOINTS)}
    elif kind == "variations":
        tool = _as(tool, arguments, chance.choice(("generate_sequence", "edit_sequence")), pictures, chance)
        options |= {"provider": "runware", "model": chance.choice(("seedream-5.5", "seedream-5.0-flash"))}
        arguments["count"] = chance.choice((2, 3, 4))
    else:
        _with_params(world, chance, arguments, options)
    return tool


_KINDS = (
    *(("live", name) for name in ("atlas", "wavespeed") * 3),
    *(("layers", name) for name in ("ark", "atlas", "evolink", "wavespeed")),
    *(("endpoint", "ark"), ("variations", "runware"), ("params", "")),
)


def _with_params(world: Any, chance: random.Random, arguments: dict[str, Any], options: dict[str, Any]) -> None:
    """Set a parameter that some model of a provider has; a model that makes no sets is asked for one image."""
    from triptych import providers

    name = chance.choice(list(world.providers))
    offers = [
        offer for offer in providers.load(name).offers if {"background", "prompt_optimization"} & offer.params.keys()
    ]
    if not offers:
        return
    offer = chance.choice(offers)
    param = chance.choice([one for one in ("background", "prompt_optimization") if one in offer.params])
    options |= {"provider": name, "model": offer.family}
    arguments["params"] = {param: chance.choice(offer.params[param].schema["enum"])}
    if "count" in arguments and offer.max_outputs == 1:
        arguments["count"] = 1


def _as(tool: str, arguments: dict[str, Any], wanted: str, pictures: list[str], chance: random.Random) -> str:
    """Change a chain, or a tool that does not fit, into the wanted tool; return its name."""
    if tool == wanted:
        return tool
    prompt = arguments.get("prompt") or arguments["steps"][0]
    count = arguments.get("count", 1)
    arguments.clear()
    arguments |= {"prompt": prompt, "count": count}
    if wanted == "edit_sequence":
        arguments["images"] = chance.sample(pictures, chance.choice((1, 1, 2)))
    return wanted


def revision_of(work: Any) -> str:
    """Return the revision that an accepted request names; "" without one."""
    return str(work.spec.body.get(REVISION, ""))


def is_sent(world: Any, provider: str, path: str) -> bool:
    """Return whether an unfinished prediction at a provider has sent the URL of an upload."""
    ended = "('done', 'failed', 'cancelled', 'uncertain')"
    sql = f"SELECT sent_urls FROM predictions WHERE provider = ? AND state NOT IN {ended}"
    return any(path in (row["sent_urls"] or "") for row in world.reader.all(sql, provider))


def is_submitted(world: Any, client_id: str) -> bool:
    """Return whether a prediction waits for the acceptance of its request."""
    return bool(world.reader.all("SELECT 1 FROM predictions WHERE client_id = ? AND state = 'submitting'", client_id))
