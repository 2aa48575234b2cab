"""Stand-ins on loopback for the model APIs that MCP clients talk to, with a scripted assistant behind them.

    with serving(assistant) as url: …   # url/openai, url/anthropic, url/gemini, url/raw

What a client sends here is what its model gets to see, made by the client's own code. Five request formats are
understood: OpenAI's chat completions and responses, Anthropic's messages, Gemini's generateContent, each whole or as a
stream; and `raw`, for clients that have no model: `{"tools": [names], "content": [blocks]}` in, `{"tool", "arguments"}`
or `{"text"}` out. A picture in the place that the API has for pictures is a picture; everything else is text.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.assistant import Assistant, HttpRequest, Seen, as_text, together

Events = list[tuple[str, dict[str, Any]]]
CREATED = int(time.time())
"""Of every answer: the same request has the same answer in any second."""
TOOLS = (
    "upload_images",
    "edit_sequence",
    "edit_chain",
    "generate_sequence",
    "get_status",
    "list_jobs",
    "cancel_job",
    "list_models",
    "view_images",
    "save_images",
)
NO_TASK = "Understood."
FINISHERS = ("final_answer",)
"""Tools of a framework by which its model says the last words."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the tools on offer, and what is new since the model's last turn."""

    tools: dict[str, Any]
    turns: int
    new: Seen
    in_code: bool = False
    """The model calls tools by Python code, as smolagents' code agent wants it."""


@dataclass(slots=True)
class Model:
    """The assistant as a model: names tools as the client does, answers a request that comes twice the same."""

    assistant: Assistant
    tools_chars: int = 0
    """Characters of what the client tells the model about the ten tools."""
    refused: list[str] = field(default_factory=list)
    """Requests that no format fits."""
    _given: dict[tuple[int, Seen], tuple[str, dict[str, Any]] | str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> tuple[str, dict[str, Any]] | str:
        """Return the call by the client's name of the tool, or words."""
        with self._lock:
            key = (asked.turns, asked.new)
            if key not in self._given:
                self._given[key] = self._answer(asked)
            return self._given[key]

    def _answer(self, asked: Asked) -> tuple[str, dict[str, Any]] | str:
        names = {tool: name for tool in TOOLS for name in asked.tools if re.search(rf"(^|[_/]){tool}$", name)}
        search = next((name for name in asked.tools if name == "ToolSearch"), None)
        if len(names) < len(TOOLS):
            missing = [tool for tool in TOOLS if tool not in names]
            return (search, {"query": "+triptych", "max_results": 20}) if search and missing else NO_TASK
        self.tools_chars = sum(len(as_text(asked.tools[name])) for name in names.values())
        wanted = self.assistant.answer(asked.new)
        if asked.in_code:
            return code(wanted)
        if isinstance(wanted, HttpRequest):
            return names[wanted.tool], wanted.arguments
        finisher = next((name for name in FINISHERS if name in asked.tools), None)
        return (finisher, {"answer": wanted}) if finisher else wanted


def code(wanted: HttpRequest | str) -> str:
    """Return Python code that prints a call's result, or ends with the last words."""
    if isinstance(wanted, str):
        return f"<code>\nfinal_answer({wanted!r})\n</code>"
    given = ", ".join(f"{name}={value!r}" for name, value in wanted.arguments.items())
    return f"<code>\nprint({wanted.tool}({given}))\n</code>"


# -- what a part of a message shows ------------------------------------------------------------------------------------


def part(block: Any) -> Seen:
    """Return what one block of a message shows to the model, in any of the formats."""
    match block:
        case str():
            return Seen(block)
        case {"type": "text" | "input_text" | "output_text", "text": str(text)} | {"text": str(text)}:
            return Seen(text)
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "input_image", "image_url": str(url)}:
            return picture(url)
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return picture(url)
        case {"type": "image", "source": {"type": "base64"}} | {"type": "image", "data": str()}:
            return Seen(pictures=1)
        case {"inlineData": {"mimeType": str(kind)}} if kind.startswith("image/"):
            return Seen(pictures=1)
        case {"fileData": {"fileUri": str(url)}}:
            return picture(url)
        case {"type": "tool_result" | "function_call_output"}:
            return parts(block.get("content", block.get("output", "")))
        case {"functionResponse": {"response": response, **rest}}:
            return together([Seen(as_text(response)), parts(rest.get("parts") or [])])
        case _:
            return Seen(as_text(block))


def parts(content: Any) -> Seen:
    """Return what a message's content shows: a text, a list of blocks, or nothing."""
    return together([part(block) for block in (content if isinstance(content, list) else [content or ""])])


def picture(url: str) -> Seen:
    return Seen(pictures=1) if url.startswith("data:") else Seen(linked=(url,))


def after(messages: Sequence[Any], ours: Callable[[Any], bool]) -> tuple[int, list[Any]]:
    """Return how many messages are the model's own, and those after the last of them."""
    places = [n for n, message in enumerate(messages) if ours(message)]
    return len(places), list(messages[places[-1] + 1 if places else 0 :])


# -- the formats -------------------------------------------------------------------------------------------------------


DEFINITION = re.compile(r"^(def (\w+)\(.*?\"\"\".*?\"\"\")", re.MULTILINE | re.DOTALL)


def read_chat(body: Any) -> Asked:
    turns, new = after(body["messages"], lambda message: message["role"] == "assistant")
    tools = {tool["function"]["name"]: tool for tool in body.get("tools") or []}
    seen = together([parts(message.get("content")) for message in new])
    if not tools:
        described = DEFINITION.findall(parts(body["messages"][0].get("content")).text)
        return Asked(dict(reversed(both) for both in described), turns, seen, in_code=bool(described))
    return Asked(tools, turns, seen)


def write_chat(answer: tuple[str, dict[str, Any]] | str, n: int) -> tuple[dict[str, Any], Events]:
    message: dict[str, Any] = {"role": "assistant", "content": answer if isinstance(answer, str) else None}
    if not isinstance(answer, str):
        function = {"name": answer[0], "arguments": as_text(answer[1])}
        message["tool_calls"] = [{"index": 0, "id": f"call_{n}", "type": "function", "function": function}]
    reason = "stop" if isinstance(answer, str) else "tool_calls"
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": f"chat_{n}", "created": CREATED, "model": "scripted"}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": usage,
    }
    chunk = {**head, "object": "chat.completion.chunk"}
    events: Events = [
        ("", {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}),
        ("", {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage}),
    ]
    return whole, events


def read_responses(body: Any) -> Asked:
    given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    turns, new = after(given, lambda item: item.get("type") == "function_call" or item.get("role") == "assistant")
    tools: dict[str, Any] = {}
    for tool in body.get("tools") or []:
        if tool.get("type") == "namespace":  # the tools of one server
            tools |= {f"{tool['name']}/{one['name']}": one for one in tool["tools"]}
        else:
            tools[tool.get("name", tool["type"])] = tool
    shown = [part(item) if item.get("type") == "function_call_output" else parts(item.get("content")) for item in new]
    return Asked(tools, turns, together(shown))


def write_responses(answer: tuple[str, dict[str, Any]] | str, n: int) -> tuple[dict[str, Any], Events]:
    item: dict[str, Any]
    if isinstance(answer, str):
        content = [{"type": "output_text", "text": answer, "annotations": []}]
        item = {"type": "message", "id": f"msg_{n}", "status": "completed", "role": "assistant", "content": content}
    else:
        item = {"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "status": "completed"}
        namespace, _, name = answer[0].rpartition("/")
        item |= {"name": name, "arguments": as_text(answer[1])} | ({"namespace": namespace} if namespace else {})
    details: dict[str, Any] = {
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    whole = {
        "id": f"resp_{n}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": "scripted",
        "output": [item],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, **details},
    }
    started = {**whole, "status": "in_progress", "output": []}
    steps: Events = [
        ("response.created", {"response": started}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    return whole, [(name, {"type": name, "sequence_number": i, **data}) for i, (name, data) in enumerate(steps)]


def read_messages(body: Any) -> Asked:
    turns, new = after(body["messages"], lambda message: message["role"] == "assistant")
    blocks = [block for message in new for block in _blocks(message["content"])]
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    # Beside a result there may be reminders of the host's own.
    shown = results or blocks
    # A tool that is deferred is there once a search has answered with a reference to it.
    found = {block["tool_name"] for block in _references(body["messages"])}
    offered = [tool for tool in body.get("tools") or [] if not tool.get("defer_loading") or tool["name"] in found]
    tools = {tool["name"]: tool for tool in offered}
    return Asked(tools, turns, together([part(block) for block in shown]))


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


def _references(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and value.get("type") == "tool_reference":
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _references(inner)


def write_messages(answer: tuple[str, dict[str, Any]] | str, n: int) -> tuple[dict[str, Any], Events]:
    block: dict[str, Any]
    empty: dict[str, Any]
    if isinstance(answer, str):
        block, empty = {"type": "text", "text": answer}, {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": answer}
    else:
        empty = {"type": "tool_use", "id": f"toolu_{n}", "name": answer[0], "input": {}}
        block = {**empty, "input": answer[1]}
        delta = {"type": "input_json_delta", "partial_json": as_text(answer[1])}
    reason = "end_turn" if isinstance(answer, str) else "tool_use"
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {"id": f"msg_{n}", "type": "message", "role": "assistant", "model": "scripted", "stop_sequence": None}
    whole = {**head, "content": [block], "stop_reason": reason, "usage": usage}
    steps: Events = [
        ("message_start", {"message": {**whole, "content": [], "stop_reason": None}}),
        ("content_block_start", {"index": 0, "content_block": empty}),
        ("content_block_delta", {"index": 0, "delta": delta}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}),
        ("message_stop", {}),
    ]
    return whole, [(name, {"type": name, **data}) for name, data in steps]


def read_gemini(body: Any) -> Asked:
    turns, new = after(body["contents"], lambda content: content.get("role") == "model")
    blocks = [block for content in new for block in content.get("parts") or []]
    tools = {one["name"]: one for tool in body.get("tools") or [] for one in tool.get("functionDeclarations") or []}
    return Asked(tools, turns, together([part(block) for block in blocks]))


def write_gemini(answer: tuple[str, dict[str, Any]] | str, n: int) -> tuple[dict[str, Any], Events]:
    said = {"text": answer} if isinstance(answer, str) else {"functionCall": {"name": answer[0], "args": answer[1]}}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    content = {"role": "model", "parts": [said]}
    whole = {"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}], "usageMetadata": usage}
    return whole, [("", whole)]


def read_raw(body: Any) -> Asked:
    tools = {(tool if isinstance(tool, str) else tool["name"]): tool for tool in body["tools"]}
    return Asked(tools, body["turns"], parts(body["content"]))


def write_raw(answer: tuple[str, dict[str, Any]] | str, n: int) -> tuple[dict[str, Any], Events]:
    said = {"text": answer} if isinstance(answer, str) else {"tool": answer[0], "arguments": answer[1]}
    return said, []


FORMATS: dict[str, tuple[Callable[[Any], Asked], Callable[..., tuple[dict[str, Any], Events]]]] = {
    "/chat/completions": (read_chat, write_chat),
    "/responses": (read_responses, write_responses),
    "/messages": (read_messages, write_messages),
    ":generateContent": (read_gemini, write_gemini),
    ":streamGenerateContent": (read_gemini, write_gemini),
    "/raw": (read_raw, write_raw),
}


# -- the server --------------------------------------------------------------------------------------------------------


@contextmanager
def serving(assistant: Assistant) -> Iterator[tuple[str, Model]]:
    """Serve the model APIs on a free port of loopback for as long as the block runs."""
    model = Model(assistant)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send({"object": "list", "data": [], "models": []})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            path = self.path.partition("?")[0]
            found = next((both for ending, both in FORMATS.items() if path.endswith(ending)), None)
            if path.endswith(("/count_tokens", ":countTokens")):
                return self._send({"input_tokens": 1, "totalTokens": 1})
            if found is None:
                model.refused.append(path)
                return self._send({"error": {"message": f"no such path: {path}"}}, 404)
            read, write = found
            asked = read(body)
            whole, events = write(model.answer(asked), asked.turns + 1)
            if body.get("stream") or path.endswith(":streamGenerateContent"):
                return self._stream(events, ends=path.endswith("/chat/completions"))
            return self._send(whole)

        def _send(self, body: Any, status: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, events: Events, *, ends: bool) -> None:
            lines = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n" for name, data in events]
            data = "".join([*lines, "data: [DONE]\n\n"] if ends else lines).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
