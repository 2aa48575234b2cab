"""What the comparison finds: each mistake that is put into the thin start makes an answer differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.client_streams import INFO, INITIALIZED, PREFIX
from support.thin_here import Judged
from triptych.thin import HandedOver, messages, session
from triptych.thin.pipe import Pipe
from triptych.thin.session import Session
from triptych.thin.snapshots import Snapshot

HEAR_LIMIT_S = 0.5


def said(method: str, request_id: Any = None, **params: Any) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if request_id is not None:
        message["id"] = request_id
    return json.dumps(message | ({"params": params} if params else {})).encode() + b"\n"


def modern(method: str, request_id: Any, **params: Any) -> bytes:
    client = {f"{PREFIX}protocolVersion": "2026-07-28", f"{PREFIX}clientInfo": INFO}
    return said(method, request_id, _meta=client | {f"{PREFIX}clientCapabilities": {}}, **params)


def opening(request_id: Any = 0, version: str = "2025-06-18", **capabilities: Any) -> list[bytes]:
    params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": INFO}
    return [said("initialize", request_id, **params), INITIALIZED + b"\n"]


LISTEN = modern("subscriptions/listen", "s", notifications={"resourcesListChanged": True})
CANCEL = said("notifications/cancelled", requestId="s")
CALL = said("tools/call", 7, name="no_such_tool", arguments={})
PATCH = pytest.MonkeyPatch


def lose_the_line_that_wakes(patch: PATCH) -> None:
    patch.setattr(Pipe, "unread", lambda pipe, line: None)


def lose_what_was_read(patch: PATCH) -> None:
    plain = Pipe.take

    def take(pipe: Any) -> bytes:
        pipe._read = pipe._read.partition(b"\n")[0] + b"\n" if pipe._read else b""
        return plain(pipe)

    patch.setattr(Pipe, "take", take)


def answer_with_another_version(patch: PATCH) -> None:
    plain = Snapshot.text
    patch.setattr(
        Snapshot, "text", lambda one, version, name, *more: plain(one, max(version, "2025-11-25"), name, *more)
    )


def swallow_one_answer_too_many(patch: PATCH) -> None:
    swallowed: list[Any] = []
    plain = HandedOver.drops

    def drops(handed: Any, request_id: Any) -> bool:
        if plain(handed, request_id):
            return True
        if request_id is not None and not handed._replayed and not swallowed:
            swallowed.append(request_id)
            return True
        return False

    patch.setattr(HandedOver, "drops", drops)


def answer_the_replay_again(patch: PATCH) -> None:
    plain = HandedOver.drops
    patch.setattr(HandedOver, "drops", lambda handed, request_id: plain(handed, request_id) and False)


def forget_the_opening(patch: PATCH) -> None:
    patch.setattr(Session, "replayed", lambda one: [])


def forget_the_first_of_two_streams(patch: PATCH) -> None:
    plain = Session._listen

    def listen(one: Any, *given: Any) -> bytes:
        one._listening = None
        return plain(one, *given)

    patch.setattr(Session, "_listen", listen)


def ignore_what_the_client_declares(patch: PATCH) -> None:
    patch.setattr(session, "_name", lambda method, client: method)


def write_each_id_as_text(patch: PATCH) -> None:
    plain = Snapshot.text
    patch.setattr(Snapshot, "text", lambda one, version, name, rid, *more: plain(one, version, name, str(rid), *more))


def take_any_id(patch: PATCH) -> None:
    patch.setattr(messages, "is_plain_id", lambda value: value is not None)


def take_what_is_not_json(patch: PATCH) -> None:
    patch.setattr(messages, "_refused", lambda name: 0)


def say_no_farewell(patch: PATCH) -> None:
    patch.setattr(Session, "farewell", lambda one: b"")


def overlook_a_cancellation(patch: PATCH) -> None:
    patch.setattr(messages, "same_id", lambda one, other: False)


def list_no_images(patch: PATCH) -> None:
    from triptych.thin.database import Database

    patch.setattr(Database, "images", lambda rows: [])


SKILLS = {"extensions": {f"{PREFIX}skills": {}}}
MISTAKES: dict[Callable[[PATCH], None], list[bytes]] = {
    lose_the_line_that_wakes: [*opening(), CALL],
    lose_what_was_read: [opening()[0] + CALL + said("ping", 8)],
    answer_with_another_version: opening(version="2024-11-05"),
    swallow_one_answer_too_many: [*opening(), CALL, said("ping", 8)],
    answer_the_replay_again: [*opening(), CALL],
    forget_the_opening: [*opening(), CALL],
    forget_the_first_of_two_streams: [modern("server/discover", 1), LISTEN, LISTEN.replace(b'"s"', b'"t"')],
    ignore_what_the_client_declares: [*opening(**SKILLS), said("resources/list", 1)],
    write_each_id_as_text: [*opening(), said("tools/list", 1)],
    take_any_id: [*opening(), b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}\n'],
    take_what_is_not_json: [
        *opening(),
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":NaN}}}\n',
    ],
    say_no_farewell: [modern("server/discover", 1), LISTEN],
    overlook_a_cancellation: [modern("server/discover", 1), LISTEN, CANCEL],
    list_no_images: [*opening(), said("resources/list", 1)],
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_comparison_finds_a_mistake(judged: Judged, mistake: Callable[[PATCH], None]) -> None:
    judged.compare(MISTAKES[mistake])
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        with pytest.raises(AssertionError):
            judged.compare(MISTAKES[mistake], HEAR_LIMIT_S)
