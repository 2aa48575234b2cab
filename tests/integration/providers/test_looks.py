"""A look and a lane's first picture on the wire of every hosted provider: which images, in what order, and words."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import triptych_emulators
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended
from support.pictures import picture
from triptych import providers
from triptych.core.models import Image
from triptych.jobs.service import Caller, ImageService

pytestmark = pytest.mark.anyio

HOSTED = tuple(name for name in providers.names() if not providers.load(name).offline)
WORDS = "soft morning light"
COLOURS = ("red", "gold", "teal", "navy")


@pytest.fixture(params=HOSTED)
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Emulator]:
    latency_s = 10.0 if providers.load(request.param).poll else 0.0
    with triptych_emulators.running(request.param, latency_s=latency_s, max_side=48, clock=clock.monotonic) as emulator:
        yield emulator


def data_uri(colour: str) -> str:
    return f"data:image/png;base64,{b64encode(picture(colour, (512, 512))).decode()}"


def texts(node: Any) -> Iterator[str]:
    """Yield every text of a JSON value, in order."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from texts(part)


async def known(service: ImageService, api: Emulator, images: Mapping[str, Image]) -> dict[str, str]:
    """Return each image's name by its URL at the provider, and by its bytes as base64."""
    found = {}
    for name, image in images.items():
        if copy := await service.store.copy(image.sha256, api.name, service._clock.now()):
            found[copy[0]] = name
        found[b64encode(image.path.read_bytes()).decode()] = name
    return found


def submits(api: Emulator, words: str) -> list[Any]:
    """Return the bodies of the requests for images, each once: those with these words."""
    accepted = [one for one in api.seen if one.json and one.status == 200]
    made = [one for one in accepted if "/pric" not in one.path and "calculate" not in one.path]
    bodies = [one.json for one in made if words in json.dumps(one.json)]
    return [body for n, body in enumerate(bodies) if body not in bodies[:n]]


def inputs(body: Any, names: Mapping[str, str]) -> list[str]:
    """Return the names of the images in a body, in order."""
    found = (names.get(text) or names.get(text.rpartition("base64,")[2]) for text in texts(body))
    return [name for name in found if name]


async def images_of(service: ImageService, job_id: str | None) -> dict[str, Image]:
    """Return the pictures of the test by colour, and the outputs of a job by number."""
    stored = await service.image_access.import_images([*map(data_uri, COLOURS)], Caller())
    images = dict(zip(COLOURS, stored, strict=True))
    for output in await service.store.outputs(job_id or ""):
        images[str(output.n)] = await service.image_access.by_handle(output.handle, Caller())
    return images


async def test_a_look_is_in_every_request_of_a_chain(make_service: MakeService, api: Emulator, finish: Finish) -> None:
    async with make_service(api) as service:
        await service.upload_images([data_uri("teal"), data_uri("navy")], Caller(), "coffee", WORDS)
        job = await edit_chain(service, [data_uri("red")], ["warmer", "a cup"], ["look:coffee", data_uri("gold")], NOW)
        done = await ended(service, finish, job.job_id)
        assert done.status == "done", done.text()
        names = await known(service, api, await images_of(service, job.job_id))
        first = submits(api, f"warmer. Keep this look: {WORDS}")
        second = submits(api, f"a cup. Keep this look: {WORDS}")
        assert [inputs(body, names) for body in (first[0], second[0])] == [
            ["red", "gold", "teal", "navy"], ["1", "gold", "teal", "navy"]
        ]  # fmt: skip


async def test_a_look_is_in_an_edited_sequence(make_service: MakeService, api: Emulator, finish: Finish) -> None:
    async with make_service(api) as service:
        await service.upload_images([data_uri("teal"), data_uri("navy")], Caller(), "coffee", WORDS)
        given = ["look:coffee", data_uri("red"), data_uri("gold")]
        job = await ended(service, finish, (await edit_sequence(service, given, "warmer", 2, NOW)).job_id)
        assert job.status == "done", job.text()
        names = await known(service, api, await images_of(service, job.job_id))
        body = submits(api, f"Keep this look: {WORDS}")[0]
        assert inputs(body, names) == ["red", "gold", "teal", "navy"]


async def test_independent_images_keep_the_words_of_a_look(
    make_service: MakeService, clock: FakeClock, finish: Finish
) -> None:
    with triptych_emulators.running("runware", latency_s=10.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            await service.upload_images([data_uri("teal")], Caller(), "coffee", WORDS)
            given = ["look:coffee", data_uri("red")]
            options = Options(wait_s=0, model="seedream-5.5", provider="runware")
            job = await ended(service, finish, (await edit_sequence(service, given, "warmer", 2, options)).job_id)
            assert job.status == "done", job.text()
            [body] = submits(api, "warmer")
            assert body[0]["positivePrompt"] == f"warmer. Keep this look: {WORDS}"
            assert body[0]["numberResults"] == 2


async def test_the_original_is_in_every_step_but_the_first(
    make_service: MakeService, api: Emulator, finish: Finish
) -> None:
    async with make_service(api) as service:
        await service.upload_images([data_uri("teal")], Caller(), "coffee", WORDS)
        references = [data_uri("gold"), "original", "look:coffee"]
        steps = ["warmer", "a cup", "at night"]
        job = await edit_chain(service, [data_uri("red"), data_uri("navy")], steps, references, NOW)
        done = await ended(service, finish, job.job_id)
        assert done.status == "done", done.text()
        names = await known(service, api, await images_of(service, job.job_id))
        sent = {step: sorted(inputs(body, names) for body in submits(api, f"{step}. Keep")) for step in steps}
        assert sent == {
            "warmer": [["navy", "gold", "teal"], ["red", "gold", "teal"]],
            "a cup": [["1", "gold", "red", "teal"], ["4", "gold", "navy", "teal"]],
            "at night": [["2", "gold", "red", "teal"], ["5", "gold", "navy", "teal"]],
        }
