"""Two owners on one server, over streamable HTTP and SSE in both eras: neither learns anything of the other.

They have two tokens of the server, or signed in as two people at an identity provider.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from support.clients import sse
from support.identity_provider import IdentityProvider
from support.servers import SAMPLES, SERVE, SMALL, Child, environ
from triptych.server import auth, oauth

pytestmark = pytest.mark.anyio

ANN, BEN, CLEO = "anns-token-0123456789", "bens-token-0123456789", "cleo-token-0123456789"
"""Cleo's are the jobs of one test alone: late changes of an earlier test's jobs would be heard, too."""
CAT = str(SAMPLES / "cat.jpg")
PATIENCE_S = 60
As = Callable[..., AbstractAsyncContextManager[Client]]


SIGNED_IN: dict[str, str] = {}
"""The access tokens that stand for the two tokens, while both have signed in."""


@pytest.fixture(scope="module", params=["by token", "signed in"])
def urls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if request.param == "by token":
        yield from served(
            tmp_path_factory.mktemp("owners"), auth.owner_of(ANN), TRIPTYCH_AUTH_TOKEN=f"{ANN}, {BEN}, {CLEO}"
        )
        return
    with IdentityProvider(algorithm="ES256") as provider:
        SIGNED_IN.update({token: provider.token("images", sub=token[:3]) for token in (ANN, BEN, CLEO)})
        env = {"TRIPTYCH_OAUTH_ISSUER": provider.issuer, "TRIPTYCH_OAUTH_AUDIENCE": "images"}
        yield from served(tmp_path_factory.mktemp("owners"), oauth.owner_of(provider.issuer, "ann"), **env)
        SIGNED_IN.clear()


def served(home: Path, anns: str, **more: str) -> Iterator[dict[str, str]]:
    env = environ(home, TRIPTYCH_LOG_LEVEL="DEBUG", **more)
    children = {transport: Child("-c", SERVE, transport, env=env) for transport in ("http", "sse")}
    yield {transport: child.url() for transport, child in children.items()}
    for child in children.values():
        assert child.end() == 0
        said = "".join(child.said)
        assert not any(token in said for token in (ANN, BEN, *SIGNED_IN.values())) and "is listening on" in said
    stored = b"".join(path.read_bytes() for path in home.glob("triptych.db*"))
    assert anns.encode() in stored
    assert not any(token.encode() in stored for token in (ANN, *SIGNED_IN.values()))


@pytest.fixture(params=[f"{transport}-{era}" for transport in ("http", "sse") for era in ("auto", "legacy")])
def connect(request: pytest.FixtureRequest, urls: dict[str, str]) -> As:
    transport, _, era = request.param.partition("-")

    @asynccontextmanager
    async def connected(token: str, **options: Any) -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {SIGNED_IN.get(token, token)}"}
        if transport == "sse":
            async with Client(sse(urls["sse"], headers=headers), mode=era, **options) as client:
                yield client
            return
        async with (
            httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as web,
            Client(streamable_http_client(urls["http"], http_client=web), mode=era, **options) as client,
        ):
            yield client

    return connected


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error and isinstance(result.content[0], types.TextContent), result
    return result.content[0].text


async def unread(client: Client, uri: str) -> str:
    with pytest.raises(MCPError) as error:
        await client.read_resource(uri)
    return error.value.message


async def test_no_tool_or_resource_shows_what_is_anothers(connect: As) -> None:
    prompt = "a lighthouse nobody else asked for"
    async with connect(ANN) as ann, connect(BEN) as ben:
        cat = (await call(ann, "upload_images", images=[CAT]))["images"][0]
        made = await call(ann, "generate_sequence", prompt=prompt, size=SMALL, again=True)
        output = made["images"][0]
        known = [cat["handle"], output["handle"], made["job_id"], made["job_id"].removeprefix("job_")]

        for theirs, never in ((cat["handle"], "img_00000000"), (output["handle"], "job_00000000/1")):
            for tool, arguments in (
                ("upload_images", {"images": ["HANDLE"]}),
                ("edit_sequence", {"images": ["HANDLE"], "prompt": "warmer"}),
                ("edit_chain", {"images": ["HANDLE"], "steps": ["warmer"]}),
                ("view_images", {"images": ["HANDLE"]}),
                ("save_images", {"images": ["HANDLE"], "directory": str(SAMPLES)}),
            ):
                said = [
                    (await refused(ben, tool, json.loads(json.dumps(arguments).replace("HANDLE", name)))).replace(
                        name, "X"
                    )
                    for name in (theirs, never)
                ]
                assert said[0] == said[1]
            said = [(await unread(ben, f"triptych://images/{name}")).replace(name, "X") for name in (theirs, never)]
            assert said[0] == said[1]
        for tool in ("get_status", "cancel_job"):
            texts = [await refused(ben, tool, {"job_id": name}) for name in (made["job_id"], "job_00000000")]
            assert texts[0].replace(made["job_id"], "job_00000000") == texts[1]
        texts = [await unread(ben, f"triptych://jobs/{name}") for name in (made["job_id"], "job_00000000")]
        assert texts[0].replace(made["job_id"], "job_00000000") == texts[1]
        assert "outside the allowed" in await refused(ben, "view_images", {"images": [output["path"]]})

        await call(ben, "generate_sequence", prompt="Ben's own", size=SMALL, again=True)
        shown = [
            json.dumps(await call(ben, "list_jobs", limit=100)),
            json.dumps(await call(ben, "list_models")),
            (await ben.list_resources()).model_dump_json(),
            (await ben.read_resource("triptych://jobs")).model_dump_json(),
            (await ben.read_resource("triptych://models")).model_dump_json(),
        ]
        assert "Ben's own" in shown[0] and not any(word in text for text in shown for word in [*known, prompt])

        assert made["job_id"] in json.dumps(await call(ann, "list_jobs"))
        assert (await call(ann, "get_status", job_id=made["job_id"]))["images"][0]["handle"] == output["handle"]
        assert output["handle"] in (await ann.list_resources()).model_dump_json()
        assert (await ann.read_resource(f"triptych://images/{output['handle']}")).contents


async def test_the_same_file_brought_by_both_is_each_ones_own(connect: As) -> None:
    tree = str(SAMPLES / "coffee.jpg")
    async with connect(ANN) as ann, connect(BEN) as ben:
        first = (await call(ann, "upload_images", images=[tree]))["images"][0]
        again = (await call(ben, "upload_images", images=[tree]))["images"][0]
        assert (first["handle"], first["path"]) == (again["handle"], again["path"])
        job = await call(ben, "edit_sequence", images=[first["handle"]], prompt="warmer", again=True)
        assert job["status"] == "done"


class Ear:
    """Hears what is told on a session, in either era."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._more = anyio.Event()

    def hear(self, what: str) -> None:
        self.heard.append(what)
        self._more.set()
        self._more = anyio.Event()

    async def __call__(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.hear(message.params.uri)
        elif isinstance(message, types.ResourceListChangedNotification):
            self.hear("list_changed")

    async def until(self, what: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while what not in self.heard:
                await self._more.wait()


async def test_no_client_hears_of_anothers_jobs(connect: As) -> None:
    anns, cleos = Ear(), Ear()
    async with connect(ANN, message_handler=anns) as ann, connect(CLEO, message_handler=cleos) as cleo:
        theirs = (await call(ann, "edit_sequence", images=[CAT], prompt="warmer", again=True))["job_id"]
        async with anyio.create_task_group() as tasks:
            for client, ear in ((ann, anns), (cleo, cleos)):
                await tasks.start(hearing, client, ear, ["triptych://jobs"])
            if cleo.protocol_version == "2026-07-28":
                async with cleo.listen(
                    resource_subscriptions=["triptych://jobs", f"triptych://jobs/{theirs}"]
                ) as events:
                    assert events.honored.resource_subscriptions == ["triptych://jobs"]
            else:
                for uri in (f"triptych://jobs/{theirs}", "triptych://jobs/job_00000000"):
                    with pytest.raises(MCPError, match="no such job"):
                        await subscribe(cleo, uri)
            anns.heard.clear()
            cleos.heard.clear()
            await call(ann, "edit_chain", images=[CAT], steps=["warmer", "sepia"], again=True)
            await call(ann, "cancel_job", job_id=theirs)
            await anns.until("triptych://jobs")
            await anns.until("list_changed")
            assert cleos.heard == []
            await call(cleo, "edit_sequence", images=[CAT], prompt="warmer", again=True)
            await cleos.until("list_changed")
            assert set(cleos.heard) <= {"triptych://jobs", "list_changed"}
            tasks.cancel_scope.cancel()


async def subscribe(client: Client, uri: str) -> None:
    request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
    await client.session.send_request(request, types.EmptyResult)


async def hearing(client: Client, ear: Ear, uris: list[str], *, task_status: Any) -> None:
    """Subscribe in the client's era, and let the ear hear what comes."""
    if client.protocol_version != "2026-07-28":
        for uri in uris:
            await subscribe(client, uri)
        task_status.started()
        return
    async with client.listen(resources_list_changed=True, resource_subscriptions=uris) as events:
        task_status.started()
        async for event in events:
            ear.hear(getattr(event, "uri", "list_changed"))


# -- sessions of the earlier era ---------------------------------------------------------------------------------------

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}


def bearing(token: str, **headers: str) -> dict[str, str]:
    return {**ACCEPT, "authorization": f"Bearer {SIGNED_IN.get(token, token)}", **headers}


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_session_belongs_to_the_token_that_began_it(urls: dict[str, str], method: str) -> None:
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as web:
        begun = await web.post(urls["http"], json=INITIALIZE, headers=bearing(ANN))
        session = {"mcp-session-id": begun.headers["mcp-session-id"]}
        body = {"json": PING} if method == "POST" else {}
        theirs = await web.request(method, urls["http"], headers=bearing(BEN, **session), **body)
        never = await web.request(method, urls["http"], headers=bearing(BEN, **{"mcp-session-id": "0" * 32}), **body)
        assert (theirs.status_code, theirs.content) == (never.status_code, never.content) == (404, never.content)
        assert (await web.post(urls["http"], json=PING, headers=bearing(ANN, **session))).status_code == 200


async def test_nor_are_the_messages_of_an_sse_session(urls: dict[str, str]) -> None:
    async with (
        httpx2.AsyncClient(timeout=PATIENCE_S) as web,
        web.stream("GET", urls["sse"], headers=bearing(ANN)) as stream,
    ):
        lines = stream.aiter_lines()
        while not (line := await anext(lines)).startswith("data:"):
            pass
        messages = httpx2.URL(urls["sse"]).join(line.removeprefix("data:").strip())
        never = httpx2.URL(urls["sse"]).join(f"/messages/?session_id={'0' * 32}")
        answers = [await web.post(url, json=PING, headers=bearing(BEN)) for url in (messages, never)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
        assert (await web.post(messages, json=PING, headers=bearing(ANN))).status_code == 202


async def test_a_folder_is_read_for_each_owner_alone(connect: As, urls: dict[str, str]) -> None:
    async with connect(ANN) as ann, connect(BEN) as ben:
        anns, bens = [await call(client, "upload_images", images=[str(SAMPLES)]) for client in (ann, ben)]
        assert [image["handle"] for image in anns["images"]] == [image["handle"] for image in bens["images"]]
        assert anns["warnings"] == bens["warnings"] and "pictures in" in anns["warnings"][0]
        home = str(anns["images"][0]["path"]).rpartition("/")[0]
        for client in (ann, ben):
            for item in (home, f"{home}/*.jpg", f"{home}/../**/*", f"{SAMPLES}/../*"):
                said = await refused(client, "upload_images", {"images": [item]})
                assert "outside the allowed directories" in said and "img_" not in said
