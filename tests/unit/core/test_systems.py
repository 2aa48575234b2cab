"""Each system's branch of what differs between systems, on every system."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from triptych.core import clock, errors, systems
from triptych.images import allowed_paths
from triptych.thin import database

PLATFORMS = ("linux", "darwin", "win32")


def module(name: str, **contents: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(contents)
    return made


# -- signals


@pytest.mark.parametrize("platform", PLATFORMS)
def test_control_break_also_stops_on_windows(platform: str) -> None:
    numbers = systems.stop_signals(platform)
    assert numbers[:2] == (signal.SIGINT, signal.SIGTERM)
    assert numbers[2:] == ((21,) if platform == "win32" else ())


def test_the_stop_signals_of_this_system_can_be_handled() -> None:
    before = {number: signal.getsignal(number) for number in systems.stop_signals()}
    for number, handler in before.items():
        signal.signal(number, handler)


# -- sockets


class Options:
    """A socket that notes its options."""

    def __init__(self) -> None:
        self.set: list[tuple[int, int, int]] = []

    def setsockopt(self, *option: int) -> None:
        self.set.append(option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "option"),
    [("linux", socket.SO_REUSEADDR), ("darwin", socket.SO_REUSEADDR), ("win32", ~socket.SO_REUSEADDR)],
)
def test_an_address_is_claimed_alone(platform: str, option: int) -> None:
    noted: Any = Options()
    systems.claim_address(noted, platform)
    assert noted.set == [(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", option), 1)] or noted.set == [
        (socket.SOL_SOCKET, option, 1)
    ]


def test_no_second_socket_gets_a_claimed_address() -> None:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            systems.claim_address(one)
        first.bind(("127.0.0.1", 0))
        first.listen()
        with pytest.raises(OSError):
            second.bind(first.getsockname())


# -- files


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return the flushes: their kinds and descriptors."""
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(("fsync", descriptor)))
    full = module("fcntl", F_FULLFSYNC=51, fcntl=lambda descriptor, how: seen.append((f"fcntl {how}", descriptor)))
    monkeypatch.setitem(sys.modules, "fcntl", full)
    return seen


@pytest.mark.parametrize(("platform", "how"), [("linux", "fsync"), ("darwin", "fcntl 51"), ("win32", "fsync")])
def test_a_file_is_flushed_through_the_drives_cache(flushed: list[tuple[str, int]], platform: str, how: str) -> None:
    systems.flush_file(7, platform)
    assert flushed == [(how, 7)]


def test_a_file_system_without_a_full_flush_gets_the_usual_one(
    flushed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: int) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr(sys.modules["fcntl"], "fcntl", unable)
    systems.flush_file(7, "darwin")
    assert flushed == [("fsync", 7)]


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no directory, in any branch")
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_directory_is_flushed_and_closed(flushed: list[tuple[str, int]], platform: str, tmp_path: Path) -> None:
    systems.flush_directory(tmp_path, platform)
    [(_, descriptor)] = flushed
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_windows_opens_no_directory(flushed: list[tuple[str, int]], tmp_path: Path) -> None:
    systems.flush_directory(tmp_path / "not there", "win32")
    assert flushed == []


class Busy:
    """A source whose target is open in another program for some tries."""

    def __init__(self, tries: int) -> None:
        self.left = tries
        self.tried = 0

    def replace(self, _target: Path) -> None:
        self.tried += 1
        if self.left:
            self.left -= 1
            raise PermissionError(13, "Access is denied")


@pytest.mark.parametrize(("busy", "tried"), [(0, 1), (3, 4), (systems.REPLACE_TRIES - 1, systems.REPLACE_TRIES)])
def test_windows_waits_for_a_target_that_is_open(busy: int, tried: int) -> None:
    source: Any = Busy(busy)
    slept: list[float] = []
    systems.replace(source, Path("there"), "win32", slept.append)
    assert (source.tried, len(slept)) == (tried, busy)


@pytest.mark.parametrize(("platform", "tried"), [("linux", 1), ("darwin", 1), ("win32", systems.REPLACE_TRIES)])
def test_a_target_that_stays_open_is_an_error(platform: str, tried: int) -> None:
    source: Any = Busy(1000)
    with pytest.raises(PermissionError):
        systems.replace(source, Path("there"), platform, lambda _: None)
    assert source.tried == tried


def test_a_file_is_moved_over_another(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    systems.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new" and not (tmp_path / "new").exists()


def test_case_counts_on_linux_alone() -> None:
    assert [systems.names_ignore_case(platform) for platform in PLATFORMS] == [False, True, True]


@pytest.mark.parametrize("share", [r"\\server\share\a.png", "//server/share/a.png", r"\\?\UNC\server\share\a.png"])
def test_a_windows_share_is_known_by_its_name_alone(share: str) -> None:
    with pytest.raises(errors.NotAllowed, match="network share"):
        allowed_paths.require_on_this_machine(share, PureWindowsPath(share), [PureWindowsPath(r"C:\pictures")])


# -- clocks


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A Windows that has been up for 90 seconds, in its seventh boot."""

    class Key:
        def __enter__(self) -> Key:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def ticks_ms() -> int:
        return 90_000

    facts: dict[str, Any] = {"BootId": (7, 4)}
    registry = module(
        "winreg", HKEY_LOCAL_MACHINE=1, OpenKey=lambda *_: Key(), QueryValueEx=lambda _, name: facts[name]
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(ctypes, "WinDLL", lambda _: types.SimpleNamespace(GetTickCount64=ticks_ms), raising=False)
    clock.boot_id.cache_clear()
    yield facts
    clock.boot_id.cache_clear()


def test_windows_counts_from_its_boot_with_one_counter(windows: dict[str, Any]) -> None:
    assert clock._since_boot_s("win32") == 90.0
    assert clock.boot_id("win32") == "7"


def test_a_thin_start_on_windows_reads_the_same_counter(windows: dict[str, Any]) -> None:
    assert database.clock("win32") == clock._since_boot_s("win32")


def test_a_windows_without_a_boot_id_has_an_empty_one(windows: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(sys.modules["winreg"], "QueryValueEx", missing)
    assert clock.boot_id("win32") == ""


def test_macos_says_its_boot_by_a_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    session = b"4A1F0B5E-7C55-4E0E-9E0B-0F5B7D1C2D3E"

    def sysctlbyname(name: bytes, buffer: Any, *_: object) -> int:
        assert name == b"kern.bootsessionuuid"
        buffer.value = session
        return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(sysctlbyname=sysctlbyname))
    clock.boot_id.cache_clear()
    assert clock.boot_id("darwin") == session.decode()
    clock.boot_id.cache_clear()


@pytest.mark.parametrize("platform", ["freebsd14", "sunos5"])
def test_other_systems_have_no_boot_id(platform: str) -> None:
    assert clock.boot_id(platform) == ""


def test_the_time_since_boot_never_goes_back() -> None:
    first = clock.SystemClock().monotonic()
    assert 0 <= first <= clock.SystemClock().monotonic()
    assert time.monotonic() > 0
