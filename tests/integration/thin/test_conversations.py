"""The thin start says what the real server says, byte for byte, to every client whose words were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import wire
from support.thin_here import Judged
from support.wire import REAL, TRIPTYCH, Talk

CONVERSATIONS = {path.stem: path for path in sorted((Path(wire.__file__).parent / "conversations").glob("*.jsonl"))}
WAKE = b'{"jsonrpc":"2.0","id":"wake","method":"prompts/get","params":{"name":"no such prompt"}}\n'
"""A request that only the real server can refuse."""
FIRST_CALL = ("tools/call", "resources/read", "resources/subscribe", "prompts/get", "completion/complete")
PROCESSES = ("claude-code", "claude-code-check-slow", "codex", "gemini-cli", "inspector-3", "typescript-work-auto-2")


def lines_of(name: str) -> list[bytes]:
    return CONVERSATIONS[name].read_bytes().splitlines(keepends=True)


def opening_of(name: str) -> list[bytes]:
    """Return what a client says before its first real call."""
    lines = lines_of(name)
    methods = [json.loads(line).get("method") for line in lines]
    return lines[: next((n for n, method in enumerate(methods) if method in FIRST_CALL), len(lines))]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_each_answer_is_that_of_the_real_server(judged: Judged, name: str) -> None:
    judged.compare(lines_of(name))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_all_said_at_once_is_answered_the_same(judged: Judged, name: str) -> None:
    judged.compare([b"".join(line for line in lines_of(name) if b"notifications/cancelled" not in line)])


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_wake_at_any_point_changes_no_answer(judged: Judged, name: str) -> None:
    opening = opening_of(name)
    for n in range(len(opening) + 1):
        judged.compare([*opening[:n], WAKE, *opening[n:]])


WAKES_EARLY = {"conformance-2025-11-25", "conformance-2026-07-28", "conformance-stable", "claude-code-check-slow"}


@pytest.mark.parametrize("name", sorted(CONVERSATIONS.keys() - WAKES_EARLY))
def test_a_client_that_only_connects_needs_no_real_server(judged: Judged, name: str) -> None:
    assert not judged.compare(opening_of(name)).woke


def test_an_id_that_looks_like_a_mark_is_kept(judged: Judged) -> None:
    lines = [line for line in lines_of("inspector-1") if b"tools/list" not in line]
    lines += [b'{"jsonrpc":"2.0","id":"@%s@","method":"resources/list"}\n' % mark for mark in (b"id", b"images")]
    judged.compare(lines)


@pytest.mark.parametrize("name", PROCESSES)
def test_processes_on_real_pipes_say_the_same(judged: Judged, name: str) -> None:
    lines = lines_of(name)
    expected = judged.expected(*lines)
    for argv in (TRIPTYCH, REAL):
        talk = Talk(judged.environ, argv)
        for line, answers in zip(lines, expected, strict=False):
            talk.say(line)
            assert talk.hear(len(answers)) == answers, (argv, line)
        assert talk.end() == expected[-1], argv
