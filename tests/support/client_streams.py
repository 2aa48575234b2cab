"""Streams of bytes that clients might send: in order and out of it, of both eras, well formed and not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

PREFIX = "io.modelcontextprotocol/"
INFO = {"name": "anyone", "version": "1"}
LEGACY_VERSIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]

ids: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(["a", "0", "1", "@id@", "@images@", "server-discover-probe-1", "listen:0", "7" * 120]),
    st.sampled_from(["", "\u00fc", "a\nb", '"', "\\", "\u2028"]),
    st.sampled_from([-1, 2**53, 2**63, 10**30, 1.0, 1.5, 1e300, None, True, False, [], {}]),
    st.text(max_size=5),
)
capabilities: st.SearchStrategy[Any] = st.sampled_from(
    [
        {},
        {"roots": {"listChanged": True}},
        {"roots": {}, "elicitation": {"form": {}, "url": {}}, "sampling": {}},
        {"extensions": {f"{PREFIX}tasks": {}, f"{PREFIX}skills": {}}},
        {"extensions": {f"{PREFIX}ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}},
        {"extensions": {f"{PREFIX}ui": {"mimeTypes": ["text/html"]}, "other/one": {"deep": [1, {"x": None}]}}},
        {"extensions": {f"{PREFIX}ui": {}}},
        {"extensions": {f"{PREFIX}ui": {"mimeTypes": "text/html;profile=mcp-app"}}},
        {"extensions": {f"{PREFIX}skills": None}},
        {"experimental": {"codex/auth-change": {}}},
        {"unknown": 1},
        {"roots": None},
        {"roots": []},
        None,
        [],
    ]
)
infos: st.SearchStrategy[Any] = st.sampled_from(
    [
        INFO,
        INFO,
        {**INFO, "title": "A\u00fc", "websiteUrl": "https://x.example", "description": ""},
        {**INFO, "icons": [{"src": "data:,"}]},
        {"name": "claude-code", "version": "2", "extra": 1},
        {"name": 1, "version": "1"},
        {"name": "x"},
        None,
    ]
)
METHODS = [
    *["ping", "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"] * 3,
    *["resources/read", "tools/call", "prompts/get", "completion/complete", "logging/setLevel", "skills/list"],
    *["resources/subscribe", "tasks/get", "no/such", "", "initialize", "notifications/initialized"],
]
plain_params: st.SearchStrategy[Any] = st.sampled_from(
    [
        *[None, {}] * 3,
        {"_meta": {"progressToken": 3}},
        {"_meta": {"progressToken": "t"}},
        {"_meta": {"progressToken": None}},
        {"_meta": {"progressToken": 1.5}},
        {"_meta": {}},
        {"_meta": None},
        {"_meta": {"x": 1}},
        {"cursor": None},
        {"cursor": "1"},
        {"uri": "triptych://nothing"},
        {"name": "no_such_tool", "arguments": {}},
        {"extra": 1},
        [],
        "x",
        0,
    ]
)


def told(message: Any) -> st.SearchStrategy[bytes]:
    """Return the ways to write a message."""
    return st.sampled_from(
        [
            *[json.dumps(message, separators=(",", ":")).encode()] * 4,
            json.dumps(message).encode(),
            json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"),
            b" \t" + json.dumps(message, indent=None).encode() + b"  ",
        ]
    )


@st.composite
def initialize(draw: st.DrawFn) -> Any:
    params: dict[str, Any] = {
        "protocolVersion": draw(st.sampled_from([*LEGACY_VERSIONS * 2, "2026-07-28", "2099-01-01", "", None, 1])),
        "capabilities": draw(capabilities),
        "clientInfo": draw(infos),
    }
    for name in draw(st.lists(st.sampled_from([*params, "_meta"]), max_size=1)):
        if name in params and draw(st.booleans()):
            del params[name]
        else:
            params["_meta"] = {"progressToken": 1}
    return {"jsonrpc": "2.0", "id": draw(ids), "method": "initialize", "params": params}


@st.composite
def modern_meta(draw: st.DrawFn) -> Any:
    meta: dict[str, Any] = {
        f"{PREFIX}protocolVersion": draw(st.sampled_from([*["2026-07-28"] * 8, "2025-11-25", "v999", None, 1])),
        f"{PREFIX}clientInfo": draw(infos),
        f"{PREFIX}clientCapabilities": draw(capabilities),
    }
    for name in draw(st.lists(st.sampled_from([*meta, "progressToken", "logLevel", "x"]), max_size=1)):
        if name in meta:
            del meta[name]
        elif name == "logLevel":
            meta[f"{PREFIX}logLevel"] = draw(st.sampled_from(["debug", "info", "none", 1]))
        else:
            meta[name] = draw(ids)
    return meta


@st.composite
def request(draw: st.DrawFn) -> Any:
    found: dict[str, Any] = {"jsonrpc": "2.0", "id": draw(ids), "method": draw(st.sampled_from(METHODS))}
    params = draw(plain_params)
    if params is not None:
        found["params"] = params
    return found


@st.composite
def modern_request(draw: st.DrawFn) -> Any:
    method = draw(st.sampled_from([*METHODS, *["subscriptions/listen"] * 4]))
    params: dict[str, Any] = {"_meta": draw(modern_meta())}
    if method == "subscriptions/listen":
        kinds = [{"resourcesListChanged": True}] * 4 + [
            {},
            {"resourcesListChanged": False},
            {"resourceSubscriptions": ["triptych://jobs"]},
            {"toolsListChanged": True},
            None,
        ]
        params["notifications"] = draw(st.sampled_from(kinds))
    elif draw(st.integers(0, 5)) == 0:
        params |= {"cursor": "x"} if draw(st.booleans()) else {"uri": "triptych://nothing"}
    return {"jsonrpc": "2.0", "id": draw(ids), "method": method, "params": params}


@st.composite
def notification(draw: st.DrawFn) -> Any:
    method = draw(
        st.sampled_from(
            [
                *["notifications/initialized", "notifications/cancelled"] * 3,
                "notifications/roots/list_changed",
                "notifications/progress",
                "notifications/unknown",
                "tools/list",
                "initialize",
            ]
        )
    )
    found: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if method == "notifications/cancelled":
        found["params"] = draw(st.sampled_from([{}, {"reason": "x"}, {"reason": 1}, {"extra": None}]))
        found["params"] = {"requestId": draw(ids), **found["params"]}
    elif draw(st.integers(0, 3)) == 0:
        found["params"] = draw(plain_params)
    return found


spoiled = st.sampled_from(
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b"NaN",
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":2.0,"id":1,"method":"ping"}',
        b'{"id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","more":1}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":Infinity}}',
        b'{"jsonrpc":"2.0","id":01,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1e0,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":-0,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}',
        b'{"jsonrpc":"2.0","id":"\\u0041","method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} x',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":"\xff","method":"ping"}',
        b'{"jsonrpc":"2.0","id":"\xc3","method":"ping"}',
        b'{"jsonrpc":"2.0","id":"a\x00b","method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"' + b"x" * 70_000 + b'"}}',
        b'{"jsonrpc":"2.0","id":"' + b"y" * 66_000 + b'","method":"ping"}',
        b'{"jsonrpc":"2.0","id":9,"result":{}}',
        b'{"jsonrpc":"2.0","id":9,"error":{"code":1,"message":"x"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"}]',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"\x0b}',
        b'{"jsonrpc":"2.0",\r"id":1,"method":"ping"}',
        b"\x1e\x85\xe2\x80\xa8",
    ]
)

ends = st.sampled_from([*[b"\n"] * 40, b"\r\n", b"\r\n", b"\n\n", b"\n \n", b"\r\r\n"])


LISTS = ["ping", "tools/list", "prompts/list", "resources/list", "resources/templates/list"]
good_ids = st.integers(0, 9) | st.sampled_from(["a", "7", "@images@", "server-discover-probe-1"])
good_capabilities = st.sampled_from(
    [
        {},
        {"roots": {"listChanged": True}, "elicitation": {"form": {}, "url": {}}},
        {"extensions": {f"{PREFIX}skills": {}, f"{PREFIX}tasks": {}}},
        {"extensions": {f"{PREFIX}ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}},
    ]
)


@st.composite
def good_initialize(draw: st.DrawFn) -> Any:
    version, declared = draw(st.sampled_from(LEGACY_VERSIONS)), draw(good_capabilities)
    params = {"protocolVersion": version, "capabilities": declared, "clientInfo": INFO}
    return {"jsonrpc": "2.0", "id": draw(good_ids), "method": "initialize", "params": params}


@st.composite
def good_request(draw: st.DrawFn) -> Any:
    found = {"jsonrpc": "2.0", "id": draw(good_ids), "method": draw(st.sampled_from(LISTS))}
    return found | draw(st.sampled_from([{}, {"params": {}}, {"params": {"_meta": {"progressToken": 0}}}]))


@st.composite
def good_modern(draw: st.DrawFn) -> Any:
    meta = {
        f"{PREFIX}protocolVersion": "2026-07-28",
        f"{PREFIX}clientInfo": INFO,
        f"{PREFIX}clientCapabilities": draw(good_capabilities),
    }
    method = draw(st.sampled_from([*LISTS, "server/discover", "server/discover", *["subscriptions/listen"] * 2]))
    more = {"notifications": {"resourcesListChanged": True}} if method == "subscriptions/listen" else {}
    return {"jsonrpc": "2.0", "id": draw(good_ids), "method": method, "params": {"_meta": meta} | more}


@st.composite
def good_notification(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    params = {"requestId": draw(good_ids)} | draw(st.sampled_from([{}, {"reason": "timed out after 5s"}]))
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


def legacy() -> st.SearchStrategy[bytes]:
    odd = st.one_of(request(), notification(), initialize(), modern_request()).flatmap(told) | spoiled
    good = st.one_of(*[good_request()] * 3, good_notification()).flatmap(told)
    return st.one_of(*[good] * 5, odd)


def modern() -> st.SearchStrategy[bytes]:
    odd = st.one_of(modern_request(), modern_request(), notification(), request(), initialize()).flatmap(told) | spoiled
    good = st.one_of(*[good_modern()] * 4, good_notification()).flatmap(told)
    return st.one_of(*[good] * 5, odd)


@st.composite
def lines(draw: st.DrawFn) -> list[bytes]:
    """Return lines with their ends; each is one line but for those that hold a lone carriage return."""
    era = draw(st.integers(0, 9))
    if era < 5:
        opening = draw(good_initialize().flatmap(told) if era else initialize().flatmap(told))
        found = [opening, *([INITIALIZED] if draw(st.integers(0, 4)) else [])]
        later = legacy()
    else:
        found, later = [], modern() if era < 9 else st.one_of(modern(), legacy())
    found += draw(st.lists(later, max_size=8))
    return [line + draw(ends) for line in found]


INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
streams = lines()
