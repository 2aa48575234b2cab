"""What a thread reads from the client is taken as lines, then handed over without a loss."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator

import pytest

from triptych.thin.messages import LONGEST_LINE_BYTES
from triptych.thin.pipe import HandedOver, Pipe


class Client:
    """The end of a pipe at which the client writes."""

    def __init__(self) -> None:
        read, self.fd = os.pipe()
        self.pipe = Pipe(read)
        self.pipe.start()

    def say(self, data: bytes) -> None:
        os.write(self.fd, data)

    def leave(self) -> None:
        os.close(self.fd)


@pytest.fixture
def client() -> Iterator[Client]:
    found = Client()
    yield found
    try:
        found.leave()
    except OSError:
        return


def line(client: Client) -> bytes | None:
    return client.pipe.line(60.0, lambda: 0.0)


def test_lines_come_whole_and_in_order(client: Client) -> None:
    for part in (b"a", b"b\nc", b"d\n\ne"):
        client.say(part)
    client.leave()
    assert [line(client) for _ in range(5)] == [b"ab\n", b"cd\n", b"\n", b"e", None]
    assert client.pipe.ended


def test_a_look_at_the_clock_interrupts_the_wait(client: Client) -> None:
    client.say(b"half")
    assert client.pipe.line(0.0, lambda: 1.0) is None and not client.pipe.ended
    client.say(b" a line\n")
    assert line(client) == b"half a line\n"


def test_a_line_that_is_too_long_is_not_waited_for(client: Client) -> None:
    threading.Thread(target=client.say, args=(b"x" * (LONGEST_LINE_BYTES + 1),)).start()
    found = line(client)
    assert found and len(found) > LONGEST_LINE_BYTES and not found.endswith(b"\n")


def test_all_bytes_are_handed_over(client: Client) -> None:
    client.say(b"one\ntwo\nthree\nfo")
    assert line(client) == b"one\n" and line(client) == b"two\n"
    client.pipe.unread(b"two\n")
    text = io.TextIOWrapper(io.BufferedReader(HandedOver(client.pipe, [])), encoding="utf-8")
    assert [text.readline() for _ in range(2)] == ["two\n", "three\n"]
    client.say(b"ur\n")
    client.leave()
    assert list(text) == ["four\n"]


def test_the_next_line_waits_for_the_answer_that_the_client_has(client: Client) -> None:
    client.say(b"next\n")
    handed = HandedOver(client.pipe, [(b"first\n", 1), (b"notice\n", None), (b"stream\n", "s")])
    text, heard = io.TextIOWrapper(io.BufferedReader(handed), encoding="utf-8"), list[str]()
    reader = threading.Thread(target=lambda: heard.extend(text.readline() for _ in range(4)))
    assert not handed.drops(1), "nothing was read yet"
    reader.start()
    while not handed.drops(1):
        assert not handed.drops("1") and not handed.drops(None)
    assert not handed.drops(1), "the second answer of this id is the client's"
    while not handed.drops("s"):
        pass
    reader.join(60)
    assert heard == ["first\n", "notice\n", "stream\n", "next\n"]
    assert not handed.drops("s")
