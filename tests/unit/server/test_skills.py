"""Claims about the skills: one source for three outlets, well-formed, and served as the extension says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.extension import ClientExtension
from pydantic import ConfigDict

from support import ROOT
from support.servers import Connect
from triptych.server import prompts
from triptych.server.skills import SKILLS, skills

pytestmark = pytest.mark.anyio

NAMES = list(skills())
BODY_LINES = 60


class ShowsSkills(ClientExtension):
    identifier = SKILLS


class Ask(types.Request[dict[str, Any], str]):
    method: str
    params: dict[str, Any]


class Answer(types.Result):
    model_config = ConfigDict(extra="allow")


async def asked(client: Client, method: str, **params: Any) -> dict[str, Any]:
    answer = await client.session.send_request(Ask(method=method, params=params), Answer)
    return answer.model_dump(by_alias=True, mode="json", exclude_none=True)


# -- the texts


def test_the_plugin_has_the_same_texts() -> None:
    run = [sys.executable, str(ROOT / "scripts" / "skills"), "--check"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_prompt_is_a_skill_and_the_other_way_round() -> None:
    assert sorted(prompt.skill for prompt in prompts.PROMPTS.values()) == sorted(skills())


@pytest.mark.parametrize("name", NAMES)
def test_a_skill_keeps_the_rules_of_agent_skills(name: str) -> None:
    skill = skills()[name]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= 64
    assert 1 <= len(skill.description) <= 1024 and "Use " in skill.description
    # A plain YAML scalar: no reader takes it for something else.
    assert skill.description[0].isalpha() and not re.search(r": | #|[\n\t]", skill.description)
    assert len(skill.body.splitlines()) <= BODY_LINES and skill.text.endswith("\n")
    assert not re.search(r"\{(wait|failed|lost)\}", skill.body)


# -- the extension


async def test_a_listed_skill_is_the_file_that_is_read(client_of: Connect, era: str) -> None:
    async with client_of() as client:
        if era == "auto":  # the handshake of earlier revisions has no place for it
            assert (client.server_capabilities.extensions or {})[SKILLS] == {}
        listed = (await asked(client, "skills/list"))["skills"]
        assert [entry["frontmatter"]["name"] for entry in listed] == NAMES
        for entry in listed:
            assert (await asked(client, "skills/get", uri=entry["uri"]))["skill"] == entry
            (contents,) = (await client.read_resource(entry["uri"])).contents
            assert isinstance(contents, types.TextResourceContents)
            assert contents.mime_type == "text/markdown" and str(contents.uri) == entry["uri"]
            raw = contents.text.encode()
            digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            assert entry["resources"] == [{"uri": entry["uri"], "digest": digest, "size": len(raw)}]
            head = (
                f"---\nname: {entry['frontmatter']['name']}\ndescription: {entry['frontmatter']['description']}\n---\n"
            )
            assert contents.text.startswith(head)


async def test_only_the_newer_protocol_has_times_to_keep(client_of: Connect, era: str) -> None:
    async with client_of() as client:
        for result in (await asked(client, "skills/list"), await asked(client, "skills/get", uri=first_uri())):
            assert ("ttlMs" in result, "cacheScope" in result) == (era == "auto", era == "auto")


@pytest.mark.parametrize("read", ["get", "read"])
async def test_an_unknown_skill_is_an_invalid_parameter(client_of: Connect, read: str) -> None:
    ways: dict[str, Callable[[Client], Awaitable[Any]]] = {
        "get": lambda client: asked(client, "skills/get", uri="skill://nothing/SKILL.md"),
        "read": lambda client: client.read_resource("skill://nothing/SKILL.md"),
    }
    async with client_of() as client:
        with pytest.raises(MCPError, match=re.escape(first_uri())) as raised:
            await ways[read](client)
    assert raised.value.error.code == types.INVALID_PARAMS


async def test_only_a_client_that_declares_skills_sees_them_listed(client_of: Connect) -> None:
    async with client_of() as client:
        plain = (await client.list_resources()).resources
    async with client_of(extensions=[ShowsSkills()]) as client:
        listed = (await client.list_resources()).resources
    found = [one for one in listed if one.uri.startswith("skill:")]
    assert [one for one in listed if one not in found] == plain
    assert [one.name for one in found] == NAMES
    assert all(one.mime_type == "text/markdown" and one.description for one in found)


def first_uri() -> str:
    return next(iter(skills().values())).uri
