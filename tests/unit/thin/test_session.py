"""What a connection is answered without the SDK, and what makes it wake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.thin import images, messages, snapshots
from triptych.thin.messages import Unknown
from triptych.thin.session import Session

META = {
    messages.VERSION: "2026-07-28",
    messages.CLIENT: {"name": "a", "version": "1"},
    messages.CAPABILITIES: {"roots": {"listChanged": True}},
}
LISTEN = {"_meta": META, "notifications": {"resourcesListChanged": True}}
INITIALIZED = {"method": "notifications/initialized"}


def initialize(version: str = "2025-06-18", **capabilities: Any) -> dict[str, Any]:
    info = {"name": "a", "version": "1"}
    params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": info}
    return {"id": 0, "method": "initialize", "params": params}


def modern(method: str, request_id: int | str = 1, **params: Any) -> dict[str, Any]:
    return {"id": request_id, "method": method, "params": {"_meta": META, **params}}


def listen(request_id: int | str = "l") -> dict[str, Any]:
    return {"id": request_id, "method": "subscriptions/listen", "params": LISTEN}


class Talk:
    """A session, and the images that are in its database."""

    def __init__(self) -> None:
        self.images: list[str] = []
        snapshot = snapshots.Snapshot(Path(snapshots.PACKAGED).read_bytes())
        self.session = Session(snapshot, lambda: list(self.images))

    def line(self, message: dict[str, Any]) -> bytes:
        return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"

    def say(self, *said: dict[str, Any]) -> Any:
        """Return the last answer, None for no answer."""
        answers = [self.session.answer(self.line(message)) for message in said]
        return json.loads(answers[-1]) if answers[-1] else None

    def wakes(self, message: dict[str, Any]) -> bool:
        try:
            self.say(message)
        except Unknown:
            return True
        return False

    def replayed(self) -> list[tuple[dict[str, Any], int | str | None]]:
        return [(json.loads(line), awaited) for line, awaited in self.session.replayed()]


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_handshake_has_the_version_that_the_client_asked_for(talk: Talk, version: str) -> None:
    assert talk.say(initialize(version))["result"]["protocolVersion"] == version


@pytest.mark.parametrize("version", ["2026-07-28", "2031-01-01", ""])
def test_a_handshake_for_another_version_wakes(talk: Talk, version: str) -> None:
    assert talk.wakes(initialize(version))


@pytest.mark.parametrize(
    "first",
    [{"id": 1, "method": "ping"}, {"id": 1, "method": "tools/list"}, INITIALIZED, modern("ping"), modern("tools/call")],
)
def test_another_first_message_wakes(talk: Talk, first: dict[str, Any]) -> None:
    assert talk.wakes(first)


def test_a_client_of_an_earlier_era_is_listed_everything(talk: Talk) -> None:
    talk.say(initialize(), INITIALIZED)
    assert talk.say({"id": 1, "method": "ping"})["result"] == {}
    for method, field in {
        "tools/list": "tools",
        "prompts/list": "prompts",
        "resources/templates/list": "resourceTemplates",
        "resources/list": "resources",
    }.items():
        params = {"_meta": {"progressToken": 1}}
        assert talk.say({"id": "x", "method": method, "params": params})["result"][field]


@pytest.mark.parametrize(
    "next_one",
    [
        initialize(),
        INITIALIZED,
        {"id": 1, "method": "tools/call", "params": {"name": "list_jobs"}},
        {"id": 1, "method": "tools/list", "params": {"cursor": "a"}},
        {"id": 1, "method": "server/discover"},
        {"id": 1, "method": "no/such"},
        {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}},
        {"method": "notifications/cancelled", "params": {}},
        {"method": "notifications/roots/list_changed", "params": {"_meta": {}}},
        modern("tools/list"),
    ],
)
def test_an_unknown_message_of_an_earlier_era_wakes(talk: Talk, next_one: dict[str, Any]) -> None:
    talk.say(initialize(), INITIALIZED)
    assert talk.wakes(next_one)


@pytest.mark.parametrize(
    "next_one",
    [
        {"id": 2, "method": "tools/list"},
        {"id": 2, "method": "ping"},
        modern("ping"),
        modern("tools/list", cursor="a"),
        modern("resources/read", uri="triptych://jobs"),
        {**listen(), "params": {"_meta": META, "notifications": {"resourceSubscriptions": ["triptych://jobs"]}}},
        {**listen(), "params": {**LISTEN, "more": 1}},
        INITIALIZED,
        initialize("2031-01-01"),
    ],
)
def test_an_unknown_message_of_the_modern_era_wakes(talk: Talk, next_one: dict[str, Any]) -> None:
    talk.say(modern("server/discover"))
    assert talk.wakes(next_one)


def test_a_late_handshake_of_a_modern_client_is_refused(talk: Talk) -> None:
    talk.say(modern("server/discover"))
    refused = talk.say(initialize("2025-11-25"))["error"]
    assert refused["code"] == -32022 and refused["data"] == {"supported": ["2026-07-28"], "requested": "2025-11-25"}
    assert talk.say(modern("tools/list"))["result"]["tools"]


def test_notifications_of_no_effect_are_taken(talk: Talk) -> None:
    talk.say(initialize(), INITIALIZED)
    assert talk.say({"method": "notifications/cancelled", "params": {"requestId": 0, "reason": "late"}}) is None
    assert talk.say({"method": "notifications/roots/list_changed"}) is None


def test_the_real_server_reads_the_handshake_again(talk: Talk) -> None:
    talk.say(initialize(), INITIALIZED, {"id": 5, "method": "tools/list"}, {"id": 6, "method": "ping"})
    assert [(line["method"], awaited) for line, awaited in talk.replayed()] == [
        ("initialize", 0),
        ("notifications/initialized", None),
    ]


def test_the_real_server_watches_for_a_client_that_listed(talk: Talk) -> None:
    listing = {"method": "resources/list"}
    talk.say(initialize(), INITIALIZED, {"id": 5, **listing}, {"id": 6, **listing}, {"id": 7, "method": "ping"})
    assert [(line["method"], awaited) for line, awaited in talk.replayed()] == [
        ("initialize", 0),
        ("notifications/initialized", None),
        ("resources/list", 6),
    ]


def test_the_real_server_reads_the_first_modern_request_and_the_stream_again(talk: Talk) -> None:
    talk.say(modern("server/discover", "d"), listen("l"), modern("tools/list", 3))
    assert [(line["method"], awaited) for line, awaited in talk.replayed()] == [
        ("server/discover", "d"),
        ("subscriptions/listen", "l"),
    ]


def test_a_stream_that_opens_a_connection_is_read_once(talk: Talk) -> None:
    talk.say(listen("l"), modern("tools/list", 3))
    assert [awaited for _, awaited in talk.replayed()] == ["l"]


def test_a_cancelled_stream_is_not_opened_again(talk: Talk) -> None:
    talk.say(modern("server/discover", "d"), listen("l"))
    talk.say({"method": "notifications/cancelled", "params": {"requestId": "l"}})
    assert [awaited for _, awaited in talk.replayed()] == ["d"]
    assert talk.session.farewell() == b""
    assert talk.say(listen("m"))["method"] == "notifications/subscriptions/acknowledged"


def test_cancelling_the_stream_that_opened_the_connection_wakes(talk: Talk) -> None:
    talk.say(listen(7))
    assert talk.wakes({"method": "notifications/cancelled", "params": {"requestId": "7"}})


@pytest.mark.parametrize("second", [modern("tools/list", "7"), modern("tools/list", 7), listen("m")])
def test_a_second_stream_and_the_id_of_the_open_one_wake(talk: Talk, second: dict[str, Any]) -> None:
    talk.say(modern("server/discover", "d"), listen(7))
    assert talk.wakes(second)


def test_an_open_stream_is_answered_when_the_client_leaves(talk: Talk) -> None:
    talk.say(modern("server/discover", "d"), listen("l"))
    assert json.loads(talk.session.farewell()) == {
        "jsonrpc": "2.0",
        "id": "l",
        "error": {"code": -32000, "message": "Connection closed"},
    }


def test_new_images_are_told_to_a_stream(talk: Talk) -> None:
    talk.say(modern("server/discover", "d"), listen("l"))
    assert talk.session.news() == b""
    talk.images = [images.as_json("job_1/1", 8, 8, [])]
    told = json.loads(talk.session.news())
    assert told["method"] == "notifications/resources/list_changed"
    assert told["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "l"}
    assert talk.session.news() == b""


def test_new_images_are_told_to_a_client_that_listed_them(talk: Talk) -> None:
    talk.say(initialize(), INITIALIZED)
    talk.images = [images.as_json("job_1/1", 8, 8, [])]
    assert talk.session.news() == b""
    listed = talk.say({"id": 1, "method": "resources/list"})["result"]["resources"]
    assert listed[-1]["uri"] == "triptych://images/job_1/1"
    talk.images = [images.as_json("job_1/2", 8, 8, []), *talk.images]
    assert json.loads(talk.session.news())["method"] == "notifications/resources/list_changed"


@pytest.mark.parametrize("of", [lambda: initialize(), lambda: modern("server/discover")])
def test_what_a_client_declares_changes_its_lists(of: Callable[[], dict[str, Any]]) -> None:
    plain, rich = Talk(), Talk()
    extensions = {messages.GALLERY: {"mimeTypes": [messages.GALLERY_TYPE]}, messages.SKILLS: {}}
    first, asked = of(), {"id": 1, "method": "resources/list"}
    if first["method"] == "initialize":
        plain.say(first)
        rich.say(initialize(extensions=extensions))
    else:
        asked = modern("resources/list")
    lists = [plain.say(asked)]
    if first["method"] != "initialize":
        asked = {**asked, "params": {"_meta": {**META, messages.CAPABILITIES: {"extensions": extensions}}}}
    lists.append(rich.say(asked))
    uris = [{one["uri"].partition(":")[0] for one in found["result"]["resources"]} for found in lists]
    assert uris == [{"triptych"}, {"triptych", "ui", "skill"}]


def test_an_image_whose_text_json_escapes_wakes() -> None:
    with pytest.raises(Unknown):
        images.as_json("job_1/1", 8, 8, ['a"b'])
