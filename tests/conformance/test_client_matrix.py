"""The stand-ins for model APIs, and the scripted assistant behind them, that `benchmarks.clients` counts with."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from benchmarks.assistant import DONE, Assistant, HttpRequest, Seen
from benchmarks.client_list import CLIENTS
from benchmarks.clients import PAGE, TRANSPORTS
from benchmarks.model_api import TOOLS, Model, serving

JPEG = "/9j/" + "A" * 2000
DATA_URL = f"data:image/jpeg;base64,{JPEG}"
WEB = "https://images.example/1.png"
SAID = "img_12345678 uploaded"


def chat(*new: Any) -> tuple[str, dict[str, Any]]:
    tools = [{"type": "function", "function": {"name": f"triptych_{name}"}} for name in TOOLS]
    return "/openai/chat/completions", {"messages": [{"role": "user", "content": "Begin."}, *new], "tools": tools}


def responses(*new: Any) -> tuple[str, dict[str, Any]]:
    tools = [{"type": "namespace", "name": "triptych", "tools": [{"name": name} for name in TOOLS]}]
    return "/openai/responses", {"input": [{"role": "user", "content": "Begin."}, *new], "tools": tools}


def messages(*new: Any) -> tuple[str, dict[str, Any]]:
    tools = [{"name": f"mcp__triptych__{name}"} for name in TOOLS]
    return "/anthropic/v1/messages", {"messages": [{"role": "user", "content": "Begin."}, *new], "tools": tools}


def gemini(*new: Any) -> tuple[str, dict[str, Any]]:
    tools = [{"functionDeclarations": [{"name": name} for name in TOOLS]}]
    begin = {"role": "user", "parts": [{"text": "Begin."}]}
    return "/gemini/v1beta/models/x:generateContent", {"contents": [begin, *new], "tools": tools}


RESULTS: dict[str, tuple[Any, list[Any]]] = {
    "chat": (
        chat,
        [
            {"role": "assistant", "content": None},
            {"role": "tool", "content": SAID},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": DATA_URL}},
                    {"type": "image_url", "image_url": {"url": WEB}},
                ],
            },
        ],
    ),
    "responses": (
        responses,
        [
            {"type": "function_call", "name": "x"},
            {
                "type": "function_call_output",
                "output": [
                    {"type": "input_text", "text": SAID},
                    {"type": "input_image", "image_url": DATA_URL},
                    {"type": "input_image", "image_url": WEB},
                ],
            },
        ],
    ),
    "messages": (
        messages,
        [
            {"role": "assistant", "content": []},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "content": [
                            {"type": "text", "text": SAID},
                            {"type": "image", "source": {"type": "base64", "data": JPEG}},
                            {"type": "image", "source": {"type": "url", "url": WEB}},
                        ],
                    },
                    {"type": "text", "text": "a reminder of the host's own"},
                ],
            },
        ],
    ),
    "gemini": (
        gemini,
        [
            {"role": "model", "parts": []},
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "x", "response": {"output": SAID}}},
                    {"inlineData": {"mimeType": "image/jpeg", "data": JPEG}},
                    {"fileData": {"fileUri": WEB}},
                ],
            },
        ],
    ),
}


def post(url: str, body: dict[str, Any]) -> str:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("name", RESULTS)
def test_a_picture_is_told_from_a_link_and_from_text(name: str) -> None:
    ask, result = RESULTS[name]
    assistant = Assistant("photo.jpg", "saved")
    with serving(assistant) as (root, _):
        for new in ([], result):
            path, body = ask(*new)
            answer = post(root + path, body)
    seen = assistant.exchanges[0].seen
    assert seen and SAID in seen.text and "reminder" not in seen.text
    assert (seen.pictures, seen.linked, seen.base64_chars()) == (1, (WEB,), 0)
    assert assistant.exchanges[1].call.tool == "edit_sequence" and "edit_sequence" in answer


@pytest.mark.parametrize("name", RESULTS)
def test_a_stream_carries_the_same_call_as_a_whole_answer(name: str) -> None:
    path, body = RESULTS[name][0]()
    streamed = {**body, "stream": True}
    with serving(Assistant("photo.jpg", "saved")) as (root, _):
        whole = post(root + path, body)
        stream = post(root + path.replace(":generate", ":streamGenerate"), streamed)
    for said in (whole, stream):
        assert "upload_images" in said and "photo.jpg" in said
    assert stream.startswith(("data: ", "event: "))


def test_a_request_that_comes_twice_is_one_call() -> None:
    assistant = Assistant("photo.jpg", "saved")
    with serving(assistant) as (root, _):
        path, body = chat()
        assert post(root + path, body) == post(root + path, body)
    assert len(assistant.exchanges) == 1


def test_base64_in_text_is_counted() -> None:
    assert Seen(json.dumps({"image": JPEG})).base64_chars() == len(JPEG)


def test_what_the_script_needs_is_read_from_json_in_json() -> None:
    inner = json.dumps({"job_id": "job_12345678", "status": "done"})
    assert '"status": "done"' in Seen(json.dumps([json.dumps(inner)])).plain()


def play(assistant: Assistant, *shown: str) -> HttpRequest | str:
    answer = assistant.answer(Seen("Begin."))
    for text in shown:
        answer = assistant.answer(Seen(text))
    return answer


def test_the_script_follows_a_job_and_ends_with_the_files() -> None:
    assistant = Assistant("photo.jpg", "saved")
    running = 'job_00000002: running, 0 of 2 images\nnext: get_status(job_id="job_00000002", wait_s=50)'
    asked = play(assistant, SAID, "job_00000001: done, 2 of 2", running)
    assert asked == HttpRequest("get_status", {"job_id": "job_00000002", "wait_s": 50})
    answer = DONE
    for text in ("job_00000002: done, 2 of 2", "a sheet", "saved as variant-01.png"):
        answer = str(assistant.answer(Seen(text)))
    assert answer == DONE and assistant.finished and len(assistant.exchanges) == 6


def test_a_result_that_is_not_shown_is_asked_for_again() -> None:
    assistant = Assistant("photo.jpg", "saved")
    lost = "An error occurred while running the tool. Please try again."
    first = play(assistant, SAID)
    assert assistant.answer(Seen(lost)) == first
    for _ in range(3):
        answer = assistant.answer(Seen(lost))
    assert answer == assistant.gave_up and "edit_sequence" in assistant.gave_up and not assistant.finished


def test_a_host_that_defers_tools_is_searched_first() -> None:
    path, body = messages()
    body["tools"] = [{"name": "ToolSearch"}, *({**tool, "defer_loading": True} for tool in body["tools"])]
    model = Model(Assistant("photo.jpg", "saved"))
    with serving(model.assistant) as (root, _):
        assert "ToolSearch" in post(root + path, body)
        found = [{"type": "tool_reference", "tool_name": tool["name"]} for tool in body["tools"][1:]]
        result = {"role": "user", "content": [{"type": "tool_result", "content": found}]}
        body["messages"] += [{"role": "assistant", "content": []}, result]
        assert "upload_images" in post(root + path, body)


def test_the_page_has_every_client_over_both_transports() -> None:
    page = PAGE.read_text("utf-8")
    for client in CLIENTS:
        for transport in TRANSPORTS:
            assert f"| {client.title} | {client.model} | {transport} |" in page
