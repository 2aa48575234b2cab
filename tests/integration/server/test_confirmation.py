"""The question before a costly job: over every transport, in both eras, and what the provider saw meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters

from support.servers import SAMPLES, SERVE, CannedService, Child, Connect, environ, job_result
from triptych import settings
from triptych.core import errors
from triptych.server import confirmation
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, service_opener
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

KEY = "sk-never-to-be-shown"
ASKED = {"images": [str(SAMPLES / "cat.jpg")], "prompt": "four seasons", "count": 4, "wait_s": 0}
QUESTION = "This will cost $0.128: 4 images, seedream-5.0-lite on atlas. Go on?"
WAY_OUT = "If the user agrees, repeat the call with max_cost_usd=0.128."
YES = types.ElicitResult(action="accept", content={"pay": True})


PRICES = {"/api/v1/model/calculate"}


def paths(api: Emulator) -> set[str]:
    """Return what a provider was asked for: no upload and no submit are among it before a yes."""
    return {seen.path for seen in api.seen}


class User:
    """The client's side of elicitation: remembers what it was asked, and what had been accepted by then."""

    def __init__(self, api: Emulator | None, *answers: types.ElicitResult) -> None:
        self.api = api
        self.answers = list(answers)
        self.asked: list[types.ElicitRequestFormParams] = []
        self.accepted: list[int] = []
        self.before: Callable[[], None] = lambda: None

    async def __call__(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams)
        self.asked.append(params)
        self.accepted.append(len(self.api.accepted) if self.api else 0)
        assert not self.api or paths(self.api) <= PRICES, "nothing but a price was asked for before the answer"
        self.before()
        return self.answers.pop(0)


@pytest.fixture
def api() -> Iterator[Emulator]:
    with running("atlas", latency_s=0.0, max_side=48, key=KEY) as emulator:
        yield emulator


ERAS = ("auto", "legacy")
IN_MEMORY = [f"memory-{era}" for era in ERAS]
SERVED = [pytest.param(f"{way}-{era}", marks=pytest.mark.slow) for way in ("stdio", "http") for era in ERAS]
in_memory = pytest.mark.parametrize("connect", IN_MEMORY, indirect=True)
"""For what no transport can change: a yes, a no and a client that cannot be asked cross all of them."""


@pytest.fixture(params=[*IN_MEMORY, *SERVED])
def connect(request: pytest.FixtureRequest, api: Emulator, tmp_path: Path) -> Connect:
    """Return a function that connects a client to a server on the emulator, over each transport in each era."""
    transport, _, era = request.param.partition("-")
    more = {"ATLASCLOUD_API_KEY": KEY, "ATLASCLOUD_BASE_URL": api.base_url, "TRIPTYCH_CONFIRM_USD": "0.1"}
    env = environ(tmp_path / "home", **more)

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncIterator[Client]:
        if transport == "memory":
            holder = ServiceHolder(service_opener(settings.read(env)))
            async with holder.running(), Client(build(holder, remote=False), mode=era, **options) as client:
                yield client
        elif transport == "stdio":
            server = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=tmp_path)
            async with Client(server, mode=era, **options) as client:
                yield client
        else:
            child = Child("-c", SERVE, "http", env=env)
            try:
                async with Client(child.url(), mode=era, **options) as client:
                    yield client
            finally:
                child.end()

    return connected


def text_of(result: types.CallToolResult) -> str:
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


async def spend(client: Client) -> dict[str, Any]:
    content = (await client.read_resource("triptych://spend")).contents[0]
    assert isinstance(content, types.TextResourceContents)
    found: dict[str, Any] = json.loads(content.text)
    return found


async def test_nothing_is_sent_or_reserved_before_a_yes(connect: Connect, api: Emulator) -> None:
    user = User(api, YES)
    async with connect(elicitation_callback=user) as client:
        result = await client.call_tool("edit_sequence", ASKED)
        assert not result.is_error, result.content
        assert result.structured_content["cost"]["quoted"] == 0.128
        for _ in range(1500):
            if not api.accepted:
                await anyio.sleep(0.02)
        spent = await spend(client)
    assert len(api.accepted) == 1
    (question,) = user.asked
    assert question.message == QUESTION and user.accepted == [0]
    assert list(question.requested_schema["properties"]) == ["pay"]
    assert question.requested_schema["properties"]["pay"]["type"] == "boolean"
    assert spent["total"]["predictions"] == 1 and spent["rows"][0]["provider"] == "atlas"
    assert spent["budget"] == {"cap": 10, "spent": 0, "reserved": 0.128, "left": 9.872}


async def test_a_no_ends_the_call_over_every_transport(connect: Connect, api: Emulator) -> None:
    await refused(connect, api, "decline", ASKED)


@in_memory
@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("more", [{}, {"max_cost_usd": 5}, {"again": True}], ids=["plain", "capped", "again"])
async def test_anything_but_a_yes_sends_nothing(
    connect: Connect, api: Emulator, action: Any, more: dict[str, Any]
) -> None:
    await refused(connect, api, action, ASKED | more)


async def refused(connect: Connect, api: Emulator, action: Any, arguments: dict[str, Any]) -> None:
    """Call with this answer of the user; nothing may be sent or reserved."""
    async with connect(elicitation_callback=User(api, types.ElicitResult(action=action))) as client:
        result = await client.call_tool("edit_sequence", arguments)
        spent = await spend(client)
    refusal = text_of(result)
    assert result.is_error and len(refusal) < 1000
    for part in (f"the client answered {action}.", "Nothing was sent", "above $0.1", "TRIPTYCH_CONFIRM_USD"):
        assert part in refusal
    assert "0.128" not in refusal and "max_cost_usd" not in refusal
    assert paths(api) <= PRICES and api.accepted == []
    assert spent["total"]["predictions"] == 0


@in_memory
async def test_a_cap_is_no_yes_if_the_user_can_answer(connect: Connect, api: Emulator) -> None:
    user = User(api, YES)
    async with connect(elicitation_callback=user) as client:
        result = await client.call_tool("edit_sequence", {**ASKED, "max_cost_usd": 5})
    assert not result.is_error
    assert [params.message for params in user.asked] == [QUESTION]


@in_memory
async def test_a_repeated_request_asks_nothing(connect: Connect, api: Emulator) -> None:
    user = User(api, YES)
    async with connect(elicitation_callback=user) as client:
        first = await client.call_tool("edit_sequence", ASKED)
        second = await client.call_tool("edit_sequence", ASKED)
    assert len(user.asked) == 1
    assert first.structured_content["job_id"] == second.structured_content["job_id"]


async def test_a_client_without_questions_confirms_by_the_cost(connect: Connect, api: Emulator) -> None:
    async with connect() as client:
        result = await client.call_tool("edit_sequence", ASKED)
        refusal = text_of(result)
        assert result.is_error and WAY_OUT in refusal and "Not confirmed" not in refusal
        assert paths(api) <= PRICES and api.accepted == []
        confirmed = await client.call_tool("edit_sequence", {**ASKED, "max_cost_usd": 0.128})
        assert not confirmed.is_error
        # The same call again, now without the argument, is that job: it needs no confirmation.
        same = await client.call_tool("edit_sequence", ASKED)
        assert same.structured_content["job_id"] == confirmed.structured_content["job_id"]


# -- a service that answers as it is told: what changes between the question and the answer
# -----------------------------


def costs(told: CannedService, quotes: list[str]) -> list[Decimal | None]:
    """Let the service quote so, one call after another, in dollars; return what the user had agreed to each time."""
    agreed_to: list[Decimal | None] = []

    async def work(caller: Any) -> Any:
        agreed, quote = caller.agreed_usd, quotes.pop(0)
        agreed_to.append(agreed)
        if agreed is None or Decimal(quote) > agreed:
            raise errors.OverBudget("wants", confirm_usd=Decimal(quote), question=f"This will cost ${quote}.")
        return job_result()

    told.act = work
    return agreed_to


ClientOf = Callable[..., Any]
WORDS = {"images": ["a.png"], "prompt": "warm"}


@pytest.mark.parametrize("content", [{"pay": False}, {"pay": "true"}, {}, None])
async def test_an_answer_that_accepts_without_a_yes_is_no(
    client_of: ClientOf, told: CannedService, content: dict[str, Any] | None
) -> None:
    caps = costs(told, ["1.6", "1.6"])
    async with client_of(
        elicitation_callback=User(None, types.ElicitResult(action="accept", content=content))
    ) as client:
        result = await client.call_tool("edit_sequence", WORDS)
    assert result.is_error and "the answer was no" in text_of(result)
    assert set(caps) == {None}


@pytest.mark.parametrize("era", ["legacy"], indirect=True)
async def test_a_quote_that_grew_while_asking_is_refused(client_of: ClientOf, told: CannedService) -> None:
    caps = costs(told, ["1.6", "1.7"])
    async with client_of(elicitation_callback=User(None, YES)) as client:
        result = await client.call_tool("edit_sequence", WORDS)
    assert result.is_error and "has risen since the user confirmed it" in text_of(result)
    assert caps == [None, Decimal("1.6")]


@pytest.mark.parametrize("era", ["auto"], indirect=True)
async def test_a_quote_that_grew_is_asked_about_again(client_of: ClientOf, told: CannedService) -> None:
    caps = costs(told, ["1.6", "1.7", "1.7", "1.7"])
    user = User(None, YES, YES)
    async with client_of(elicitation_callback=user) as client:
        assert not (await client.call_tool("edit_sequence", WORDS)).is_error
    assert [params.message for params in user.asked] == ["This will cost $1.6. Go on?", "This will cost $1.7. Go on?"]
    assert caps == [None, None, None, Decimal("1.7")]


@pytest.mark.parametrize("era", ["auto"], indirect=True)
async def test_a_yes_to_no_question_of_ours_is_no_yes(client_of: ClientOf, told: CannedService) -> None:
    caps = costs(told, ["1.6"] * 2)
    async with client_of(elicitation_callback=User(None)) as client:
        for state in (None, "This will cost $0.01."):
            result = await client.session.call_tool(
                "edit_sequence", WORDS, input_responses={"pay": YES}, request_state=state, allow_input_required=True
            )
            assert isinstance(result, types.InputRequiredResult) and result.request_state == "This will cost $1.6."
    assert caps == [None, None]


@pytest.mark.parametrize("era", ["legacy"], indirect=True)
async def test_a_client_that_never_answers_times_out(
    client_of: ClientOf, told: CannedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(context: Any, params: Any) -> types.ElicitResult:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(confirmation, "ASK_LIMIT_S", 0.05)
    costs(told, ["1.6"])
    async with client_of(elicitation_callback=silent) as client:
        result = await client.call_tool("edit_sequence", WORDS)
    assert result.is_error and "gave no valid answer" in text_of(result)


async def test_a_cost_below_the_limit_is_never_asked_about(client_of: ClientOf, told: CannedService) -> None:
    user = User(None)
    async with client_of(elicitation_callback=user) as client:
        assert not (await client.call_tool("edit_sequence", WORDS)).is_error
    assert user.asked == []
