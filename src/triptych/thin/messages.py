"""Reads one line of a client, if it has exactly a form that the thin start knows.

Rules: a function returns None, or raises `Unknown`, for everything that the real server might treat in a special way:
malformed JSON, doubled or further keys, odd ids, values of other types. Then the real server gets the line. So a check
here may be stricter than the protocol, never laxer.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST_LINE_BYTES = 65_536
MOST_BRACKETS = 150
"""Fewer levels than the SDK's parser allows."""
LARGEST_ID = 2**53
LONGEST_ID_CHARS = 100

PREFIX = "io.modelcontextprotocol/"
VERSION, CLIENT, CAPABILITIES = f"{PREFIX}protocolVersion", f"{PREFIX}clientInfo", f"{PREFIX}clientCapabilities"
LOG_LEVEL = f"{PREFIX}logLevel"
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Each is accepted, because no answer of a thin start has log messages."""
GALLERY, SKILLS = f"{PREFIX}ui", f"{PREFIX}skills"
GALLERY_TYPE = "text/html;profile=mcp-app"

RequestId = int | str


class Unknown(Exception):
    """The message is for the real server."""


class Message:
    """A request, or a notification (`id` None), with its params; `{}` without any."""

    __slots__ = ("id", "method", "params")

    def __init__(self, method: str, request_id: RequestId | None, params: dict[str, Any]) -> None:
        self.method = method
        self.id = request_id
        self.params = params


class Client:
    """The declarations of a client that change an answer."""

    __slots__ = ("gallery", "skills")

    def __init__(self, gallery: bool = False, skills: bool = False) -> None:
        self.gallery = gallery
        self.skills = skills


def read(line: bytes) -> Message:
    """Return the message in a line that ends with a newline. Raises: `Unknown`."""
    if not line.endswith(b"\n"):  # too long, or cut off by the end
        raise Unknown
    text = line[:-1].removesuffix(b"\r")  # the SDK reads lines with universal newlines
    if len(text) > LONGEST_LINE_BYTES or b"\r" in text or b"\\ud" in text.lower():
        raise Unknown  # `\ud…` may be half of a character, which the SDK refuses
    if text.count(b"{") + text.count(b"[") > MOST_BRACKETS:
        raise Unknown
    try:
        fields = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise Unknown from None
    if type(fields) is not dict or fields.get("jsonrpc") != "2.0" or type(fields.get("method")) is not str:
        raise Unknown
    params = fields.get("params", {})
    request_id = fields.get("id")
    if fields.keys() - {"jsonrpc", "id", "method", "params"} or type(params) is not dict:
        raise Unknown
    if "id" in fields and not is_plain_id(request_id):
        raise Unknown
    return Message(fields["method"], request_id, params)


def is_plain_id(value: object) -> bool:
    """Return whether an id is written in JSON in one way alone, by every writer."""
    if type(value) is int:
        return 0 <= value <= LARGEST_ID
    return type(value) is str and 0 < len(value) <= LONGEST_ID_CHARS and is_plain(value)


def is_plain(text: str) -> bool:
    """Return whether a text is printable ASCII that JSON does not escape."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def same_id(one: RequestId | None, other: RequestId) -> bool:
    """Return whether the SDK takes two ids as the same: it reads "7" as 7."""
    return one is not None and _coerced(one) == _coerced(other)


def _coerced(request_id: RequestId) -> RequestId:
    try:
        return int(request_id)
    except ValueError:
        return request_id


def initialize(params: dict[str, Any]) -> tuple[str, Client]:
    """Return the version and the client of an `initialize`. Raises: `Unknown`."""
    version = params.get("protocolVersion")
    if params.keys() != {"protocolVersion", "capabilities", "clientInfo"} or type(version) is not str:
        raise Unknown
    _check_info(params["clientInfo"])
    return version, _client(params["capabilities"])


def envelope(params: dict[str, Any]) -> tuple[str, Client] | None:
    """Return the version and the client that a 2026-07-28 request names; None for a request without these fields.

    Raises: `Unknown`.
    """
    meta = params.get("_meta", {})
    if type(meta) is not dict:
        raise Unknown
    if VERSION not in meta:
        return None
    if meta.keys() - {VERSION, CLIENT, CAPABILITIES, LOG_LEVEL, "progressToken"} or type(meta[VERSION]) is not str:
        raise Unknown
    if meta.get(LOG_LEVEL, "info") not in LOG_LEVELS:
        raise Unknown
    _check_token(meta)
    if CLIENT in meta:
        _check_info(meta[CLIENT])
    return meta[VERSION], _client(meta.get(CAPABILITIES))


def check_plain(params: dict[str, Any]) -> None:
    """Check the params of a request of an earlier era that needs none. Raises: `Unknown`."""
    meta = params.get("_meta", {})
    if params.keys() - {"_meta"} or type(meta) is not dict or meta.keys() - {"progressToken"}:
        raise Unknown
    _check_token(meta)


def cancelled(params: dict[str, Any]) -> RequestId:
    """Return the id of a request that the client cancels. Raises: `Unknown`."""
    request_id: RequestId = params.get("requestId", "")
    if params.keys() - {"requestId", "reason"} or type(params.get("reason", "")) is not str:
        raise Unknown
    if not is_plain_id(request_id):
        raise Unknown
    return request_id


def _check_token(meta: dict[str, Any]) -> None:
    token = meta.get("progressToken", 0)
    if type(token) is not str and not is_plain_id(token):
        raise Unknown


def _check_info(info: object) -> None:
    if type(info) is not dict or not {"name", "version"} <= info.keys():
        raise Unknown
    if info.keys() - {"name", "version", "title", "description", "websiteUrl"}:
        raise Unknown
    if any(type(value) is not str for value in info.values()):
        raise Unknown


def _client(capabilities: object) -> Client:
    if type(capabilities) is not dict or any(
        name not in _CAPABILITIES or not _CAPABILITIES[name](value) for name, value in capabilities.items()
    ):
        raise Unknown
    extensions = capabilities.get("extensions", {})
    shown = extensions.get(GALLERY, {}).get("mimeTypes", [])
    if type(shown) is not list:
        raise Unknown
    return Client(GALLERY_TYPE in shown, SKILLS in extensions)


def _objects(*names: str) -> Callable[[object], bool]:
    """Return a check: an object with at most these keys, whose values are objects."""
    return lambda value: _is_nested(value) and not set(value) - set(names)  # type: ignore[call-overload]


def _is_nested(value: object) -> bool:
    return type(value) is dict and all(type(one) is dict for one in value.values())


def _is_roots(value: object) -> bool:
    return type(value) is dict and not value.keys() - {"listChanged"} and type(value.get("listChanged", True)) is bool


_CAPABILITIES: dict[str, Callable[[object], bool]] = {
    "roots": _is_roots,
    "sampling": _objects("context", "tools"),
    "elicitation": _objects("form", "url"),
    "experimental": _is_nested,
    "extensions": _is_nested,
}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
