"""Every way in which text leaves, with one hostile text behind it: a prompt, a file name, a provider's message."""

from __future__ import annotations

import io
import json
import logging
import os
import sqlite3
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from click.testing import CliRunner
from mcp import Client, MCPError

from support.fixtures import Finish, MakeService
from support.jobs import generate_sequence
from support.pictures import picture
from triptych import logs, settings
from triptych.cli import cli, main
from triptych.core import errors, text
from triptych.core.models import Failure
from triptych.images import contact_sheet
from triptych.images.naming import safe_name
from triptych.server import transports
from triptych.server.app import build
from triptych.server.progress import MonotonicProgress

HOSTILE = "a\x1b]0;owned\x07b\x9b31mc\u202ed\u2066e\u200bf\ufeffg\u2028h\rj\x00k\x7fl\U000e0041m\u00adn"
FLOOD = HOSTILE + "\n" * 500 + "job_00000000 done 4/4 forged" + "x" * 100_000
PROMPT = HOSTILE + "\n" * 50 + "job_00000000 done 4/4 forged"
KEPT = "first line\nsecond line\n\nthird"


def leaks(said: str) -> set[str]:
    """Return what of a text must not leave."""
    unseen = {c for c in said if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    return unseen | ({"flood"} if "\n\n\n" in said else set())


def texts(value: Any) -> Iterator[str]:
    """Yield every text in JSON data, names of fields too."""
    match value:
        case str():
            yield value
        case dict():
            for name, item in value.items():
                yield name
                yield from texts(item)
        case list():
            for item in value:
                yield from texts(item)


def assert_clean(value: Any) -> None:
    for said in texts(value):
        assert not leaks(said), repr(said[:300])


# The stage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile_dir(tmp_path: Path) -> Path:
    """A directory with a picture, both of hostile names as far as a file system takes them."""
    name = HOSTILE.replace("\x00", "").replace("/", "") if os.name != "nt" else "a\u202ed\u200bf\ufeffg"
    directory = tmp_path / f"open {name}"
    directory.mkdir()
    (directory / f"{name}.png").write_bytes(picture())
    return directory


def spoil(home: Path) -> None:
    """Write into the database what an earlier version may have stored from a hostile provider."""
    fault = json.dumps({"kind": "failed", "message": FLOOD, "retryable": False, "request_id": HOSTILE})
    with sqlite3.connect(home / "triptych.db") as db:
        db.execute("UPDATE jobs SET warnings = ?, model = ?, save_to = ?", (json.dumps([FLOOD]), HOSTILE, HOSTILE))
        db.execute("UPDATE predictions SET fault = ?", (fault,))
        db.execute("UPDATE frames SET url = ?, error = ?", (f"https://images.example/{HOSTILE}", HOSTILE))
    db.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# The server ----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_nothing_unseen_leaves_the_server(
    make_service: MakeService, finish: Finish, hostile_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile_dir)
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(hostile_dir), TRIPTYCH_CONFIRM_USD="0") as service:

        async def open_service() -> Any:
            return service

        said: list[Any] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            said.append(message)

        async with Client(build(open_service, remote=False)) as client:
            call: Callable[..., Any] = client.call_tool
            [file] = [str(path) for path in hostile_dir.iterdir()]
            made = await call(
                "generate_sequence", {"prompt": PROMPT, "count": 2, "max_cost_usd": 1}, progress_callback=progress
            )
            said.append(made.model_dump(mode="json"))
            job_id = made.structured_content["job_id"]
            await finish(service)
            spoil(tmp_path / "home")
            for tool, given in (
                ("get_status", {"job_id": job_id}),
                ("list_jobs", {}),
                ("list_models", {"query": HOSTILE}),
                ("list_models", {"provider": HOSTILE}),
                ("upload_images", {"images": [file]}),
                ("upload_images", {"images": [f"{file}-missing"]}),
                ("edit_sequence", {"images": [file], "prompt": HOSTILE, "dry_run": True}),
                ("edit_chain", {"images": [file], "steps": [HOSTILE, KEPT], "save_to": str(hostile_dir)}),
                ("generate_sequence", {"prompt": "a fox", "model": HOSTILE}),
                ("generate_sequence", {"prompt": "a fox", HOSTILE: HOSTILE}),
                ("save_images", {"images": [job_id + "/1"], "directory": str(hostile_dir), "name": HOSTILE}),
                ("save_images", {"images": [job_id + "/1"], "directory": HOSTILE}),
                ("cancel_job", {"job_id": job_id}),
                ("cancel_job", {"job_id": HOSTILE}),
            ):
                result = await call(tool, given, progress_callback=progress)
                said.append(result.model_dump(mode="json"))
            await finish(service)
            said += [b.text for b in (await call("view_images", {"images": [job_id]})).content if b.type == "text"]
            listed = await client.list_resources()
            said.append(listed.model_dump(mode="json"))
            for uri in [str(r.uri) for r in listed.resources] + [f"triptych://jobs/{job_id}"]:
                for one in (await client.read_resource(uri)).contents:
                    said.append(getattr(one, "meta", None))
                    said.append(json.loads(one.text) if isinstance(one, types.TextResourceContents) else None)
            said.append((await client.get_prompt("icon_set", {"subjects": f"{HOSTILE}; b"})).model_dump(mode="json"))
            for asking in (
                lambda: client.call_tool(HOSTILE, {}),
                lambda: client.read_resource(f"triptych://jobs/{HOSTILE}"),
                lambda: client.get_prompt("icon_set", {HOSTILE: "x"}),
            ):
                with pytest.raises(MCPError) as refused:
                    await asking()
                said += [refused.value.error.message, refused.value.error.data]
        assert len(said) > 20
        assert_clean(said)
        assert "forged" not in json.dumps([one for one in said if isinstance(one, str) and one.startswith("job_0")])


@pytest.mark.anyio
async def test_a_prompt_of_several_lines_stays_one(make_service: MakeService, finish: Finish) -> None:
    async with make_service() as service:
        job = await generate_sequence(service, KEPT + HOSTILE)
        await finish(service)

        async def open_service() -> Any:
            return service

        async with Client(build(open_service, remote=False)) as client:
            [read] = (await client.read_resource(f"triptych://jobs/{job.job_id}")).contents
            assert read.meta is not None
            [prompt] = read.meta["making"]["prompts"]
            listed = await client.call_tool("list_jobs", {})
        assert prompt.startswith(KEPT)
        [line] = listed.content[0].text.splitlines()
        assert line.endswith("first line second line third" + text.line(HOSTILE))
        assert service.store.plain.job(job.job_id).request.prompt == KEPT + HOSTILE, (
            "what is sent is what was asked for"
        )


@pytest.mark.anyio
async def test_a_progress_message_is_one_clean_line() -> None:
    said: list[str] = []

    async def send(done: float, total: float, message: str) -> None:
        said.append(message)

    await MonotonicProgress(send)(1, 2, f"reading {FLOOD}")
    assert not leaks(said[0]) and "\n" not in said[0]


def test_errors_and_questions_are_clean_from_the_start() -> None:
    error = errors.OverBudget(FLOOD, question=FLOOD)
    assert not leaks(error.message) and "\n" not in error.message
    assert not leaks(str(error))
    assert not leaks(error.question) and len(error.question) <= errors.MESSAGE_LIMIT_CHARS
    assert not leaks(errors.quoted(FLOOD))


# The command line ----------------------------------------------------------------------------------------------------


def test_nothing_unseen_leaves_the_command_line(
    hostile_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_ALLOWED_DIRS", str(hostile_dir))
    [file] = [str(path) for path in hostile_dir.iterdir()]

    def run(*args: str) -> str:
        result = CliRunner().invoke(cli, list(args))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        assert_clean(result.output)
        if args[-1] == "--json":
            assert_clean(json.loads(result.stdout))
        return result.stdout

    for more in ((), ("--json",)):
        run("generate", "-p", PROMPT, "--again", *more)
        job_id = json.loads(run("jobs", "--json"))["jobs"][0]["job_id"]
        spoil(tmp_path / "home")
        for args in (
            ("jobs",),
            ("status", job_id),
            ("status", HOSTILE.replace("\x00", "")),
            ("spend",),
            ("models",),
            ("models", HOSTILE),
            ("models", "--provider", HOSTILE),
            ("edit", file, "-p", HOSTILE, "--dry-run"),
            ("edit", f"{file}-missing", "-p", "warm"),
            ("upload", file),
            ("view", file, "-o", str(tmp_path / "sheet.jpg")),
            ("view", job_id, "-o", str(hostile_dir / "sheet.jpg")),
            ("view", job_id, "-o", str(hostile_dir / "no" / "sheet.jpg")),
            ("save", f"{job_id}/1", "-d", str(hostile_dir), "--name", HOSTILE),
            ("save", f"{job_id}/1", "-d", str(hostile_dir / HOSTILE.replace("\x00", ""))),
            ("cancel", job_id),
            ("doctor", "--offline"),
            ("emulate", HOSTILE),
        ):
            run(*args, *more)
        (hostile_dir / "sheet.jpg").unlink()
        for saved in hostile_dir.glob("**/*.png"):
            if str(saved) != file:
                saved.unlink()


def test_nothing_unseen_leaves_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for args in ([HOSTILE], ["jobs", f"--{HOSTILE}"], ["jobs", "-n", HOSTILE], ["jobs", HOSTILE]):
        monkeypatch.setattr(sys, "argv", ["triptych", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert "Error: " in said.err and not leaks(said.err + said.out), repr(said.err)


# Logs, pictures, files -----------------------------------------------------------------------------------------------


def test_a_log_line_is_one_line_and_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("INFO", environ={})
        logging.getLogger("triptych.test").warning("a provider said %s", HOSTILE + "\n2026-11-21 ERROR forged")
        try:
            raise ValueError(FLOOD)
        except ValueError:
            logging.getLogger("triptych.test").exception("it broke")
    finally:
        root.handlers[:], root.level = handlers, level
    first, second, *trace = stderr.getvalue().splitlines()
    assert first.endswith("ERROR forged")
    assert second.endswith("it broke")
    assert trace[0] == "Traceback (most recent call last):", "a traceback keeps its lines"
    assert not leaks(stderr.getvalue())


def test_a_line_logged_before_the_settings_are_read_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert logging.lastResort
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    monkeypatch.setattr(transports.anyio, "run", lambda *_: None)
    transports.serve(lambda: settings.read({}))
    logging.lastResort.handle(logging.LogRecord("mcp", logging.WARNING, "", 0, "%s", (HOSTILE,), None))
    assert stderr.getvalue().startswith("a ") and not leaks(stderr.getvalue())


def test_a_contact_sheet_and_a_saved_name_hold_nothing_unseen() -> None:
    assert not leaks(contact_sheet.printable(FLOOD)) and "\n" not in contact_sheet.printable(FLOOD)
    assert not leaks(contact_sheet.drawable(HOSTILE))
    assert not leaks(safe_name(FLOOD)) and len(safe_name(FLOOD).encode()) <= 120


def test_a_fault_is_kept_clean() -> None:
    from triptych.jobs.transitions import fault_of

    assert not leaks(fault_of(errors.Failed(FLOOD)).message)
    assert Failure("failed", "x", False).message == "x"


# The cleaning itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x200E, 0x202E, 0x2066, 0xFEFF, 0xD800])
def test_no_control_character_survives(code: int) -> None:
    for shown in (text.block(f"a{chr(code)}b"), text.line(f"a{chr(code)}b")):
        assert not leaks(shown)
        assert shown.startswith("a") and shown.endswith("b")


def test_words_of_all_scripts_survive() -> None:
    for said in ("naïve café", "猫と犬", "кошка", "שלום", "नमस्ते", "🦊 fox", "tab", "“quoted”"):
        assert text.block(said) == text.line(said) == said


def test_lines_survive_in_a_block_and_floods_do_not() -> None:
    assert text.block("a\r\nb\rc\n\nd\n \n\n\ne") == "a\nb\nc\n\nd\n\ne"
    assert text.line(" a\n\n b ") == "a b"
    assert text.line("abcdef", 4) == "abc…"
    assert text.tree({"a\x1b": ["b\x07", 1, None, {"c": "d\u202e"}]}) == {"a ": ["b ", 1, None, {"c": "d"}]}
