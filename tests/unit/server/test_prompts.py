"""Prompts hold what they promise: an assistant that does what the text says ends with the set of images."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copy
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError
from PIL import Image

from support.servers import SAMPLES, environ
from triptych import settings
from triptych.providers.preview import engine
from triptych.server import prompts
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, service_opener
from triptych.server.skills import skills
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

CAT = str(SAMPLES / "cat.jpg")
GIVEN: dict[str, dict[str, str]] = {
    "restyle_photos": {"folder": "FOLDER", "style": "warm evening light"},
    "product_table": {"table": "TABLE", "instruction": "Put {product} on marble"},
    "storyboard": {"character": CAT, "scenes": "wakes up; runs; sleeps"},
    "seasonal_variants": {"image": CAT},
    "refine": {"image": CAT, "wish": "warmer light"},
    "icon_set": {"subjects": "home; mail; settings"},
    "compare": {"image": CAT, "prompt": "at dusk", "models": "seedream-4.5, seedream-5.0-lite"},
}
SAVED = {
    "restyle_photos": 6,
    "product_table": 2,
    "storyboard": 3,
    "seasonal_variants": 8,
    "refine": 1,
    "icon_set": 3,
    "compare": 1,
}
"""How many files the last call saves: some in two sizes each."""
OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "a photo that has the style": ("restyle_photos", {"folder": "FOLDER", "style": "noir", "reference": CAT}),
    "a look that is stored": ("restyle_photos", {"folder": "FOLDER", "look": "stored"}),
    "rows in a look": ("product_table", {"table": "TABLE", "instruction": "{product}", "look": "stored"}),
    "a character in words": ("storyboard", {"character": "a fox in a red scarf", "scenes": "runs; sleeps"}),
    "more scenes than a set": ("storyboard", {"character": CAT, "scenes": "; ".join("abcdefghijklmnop")}),
    "more icons than a set": ("icon_set", {"subjects": "; ".join("abcdefghijklmnopq")}),
    "models from words alone": ("compare", {"prompt": "a boat", "models": "draft,draft/generate-sequential"}),
}
# The values of a skill that nobody filled in.
VALUES: dict[str, Any] = {
    "STYLE": "warm evening light",
    "STEP": "Restyle {product} like the last image",
    "LOOK": "evening",
    "WORDS": "the same fox",
    "DESCRIPTION": "a fox in a red scarf",
    "IMAGE": CAT,
    "PROMPT": "at dusk",
    "COUNT": 3,
    "WISH": "warmer light",
    "MODELS": ["seedream-4.5", "seedream-5.0-lite"],
}


class Assistant:
    """Does what a prompt's text says: every call in backquotes, in order, with what it found out on the way."""

    def __init__(self, client: Client, **known: Any) -> None:
        self.client = client
        self.known = {"NEXT": "more contrast", **known}
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.quotes: dict[str, float] = {}
        self.status = ""
        self.captions: list[str] = []

    async def follow(self, text: str) -> None:
        for quoted in re.findall(r"`([^`]+)`", text):
            if "/failed" in quoted and self.status != "partial":
                continue
            call = ast.parse(quoted, mode="eval").body
            assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name), quoted
            for model in self.known["MODELS"] if "MODEL" in quoted else [None]:
                self.known["MODEL"] = model
                given = {str(k.arg): self._value(k.value) for k in call.keywords if k.arg != "max_cost_usd"}
                if any(k.arg == "max_cost_usd" for k in call.keywords):
                    given["max_cost_usd"] = self.quotes[same_images(given)]  # the price comes first
                await self._call(call.func.id, given)

    async def _call(self, tool: str, arguments: dict[str, Any]) -> None:
        if tool == "save_images" and "size" in arguments:  # small files say as much as large ones
            arguments["size"] = re.sub(r"\d+", lambda side: str(int(side[0]) // 10), arguments["size"])
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, (tool, arguments, result.content)
        self.made.append((tool, arguments))
        if tool == "view_images":
            self.captions.append(str(getattr(result.content[-1], "text", "")))
        fields = result.structured_content or {}
        if "cost" in fields and not fields.get("job_id"):
            self.quotes[same_images(arguments)] = fields["cost"]["quoted"]
        if job_id := fields.get("job_id"):
            self.status = fields["status"]
            self.known["JOB"] = job_id
            self.known.setdefault("SAMPLE", f"{job_id}/1")
            self.known.setdefault("CHARACTER", f"{job_id}/1")
            if "max_cost_usd" in arguments:
                self.known["SET"] = job_id
            if tool != "get_status":
                self.known["JOBS"] = [*self.known.get("JOBS", []), job_id]

    def _value(self, node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "prompt", "eval"), {"__builtins__": {}}, self.known)


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the offline engine paint small scenes: the texts are tried here, not the painter."""
    draw = engine._draw

    def small(prompt: str, count: int, size: tuple[int, int], *rest: Any) -> engine.RenderedImages:
        return draw(prompt, count, (size[0] // 8, size[1] // 8), *rest)

    monkeypatch.setattr(engine, "_draw", small)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small copies of the samples: the offline engine keeps their size."""
    there = tmp_path_factory.mktemp("photos")
    for photo in sorted(SAMPLES.glob("*.jpg")):
        with Image.open(photo) as image:
            image.thumbnail((96, 96))
            image.save(there / photo.name)
    return there


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    there = tmp_path / "photos"
    there.mkdir()
    for photo in sorted(photos.iterdir())[:3]:
        copy(photo, there)
    return there


@pytest.fixture
def table(tmp_path: Path, folder: Path) -> Path:
    rows = [f"photos/{photo.name},the {photo.stem},the {photo.stem},{photo.stem}" for photo in sorted(folder.iterdir())]
    path = tmp_path / "products.csv"
    path.write_text("\n".join(["image,product,scene,subject", *rows[:2]]), "utf-8")
    return path


@pytest.fixture
def connected(tmp_path: Path, era: str) -> Any:
    @asynccontextmanager
    async def opened(**variables: str) -> AsyncIterator[Client]:
        env = environ(tmp_path / "home", **variables)
        env["TRIPTYCH_ALLOWED_DIRS"] += f"{os.pathsep}{tmp_path}"
        holder = ServiceHolder(service_opener(settings.read(env)))
        async with holder.running(), Client(build(holder, remote=False), mode=era) as client:
            yield client

    return opened


@pytest.fixture
def api() -> Iterator[Emulator]:
    with running("atlas", latency_s=0.0, max_side=96) as emulator:
        yield emulator


@pytest.fixture
def market(api: Emulator) -> dict[str, str]:
    """The settings of a provider with several models."""
    return {"ATLASCLOUD_API_KEY": api.key, "ATLASCLOUD_BASE_URL": api.base_url, "TRIPTYCH_MODELS": "builtin"}


def placed(given: dict[str, str], folder: Path, table: Path) -> dict[str, str]:
    places = {"FOLDER": str(folder), "TABLE": str(table)}
    return {name: places.get(value, value) for name, value in given.items()}


def values(folder: Path, table: Path, out: Path) -> dict[str, Any]:
    photo = str(next(iter(sorted(folder.iterdir()))))
    return {"DIRECTORY": str(out), "TABLE": str(table), "FOLDER": str(folder), "PHOTO": photo, "ODD": photo}


@pytest.mark.parametrize("name", list(GIVEN))
async def test_doing_what_a_prompt_says_ends_with_the_images(
    name: str, connected: Any, folder: Path, table: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    async with connected(**(request.getfixturevalue("market") if name == "compare" else {})) as client:
        text = (await client.get_prompt(name, placed(GIVEN[name], folder, table))).messages[0].content.text
        assistant = Assistant(client, **values(folder, table, out))
        await assistant.follow(text)
    assert {"get_status", "view_images", "save_images"} <= {tool for tool, _ in assistant.made}
    made = [path for path in out.iterdir() if path.suffix != ".csv"]
    assert len(made) >= SAVED[name]
    assert bool(assistant.quotes) == (name != "refine")
    if name == "compare":
        assert assistant.captions[-1].startswith('Comparison of edit_sequence "at dusk": seedream-4.5 on atlas: ')


@pytest.mark.parametrize("era", ["auto"])
@pytest.mark.parametrize("case", list(OTHERS))
async def test_a_prompt_leaves_out_what_its_values_make_needless(
    case: str, connected: Any, folder: Path, table: Path, tmp_path: Path
) -> None:
    name, given = OTHERS[case]
    async with connected() as client:
        await client.call_tool("upload_images", {"images": [CAT], "look": "stored", "words": "soft"})
        text = (await client.get_prompt(name, placed(given, folder, table))).messages[0].content.text
        await Assistant(client, **values(folder, table, tmp_path / "out")).follow(text)
    steps = [int(line.partition(".")[0]) for line in text.splitlines() if re.match(r"\d+\. ", line)]
    assert steps == list(range(1, len(steps) + 1))
    calls = re.findall(r"`(\w+)\(", text)
    match case:
        case "a photo that has the style" | "a look that is stored":
            assert "edit_sequence" not in calls, "no photo is tried first"
            assert ("upload_images" in calls) == (case == "a photo that has the style")
        case "rows in a look":
            assert text.count('references=["look:stored"]') == 2
        case "a character in words":
            assert "generate_sequence" in calls
        case "more scenes than a set":
            assert "edit_sequence" not in calls and text.count("\n- ") == 2 + 16, "TABLE, DIRECTORY and its rows"
        case "more icons than a set":
            assert text.endswith("column subject:\n- p\n- q")
        case "models from words alone":
            assert "edit_sequence" not in calls and calls.count("generate_sequence") == 4


@pytest.mark.parametrize("era", ["auto"])
@pytest.mark.parametrize("name", list(skills()))
async def test_doing_what_a_skill_says_ends_with_the_images(
    name: str, connected: Any, folder: Path, table: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    async with connected(**(request.getfixturevalue("market") if name == "compare" else {})) as client:
        assistant = Assistant(client, **VALUES, **values(folder, table, out))
        await assistant.follow(skills()[name].text)
    assert {"get_status", "view_images", "save_images"} <= {tool for tool, _ in assistant.made}
    assert any(out.iterdir())


@pytest.mark.parametrize("era", ["auto"])
async def test_rows_that_failed_are_made_again_alone(
    connected: Any, folder: Path, table: Path, api: Emulator, market: dict[str, str], tmp_path: Path
) -> None:
    api.fault("submit", "moderated-before")
    async with connected(**market) as client:
        text = (await client.get_prompt("product_table", placed(GIVEN["product_table"], folder, table))).messages[0]
        assistant = Assistant(client, **values(folder, table, tmp_path / "out"))
        await assistant.follow(text.content.text)
    (redone,) = [given for _, given in assistant.made if given.get("images", [""])[0].endswith("/failed")]
    assert redone == {"images": [f"{assistant.known['SET']}/failed"]}
    assert assistant.status == "done" and len(api.accepted) == 2, "a request for each row, and none twice"


def same_images(given: dict[str, Any]) -> str:
    """Return the arguments of a paid call that decide its images."""
    terms = ("dry_run", "max_cost_usd", "save_to", "wait_s")
    return json.dumps({name: value for name, value in given.items() if name not in terms}, sort_keys=True)


async def test_what_is_given_goes_into_every_paid_call(connected: Any) -> None:
    given = {**GIVEN["storyboard"], "model": "seedream-4.5", "provider": "draft", "save_to": 'a "b" `c`'}
    async with connected() as client:
        text = (await client.get_prompt("storyboard", given)).messages[0].content.text
    calls = [ast.parse(call, mode="eval").body for call in re.findall(r"`(edit_sequence[^`]+)`", text)]
    said = [{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg != "max_cost_usd"} for call in calls]  # type: ignore[attr-defined]
    assert [one["model"] for one in said] == ["seedream-4.5"] * 2
    assert [one["provider"] for one in said] == ["draft"] * 2
    assert said[1]["save_to"] == "a \"b\" 'c'" and "save_to" not in said[0]
    assert said[1]["count"] == 3 and "Frame 3: sleeps." in said[1]["prompt"]


def test_a_word_in_capitals_in_a_value_stays() -> None:
    wish = 'Write "NEXT" and IMAGE on it'
    said = prompts.get("refine", {"image": CAT, "wish": wish}).messages[0].content
    assert isinstance(said, types.TextContent)
    assert f"prompt={json.dumps(wish)})" in said.text


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("restyle", {}, "Prompts: restyle_photos, product_table, storyboard"),
        ("restyle_photos", {"folder": "photos"}, "needs style, or look"),
        ("compare", {"prompt": "x", "models": "one"}, "Give 2 to 6 models, separated by commas; there are 1"),
        ("compare", {"prompt": "x", "models": "a,b", "providers": "c,d,e,f"}, "there are 8"),
        ("refine", {"image": CAT, "wish": "  "}, "refine needs wish"),
        ("refine", {"image": CAT, "wish": "x", "colour": "red"}, "it does not take colour"),
        ("icon_set", {"subjects": "one"}, "2 to 200 items, separated by semicolons; there are 1"),
        ("storyboard", {"character": CAT, "scenes": ";".join("a" * 201)}, "there are 201"),
        ("seasonal_variants", {"image": CAT, "variants": ";".join("abcdefghijklmno")}, "2 to 14 items"),
    ],
)
async def test_a_wrong_prompt_is_refused_with_what_would_be_right(
    connected: Any, name: str, given: dict[str, str], says: str
) -> None:
    async with connected() as client:
        with pytest.raises(MCPError, match=re.escape(says)) as raised:
            await client.get_prompt(name, given)
    assert raised.value.error.code == types.INVALID_PARAMS


async def test_every_prompt_is_listed_with_what_it_asks_for(connected: Any) -> None:
    async with connected() as client:
        listed = (await client.list_prompts()).prompts
    assert [prompt.name for prompt in listed] == list(GIVEN)
    for prompt in listed:
        assert prompt.title and prompt.description
        needed = {argument.name for argument in prompt.arguments or () if argument.required}
        assert needed == {name for name in GIVEN[prompt.name] if name in needed} and needed


async def test_handles_jobs_models_and_providers_complete(connected: Any) -> None:
    async with connected() as client:
        made = (await client.call_tool("generate_sequence", {"prompt": "a lighthouse", "count": 2})).structured_content

        async def completed(ref: Any, name: str, value: str) -> list[str]:
            values = (await client.complete(ref, {"name": name, "value": value})).completion.values
            assert len(values) <= 100
            return list(values)

        prompt = types.PromptReference(name="refine")
        image = types.ResourceTemplateReference(uri="triptych://images/{handle}")
        job = types.ResourceTemplateReference(uri="triptych://jobs/{id}")
        handles = sorted(await completed(image, "handle", "job_"))
        assert handles == [f"{made['job_id']}/1", f"{made['job_id']}/2"]
        assert await completed(prompt, "image", made["job_id"]) != []
        assert await completed(job, "id", "") == [made["job_id"]]
        uploaded = (await client.call_tool("upload_images", {"images": [CAT]})).structured_content["images"][0][
            "handle"
        ]
        assert await completed(image, "handle", "img_") == await completed(prompt, "image", uploaded) == [uploaded]
        assert await completed(prompt, "provider", "wave") == ["wavespeed"]
        assert (await completed(prompt, "model", "seedream-5"))[0].startswith("seedream-5")
        assert await completed(prompt, "wish", "war") == []
        assert await completed(prompt, "model", "nothing like it") == []
        compare = types.PromptReference(name="compare")
        assert await completed(compare, "providers", "atlas, wave") == ["atlas,wavespeed"]
        assert "x,seedream-4.5" in await completed(compare, "models", "x,seedream-4")
        restyle = types.PromptReference(name="restyle_photos")
        assert await completed(restyle, "reference", uploaded) == [uploaded]
        await client.call_tool("upload_images", {"images": [CAT], "look": "noir"})
        assert await completed(restyle, "look", "no") == ["noir"]
        with pytest.raises(MCPError, match="no prompt of that name"):
            await completed(types.PromptReference(name="nonsense"), "image", "")
