"""Writes the snapshot for thin starts: this server's own answers to each request that `thin.session` knows.

Rules: every text comes from a connection with the real server object, through the SDK's own checks and writers. Nothing
of it depends on the settings or on the database, but the images of `resources/list`, for which a mark stands.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from triptych import providers
from triptych.core import private_files
from triptych.server.app import build
from triptych.server.gallery import MIME_TYPE
from triptych.storage import migrations, statements
from triptych.storage.summaries import ListedImage
from triptych.thin import images, messages, session, snapshots

MARK = ListedImage("job_mark/1", 1, 1, ())
LIMIT_S = 60.0
REFUSALS = (types.CONNECTION_CLOSED, types.UNSUPPORTED_PROTOCOL_VERSION)
"""The errors that a thin start knows: of a stream when the client leaves, and of a second handshake."""
CLIENT = {"name": "snapshot", "version": "1"}
KINDS: Mapping[str, dict[str, Any]] = {
    "": {},
    "+ui": {messages.GALLERY: {"mimeTypes": [MIME_TYPE]}},
    "+skills": {messages.SKILLS: {}},
    "+ui+skills": {messages.GALLERY: {"mimeTypes": [MIME_TYPE]}, messages.SKILLS: {}},
}
"""The extensions that a client declares, by the end of an answer's name."""


def packaged() -> str:
    """Return the file for the package: the answers of the packages that are installed here."""
    versions = snapshots.installed(sys.path)
    assert versions, "the versions of the SDK are unclear"
    return _file(versions)


def keep(home: Path) -> None:
    """Write the answers into the home directory, for the next start.

    Nothing is written if the package has those of the installed packages, or the home directory cannot be written.
    """
    versions = snapshots.installed(sys.path)
    if versions is None or snapshots.find(str(home)):
        return
    text = _file(snapshots.own_key(versions, Path(snapshots.PACKAGED).read_bytes()))
    path = home / snapshots.NAME
    with suppress(OSError):
        for old in home.glob(f"{path.name}.*"):  # of a process that was killed
            old.unlink(missing_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        with open(new, "w", encoding="utf-8", newline="\n", opener=private_files.opener) as file:
            file.write(text)
        new.replace(path)


def _file(key: Mapping[str, str]) -> str:
    answers = anyio.run(_answers)
    numbers: dict[str, int] = {}
    places = {
        version: {name: numbers.setdefault(text, len(numbers) + 1) for name, text in named.items()}
        for version, named in answers.items()
    }
    known = [providers.load(name) for name in providers.names()]
    fields = {
        "key": dict(sorted(key.items())),
        "schema": migrations.newest(),
        "providers": {one.name: one.key_env or "" for one in known},
        "urls": sorted(url.env for one in known for url in one.base_urls.values()),
        "statements": {
            **statements.load("queries_thin.sql"),
            "recent_images": statements.load("queries.sql")["recent_images"],
        },
        "answers": places,
    }
    rest = "".join(f"{line}\n" for line in (json.dumps(fields), *numbers))
    return f"{snapshots.checksum(rest.encode()).decode()}\n{rest}"


class _Images:
    """In place of the service: one image, and changes on demand."""

    def __init__(self) -> None:
        self.tell: Callable[[str], None] = lambda _: None

    async def recent_images(self, *_: object) -> list[ListedImage]:
        return [MARK]

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        self.tell = listener
        return lambda: None

    async def changed(self, job_ids: Sequence[str]) -> dict[str, tuple[None, int]]:
        return dict.fromkeys(job_ids, (None, 1))


@dataclass
class _Connection:
    """One client of the real server."""

    service: _Images
    send: MemoryObjectSendStream[SessionMessage | Exception]
    receive: MemoryObjectReceiveStream[SessionMessage]

    async def ask(self, method: str, params: dict[str, Any]) -> str:
        """Return the line that answers a request."""
        await self.say({"jsonrpc": "2.0", "id": _ID, "method": method, "params": params})
        return await self.line()

    async def say(self, fields: dict[str, Any]) -> None:
        message = types.jsonrpc_message_adapter.validate_json(json.dumps(fields), by_name=False)
        await self.send.send(SessionMessage(message))

    async def line(self) -> str:
        """Return the next line as the SDK's stdio transport writes it, with marks for the id and the images."""
        message = (await self.receive.receive()).message
        assert not isinstance(message, types.JSONRPCError) or message.error.code in REFUSALS, message
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
        found = text
        for part, mark in ((json.dumps(_ID), snapshots.ID), (f",{images.as_json(*MARK)}", snapshots.IMAGES)):
            assert mark.decode() not in text
            found = found.replace(part, mark.decode())
        assert MARK.handle not in found and "\n" not in found, found
        return found


_ID = "the id of the request"


@asynccontextmanager
async def _connected() -> AsyncIterator[_Connection]:
    service = _Images()

    async def opened() -> Any:
        return service

    server = build(opened, remote=False)
    async with AsyncExitStack() as stack:
        send, incoming = anyio.create_memory_object_stream[SessionMessage | Exception]()
        outgoing, receive = anyio.create_memory_object_stream[SessionMessage](8)
        for stream in (send, incoming, outgoing, receive):
            stack.enter_context(cast(Any, stream))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(server.run, incoming, outgoing, server.create_initialization_options())
        yield _Connection(service, send, receive)


async def _answers() -> dict[str, dict[str, str]]:
    """Return the texts by their names, by version of the protocol."""
    found: dict[str, dict[str, str]] = {}
    with anyio.fail_after(LIMIT_S):
        for version in HANDSHAKE_PROTOCOL_VERSIONS:
            found[version] = await _earlier(version)
        for version in MODERN_PROTOCOL_VERSIONS:
            found[version] = await _modern(version)
    return found


async def _earlier(version: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, extensions in KINDS.items():
        capabilities = {"extensions": extensions} if extensions else {}
        async with _connected() as client:
            asked = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": CLIENT}
            found["initialize"] = await client.ask("initialize", asked)
            await client.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
            for method in session.ASKED:
                if method != "server/discover":
                    found.setdefault(_named(method, kind), await client.ask(method, {}))
            found[f"resources/list{kind}"] = await client.ask("resources/list", {})
            client.service.tell("job_mark")
            found["changed"] = await client.line()
            client.send.close()
    return found


async def _modern(version: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, extensions in KINDS.items():
        capabilities = {"extensions": extensions} if extensions else {}
        meta = {"_meta": {messages.VERSION: version, messages.CLIENT: CLIENT, messages.CAPABILITIES: capabilities}}
        async with _connected() as client:
            for method in session.ASKED:
                if method != "ping":
                    found.setdefault(_named(method, kind), await client.ask(method, meta))
            found[f"resources/list{kind}"] = await client.ask("resources/list", meta)
            for earlier in HANDSHAKE_PROTOCOL_VERSIONS:
                asked = {"protocolVersion": earlier, "capabilities": {}, "clientInfo": CLIENT}
                found[f"initialize {earlier}"] = await client.ask("initialize", asked)
            listened = {**meta, "notifications": {"resourcesListChanged": True}}
            found["listening"] = await client.ask("subscriptions/listen", listened)
            client.service.tell("job_mark")
            found["changed"] = await client.line()
            client.send.close()
            found["closed"] = await client.line()
    return found


def _named(method: str, kind: str) -> str:
    return method + ("+ui" if method == "tools/list" and "+ui" in kind else "")
