"""Prompts hold what they promise: an assistant that does what the text says ends with the set of images."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copy
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError

from support.servers import SAMPLES, environ
from triptych import settings
from triptych.server import prompts
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, service_opener

pytestmark = pytest.mark.anyio

CAT = str(SAMPLES / "cat.jpg")
GIVEN: dict[str, dict[str, str]] = {
    "restyle_photos": {"folder": "photos", "style": "warm evening light"},
    "storyboard": {"character": CAT, "scenes": "wakes up; runs; sleeps"},
    "seasonal_variants": {"image": CAT},
    "refine": {"image": CAT, "wish": "warmer light"},
    "icon_set": {"subjects": "home; mail; settings"},
}


class Assistant:
    """Does what a prompt's text says: every call in backquotes, in order, with what it found out on the way."""

    def __init__(self, client: Client, **known: Any) -> None:
        self.client = client
        self.known = known
        self.made: list[tuple[str, dict[str, Any]]] = []

    async def follow(self, text: str) -> None:
        for quoted in re.findall(r"`([^`]+)`", text):
            call = ast.parse(quoted, mode="eval").body
            assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name), quoted
            tool, arguments = call.func.id, {str(k.arg): self._value(k.value) for k in call.keywords}
            result = await self.client.call_tool(tool, arguments)
            assert not result.is_error, (quoted, result.content)
            self.made.append((tool, arguments))
            fields = result.structured_content or {}
            if fields.get("job_id"):
                self.known |= {"JOB": fields["job_id"], "GOOD": f"{fields['job_id']}/1"}
                assert fields["status"] == "done", fields

    def _value(self, node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "prompt", "eval"), {"__builtins__": {}}, self.known)


@pytest.fixture
def folder(tmp_path: Path) -> list[str]:
    there = tmp_path / "photos"
    there.mkdir()
    return [str(copy(photo, there)) for photo in sorted(SAMPLES.glob("*.jpg"))[:3]]


@pytest.fixture
def connected(tmp_path: Path, era: str) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Client]:
        env = environ(tmp_path / "home")
        env["TRIPTYCH_ALLOWED_DIRS"] += f":{tmp_path}"
        holder = ServiceHolder(service_opener(settings.read(env)))
        async with holder.running(), Client(build(holder, remote=False), mode=era) as client:
            yield client

    return opened


@pytest.mark.parametrize("name", list(GIVEN))
async def test_doing_what_a_prompt_says_ends_with_the_images(
    name: str, connected: Any, folder: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with connected() as client:
        text = (await client.get_prompt(name, GIVEN[name])).messages[0].content.text
        assistant = Assistant(client, PHOTOS=folder, PHOTO=folder[0], WISH="more contrast", DIRECTORY=str(out))
        await assistant.follow(text)
    tools = [tool for tool, _ in assistant.made]
    assert {"get_status", "view_images", "save_images"} <= set(tools)
    assert len(list(out.iterdir())) == 1
    if name != "refine":
        assert assistant.made[0][1]["dry_run"] is True, "the price comes first"


async def test_what_is_given_goes_into_every_paid_call(connected: Any) -> None:
    given = {**GIVEN["storyboard"], "model": "seedream-4.5", "provider": "draft", "save_to": 'a "b" `c`'}
    async with connected() as client:
        text = (await client.get_prompt("storyboard", given)).messages[0].content.text
    calls = [ast.parse(call, mode="eval").body for call in re.findall(r"`(edit_sequence[^`]+)`", text)]
    said = [{k.arg: ast.literal_eval(k.value) for k in call.keywords} for call in calls]  # type: ignore[attr-defined]
    assert [one["model"] for one in said] == ["seedream-4.5"] * 2
    assert [one["provider"] for one in said] == ["draft"] * 2
    assert said[1]["save_to"] == "a \"b\" 'c'" and "save_to" not in said[0]
    assert said[1]["count"] == 3 and "Frame 3: sleeps." in said[1]["prompt"]


async def test_a_character_in_words_is_generated_not_read() -> None:
    text = prompts.get("storyboard", {"character": "a fox in a red scarf", "scenes": "runs; sleeps"})
    said = text.messages[0].content
    assert isinstance(said, types.TextContent)
    assert "generate_sequence(" in said.text and "edit_sequence(" not in said.text


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("restyle", {}, "Prompts: restyle_photos, storyboard"),
        ("refine", {"image": CAT, "wish": "  "}, "refine needs wish"),
        ("refine", {"image": CAT, "wish": "x", "colour": "red"}, "it does not take colour"),
        ("icon_set", {"subjects": "one"}, "2 to 15 items, separated by semicolons; there are 1"),
        ("icon_set", {"subjects": ";".join("abcdefghijklmnop")}, "there are 16"),
        ("storyboard", {"character": CAT, "scenes": ";".join("abcdefghijklmno")}, "2 to 14 items"),
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
        with pytest.raises(MCPError, match="no prompt of that name"):
            await completed(types.PromptReference(name="nonsense"), "image", "")
