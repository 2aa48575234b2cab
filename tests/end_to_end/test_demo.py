"""The demo, run for real: it shows everything, and it fails when something is not shown."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import triptych_emulators
from triptych.cli import demo
from triptych.core import errors

pytestmark = pytest.mark.anyio

SMALLER = """
import functools
import triptych_emulators
from triptych.cli import demo, main
demo.running = functools.partial(triptych_emulators.running, max_side=800)
main()
"""
"""The command, at an emulated API whose pictures are not as large as real ones: drawing those takes longest."""


@pytest.mark.slow
@pytest.mark.usefixtures("ordinary_start")
def test_the_demo_drives_the_real_server_through_every_tool(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SMALLER, "demo", "--out", str(out), "--json"]
    # A home of the user's own, and a key: the demo uses neither.
    env = {**os.environ, "TRIPTYCH_HOME": str(tmp_path / "theirs"), "ATLASCLOUD_API_KEY": "sk-theirs-1234567890"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = json.loads(ended.stdout)
    assert shown["ok"] is True
    assert shown["wrong"] == []
    assert shown["seconds"] > 0
    assert shown["quoted_usd"] == shown["charged_usd"] == pytest.approx(4 * 0.032 + 6 * 0.043)
    assert len(shown["urls"]) == 10
    assert [Path(path).name for path in shown["sheets"]] == ["contact-sheet.jpg", "chain.jpg"]
    for path in shown["sheets"]:
        with Image.open(path) as sheet:
            sheet.verify()
    assert all(Path(path).stat().st_size <= 400_000 for path in shown["sheets"])
    assert not (tmp_path / "theirs").exists()
    assert "4 of 4 images" in ended.stderr
    assert (out / "server.log").read_text("utf-8") == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in triptych_emulators.names() if name != "atlas"])
async def test_the_demo_shows_the_same_through_every_other_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Small pictures, soon: most of a demo is drawing and waiting.
    monkeypatch.setattr(demo, "running", functools.partial(triptych_emulators.running, max_side=256))
    monkeypatch.setattr(demo, "LATENCY_S", 0.3)
    shown = await demo.show(tmp_path / "out", name, lambda line: None)
    assert shown.ok, shown.wrong
    assert len(shown.urls) == 10
    assert shown.quoted_usd == shown.charged_usd > 0


async def test_a_refused_step_fails_the_demo_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LANES", ("no-such-photo.jpg",))
    said: list[str] = []
    shown = await demo.show(tmp_path / "out", "atlas", said.append)
    assert shown.ok is False
    assert shown.wrong[0].startswith("upload_images was refused: ")
    assert "no-such-photo.jpg" in shown.wrong[0]
    assert any(line.startswith("  ✗ upload_images was refused") for line in said)


async def test_a_server_that_cannot_start_fails_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    shown = await demo.show(tmp_path / "out", "atlas", lambda line: None)
    assert shown.ok is False
    assert "the connection broke" in shown.wrong[0]


async def test_a_home_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "home" / "triptych.db"
    kept.parent.mkdir()
    kept.write_text("theirs")
    with pytest.raises(errors.NotAllowed, match="--out"):
        await demo.show(tmp_path, "atlas", lambda line: None)
    assert kept.read_text() == "theirs"


async def test_without_a_terminal_a_meter_prints_each_change_once() -> None:
    said: list[Any] = []
    meter = demo.Meter(said.append, live=False)
    async with meter.running():
        for done in (0, 0, 1, 1, 2):
            meter.set(done, 2)
    assert [line.split(",")[0].strip(" █░") for line in said] == ["0 of 2 images", "1 of 2 images", "2 of 2 images"]
