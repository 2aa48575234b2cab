"""What the tests themselves need of a system is asked in one place."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

import pytest

from support import systems


@pytest.mark.parametrize(
    ("platform", "python"),
    [("linux", "venv/bin/python"), ("darwin", "venv/bin/python"), ("win32", "venv/Scripts/python.exe")],
)
def test_the_interpreter_of_an_environment_is_found(platform: str, python: str) -> None:
    environment: Any = PurePosixPath("venv")
    assert systems.python_of(environment, platform) == PurePosixPath(python)


def test_a_child_gets_what_every_program_needs_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMROOT", r"C:\Windows")
    monkeypatch.setenv("ATLASCLOUD_API_KEY", "sk-secret")
    found = systems.child_environment(TRIPTYCH_HOME="/there")
    assert found["SYSTEMROOT"] == r"C:\Windows" and found["PATH"] == os.environ["PATH"]
    assert found["TRIPTYCH_HOME"] == "/there" and "ATLASCLOUD_API_KEY" not in found


def test_links_are_tried_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(systems.Path, "symlink_to", refused)
    assert systems.can_link.__wrapped__() is False
