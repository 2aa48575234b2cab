"""What the thin start reads is what the SDK reads, or it is left to the SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.dispatcher import coerce_request_id
from mcp_types import methods
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError

from triptych.thin import messages
from triptych.thin.messages import Unknown

CLIENT = {"name": "a client", "version": "1"}
KEYS = ("name", "version", "title", "icons", "roots", "listChanged", "sampling", "elicitation", "form", "extensions")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just("x") | st.floats(allow_nan=False, width=16),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=4,
)
"""JSON values that are often almost right."""


def object_of(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects whose values are right or anything."""
    fixed: dict[str, Any] = {name: st.just(value) | ANYTHING for name, value in required.items()}
    return st.fixed_dictionaries(fixed, optional={name: st.just(v) | ANYTHING for name, v in optional.items()})


INFO = object_of(CLIENT, {"title": "A", "description": "é", "websiteUrl": "not a URL", "icons": [{"src": "a"}], "x": 1})
CAPABILITIES = object_of(
    {},
    {
        "roots": {"listChanged": True},
        "sampling": {"tools": {}},
        "elicitation": {"form": {}, "url": {}},
        "experimental": {"a": {"b": 1}},
        "extensions": {messages.GALLERY: {"mimeTypes": [messages.GALLERY_TYPE]}},
        "tasks": {"list": {}},
    },
)


MORE: dict[str, st.SearchStrategy[Any]] = {
    "progressToken": st.integers(-1, 1) | st.just("a") | ANYTHING,
    messages.LOG_LEVEL: st.sampled_from([*messages.LOG_LEVELS, "loud"]) | ANYTHING,
    "x": ANYTHING,
}


def line(fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except Unknown:
        return True
    return False


def test_a_request_is_read() -> None:
    found = messages.read(b'{"jsonrpc":"2.0","id":"a","method":"ping"}\r\n')
    assert (found.method, found.id, found.params) == ("ping", "a", {})


@pytest.mark.parametrize(
    "said",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,\r"method":"ping"}\n',
        b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"a":1}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","more":1}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"p\xff"}\n',
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n',
        b'{"jsonrpc":"2.0","id":1,"result":{}}\n',
        b'{"jsonrpc":"2.1","id":1,"method":"ping"}\n',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}\n',
        b"\n",
        b"nonsense\n",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * 200 + b"]" * 200 + b"}}\n",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"' + b"x" * messages.LONGEST_LINE_BYTES + b'"}}\n',
        *(
            b'{"jsonrpc":"2.0","id":%s,"method":"ping"}\n' % request_id
            for request_id in (b"null", b"1.0", b"true", b"-1", b"1" * 20, b'""', b'"\xc3\xa9"', b'"a\\"b"', b"1e2")
        ),
    ],
)
def test_every_odd_line_is_left_to_the_sdk(said: bytes) -> None:
    with pytest.raises(Unknown):
        messages.read(said)


FIELDS = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"])


@given(st.dictionaries(FIELDS, ANYTHING | st.just("2.0")))
def test_a_line_that_is_read_is_a_message_of_the_sdk(fields: dict[str, Any]) -> None:
    said = line(fields)
    if not refused(lambda: messages.read(said)):
        found, read = types.jsonrpc_message_adapter.validate_json(said, by_name=False), messages.read(said)
        assert isinstance(found, types.JSONRPCRequest | types.JSONRPCNotification)
        assert (found.method, getattr(found, "id", None), found.params or {}) == (read.method, read.id, read.params)


@given(st.integers(0, messages.LARGEST_ID) | st.text(max_size=9))
def test_an_id_is_written_as_the_sdk_writes_it(request_id: int | str) -> None:
    if messages.is_plain_id(request_id):
        answer = types.JSONRPCResponse(jsonrpc="2.0", id=request_id, result={})
        said = f'{{"jsonrpc":"2.0","id":{json.dumps(request_id)},"result":{{}}}}'
        assert answer.model_dump_json(by_alias=True, exclude_unset=True) == said


@given(st.one_of(*[st.integers(0, 9) | st.sampled_from(["7", " 7", "07", "x", "7_0", "70"])] * 2), st.integers(0, 9))
def test_ids_are_the_same_where_the_sdk_takes_them_so(one: int | str, other: int) -> None:
    for second in (other, str(other), one):
        assert messages.same_id(one, second) == (coerce_request_id(one) == coerce_request_id(second))


@given(
    object_of({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}, {"more": 1}),
    CAPABILITIES,
    INFO,
    st.booleans(),
)
def test_an_initialize_that_is_answered_is_valid(
    params: dict[str, Any], capabilities: dict[str, Any], info: dict[str, Any], nested: bool
) -> None:
    if nested:
        params = {**params, "capabilities": capabilities, "clientInfo": info}
    if refused(lambda: messages.initialize(params)):
        return
    methods.validate_client_request("initialize", HANDSHAKE_PROTOCOL_VERSIONS[-1], params)
    found = types.InitializeRequestParams.model_validate(params, by_name=False)
    declared = found.capabilities.extensions or {}
    shown = (declared.get(messages.GALLERY) or {}).get("mimeTypes") or []
    client = messages.initialize(params)[1]
    assert (client.gallery, client.skills) == (messages.GALLERY_TYPE in shown, messages.SKILLS in declared)


@given(
    CAPABILITIES,
    INFO,
    st.fixed_dictionaries({}, optional=MORE),
)
def test_a_request_of_2026_that_is_answered_is_valid(
    capabilities: dict[str, Any], info: dict[str, Any], more: dict[str, Any]
) -> None:
    meta = {messages.VERSION: "2026-07-28", messages.CLIENT: info, messages.CAPABILITIES: capabilities, **more}
    if not refused(lambda: messages.envelope({"_meta": meta})):
        methods.validate_client_request("tools/list", "2026-07-28", {"_meta": meta})
        types.PaginatedRequestParams.model_validate({"_meta": meta}, by_name=False)
        assert types.ClientCapabilities.model_validate(capabilities, by_name=False)
        assert types.Implementation.model_validate(info, by_name=False)


METAS = st.dictionaries(st.just("progressToken"), ANYTHING)


@given(st.fixed_dictionaries({}, optional={"_meta": METAS, "cursor": ANYTHING}))
def test_a_plain_request_that_is_answered_is_valid(params: dict[str, Any]) -> None:
    if not refused(lambda: messages.check_plain(params)):
        for version in HANDSHAKE_PROTOCOL_VERSIONS:
            for method in ("ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list"):
                methods.validate_client_request(method, version, params)


@given(object_of({"requestId": 7}, {"reason": "late", "_meta": {}}))
def test_a_cancellation_that_is_noted_is_valid(params: dict[str, Any]) -> None:
    if not refused(lambda: messages.cancelled(params)):
        for version in (*HANDSHAKE_PROTOCOL_VERSIONS, "2026-07-28"):
            methods.validate_client_notification("notifications/cancelled", version, params)


def test_the_sdk_does_refuse_what_is_left_to_it() -> None:
    params = {"protocolVersion": "x", "capabilities": {"roots": 1}, "clientInfo": CLIENT}
    with pytest.raises(ValidationError):
        types.InitializeRequestParams.model_validate(params, by_name=False)
