"""The command line: what it writes where, how it ends, and that it never pays by surprise."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from support.systems import needs_links, needs_signals, needs_terminals
from triptych import __version__
from triptych.cli import cli, formatting, job_commands
from triptych.cli.formatting import Exit
from triptych.core import errors
from triptych.core.models import Status
from triptych.storage.jobs import Store
from triptych_emulators import Emulator, running

KEY = "sk-never-to-be-shown-1234567890"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def api() -> Iterator[Emulator]:
    with running("atlas", latency_s=0.0, max_side=96, key=KEY) as emulator:
        yield emulator


@pytest.fixture
def with_key(api: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    monkeypatch.setenv("ATLASCLOUD_API_KEY", KEY)
    monkeypatch.setenv("ATLASCLOUD_BASE_URL", api.base_url)
    return api


def run(*args: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def fields(*args: str | Path) -> dict[str, Any]:
    """Run with `--json` and return the one document on stdout."""
    result = run(*args, "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def child(*args: str | Path, **options: Any) -> subprocess.Popen[str]:
    # Children inherit that it is ignored, as it is where the tests run in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "triptych", *(str(arg) for arg in args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


# -- what it says


def test_without_a_command_help_shows_every_exit_code() -> None:
    result = run()
    assert result.exit_code == 0
    assert "chain" in result.stdout
    for code, meaning in formatting.EXIT_MEANINGS.items():
        assert f"{int(code)}  {meaning}" in " ".join(result.stdout.split("\n"))


def test_it_knows_its_version() -> None:
    assert run("--version").stdout == f"triptych {__version__}\n"


def test_every_command_that_answers_has_json_and_help() -> None:
    groups = [command.commands for command in cli.commands.values() if isinstance(command, click.Group)]
    single = {name: command for name, command in cli.commands.items() if not isinstance(command, click.Group)}
    for name, command in (single | dict(item for group in groups for item in group.items())).items():
        assert command.help, name
        if name not in ("serve", "worker", "gallery"):  # they serve until they are ended
            assert "--json" in [option for p in command.params for option in p.opts], name


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("edti")
    assert result.exit_code == Exit.BAD_REQUEST
    assert "No such command" in result.stderr


# -- a job, on the offline engine


def test_an_edit_without_a_key_uses_the_offline_engine(coffee: str) -> None:
    result = run("edit", coffee, "-p", "spring, summer, autumn, winter", "-n", "4")
    assert result.exit_code == Exit.DONE
    assert "done: 4 of 4 images" in result.stdout
    assert "draft on draft, free" in result.stdout


def test_json_is_the_tools_result_and_alone_on_stdout(coffee: str) -> None:
    job = fields("edit", coffee, "-p", "black and white")
    assert job["status"] == "done"
    assert job["images"][0]["handle"] == f"{job['job_id']}/1"
    assert "request" not in job
    assert fields("status", job["job_id"]) == job


def test_commands_edit_list_show_and_save_earlier_results(coffee: str, tmp_path: Path) -> None:
    first = fields("edit", coffee, "-p", "warmer", "-n", "2")
    second = fields("chain", f"{first['job_id']}/2", "-s", "sepia", "-s", "vignette")
    assert second["images"][0]["source"] == [f"{first['job_id']}/2"]
    assert [job["job_id"] for job in fields("jobs")["jobs"]] == [second["job_id"], first["job_id"]]
    handles = [image["handle"] for image in first["images"]]
    sheet = tmp_path / "sheet.jpg"
    assert fields("view", *handles, "-o", sheet)["path"] == str(sheet)
    assert sheet.read_bytes().startswith(b"\xff\xd8\xff")
    saved = fields("save", *handles, "-d", tmp_path / "kept", "--name", "coffee")["saved"]
    assert [Path(item["path"]).name for item in saved] == ["coffee-01.png", "coffee-02.png"]
    assert all(Path(item["path"]).is_file() for item in saved)


def test_generate_needs_no_image_and_takes_a_size() -> None:
    job = fields("generate", "-p", "a red kite over dunes", "-n", "2", "--size", "512x512")
    assert [(image["width"], image["height"]) for image in job["images"]] == [(512, 512)] * 2


def test_save_to_copies_what_came(coffee: str, tmp_path: Path) -> None:
    job = fields("edit", coffee, "-p", "cool", "--save-to", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{job['job_id']}-01.png"]


def test_a_job_is_saved_resized_under_its_sources_name(coffee: str, tmp_path: Path) -> None:
    job = fields("chain", coffee, "-s", "cool", "-s", "flat")
    options = ("--size", "64x48, contain 40x40 white", "--format", "webp")
    saved = fields("save", job["job_id"], "-d", tmp_path / "out", *options)
    assert saved["count"] == 2
    assert [Path(item["path"]).name for item in saved["saved"]] == ["coffee-64x48.webp", "coffee-40x40.webp"]


def test_a_directory_that_ends_with_zip_is_an_archive(coffee: str, tmp_path: Path) -> None:
    saved = fields("save", coffee, "-d", tmp_path / "new" / "set.zip", "--size", "64x48")
    assert saved["archive"] == str(tmp_path / "new" / "set.zip")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set.zip"]
    shown = run("save", coffee, "-d", str(tmp_path / "new" / "set.zip"), "--size", "64x48").stdout
    assert f"1 files in {tmp_path / 'new' / 'set.zip'}" in shown


def test_many_saved_files_are_a_summary_and_json_lists_all(tmp_path: Path) -> None:
    for n in range(30):
        Image.new("RGB", (20, 20), (n, 0, 0)).save(tmp_path / f"p{n:02}.png")
    images = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    assert len(fields("save", *images, "-d", tmp_path / "out", "--format", "webp")["saved"]) == 30
    lines = run("save", *images, "-d", str(tmp_path / "out"), "--format", "webp").stdout.splitlines()
    assert len(lines) == 22
    assert lines[10] == "… 10 more …" and lines[-1] == f"30 files in {tmp_path / 'out'}"


def test_a_named_file_is_read_wherever_it_lies(coffee: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert fields("upload", coffee)["images"][0]["handle"].startswith("img_")
    assert fields("upload", Path(coffee).as_uri())["images"][0]["handle"].startswith("img_")


@needs_links
def test_a_link_that_was_named_is_followed(coffee: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link.jpg"
    link.symlink_to(coffee)
    monkeypatch.chdir(tmp_path)
    assert fields("upload", "link.jpg")["images"][0]["width"] == 600


def test_a_folder_and_a_pattern_stand_for_their_pictures(
    coffee: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("2.jpg", "10.jpg", "deep/1.jpg"):
        (tmp_path / ".mine" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(coffee, tmp_path / ".mine" / name)
    monkeypatch.chdir(tmp_path)
    for item, number in ((".mine", 2), (".mine/**/*.jpg", 3), ((tmp_path / ".mine").as_uri(), 2)):
        result = run("chain", item, "-s", "warm", "--dry-run")
        assert result.exit_code == Exit.DONE and f"{number} pictures " in result.stdout, result.stdout
    assert "no picture" in run("upload", ".mine/*.png").stderr


def test_cancelling_a_finished_job_changes_nothing(coffee: str) -> None:
    job = fields("edit", coffee, "-p", "dusk")
    result = run("cancel", job["job_id"])
    assert result.exit_code == Exit.DONE
    assert "done" in result.stdout


# -- refusals


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("edit", "nowhere.png", "-p", "warm"), Exit.BAD_REQUEST, "There is no file"),
        (("edit", "img_00000000", "-p", "warm"), Exit.BAD_REQUEST, "There is no image"),
        (("edit", "img_00000000"), Exit.BAD_REQUEST, "--prompt"),
        (("edit", "img_00000000", "-p", "x", "-n", "16"), Exit.BAD_REQUEST, "1<=x<=14"),
        (("generate", "-p", " "), Exit.BAD_REQUEST, "prompt is empty"),
        (("generate", "-p", "x", "--provider", "atlas"), Exit.BAD_REQUEST, "ATLASCLOUD_API_KEY"),
        (("generate", "-p", "x", "--provider", "nobody"), Exit.BAD_REQUEST, "There is no provider"),
        (("generate", "-p", "x", "--max-cost-usd", "much"), Exit.BAD_REQUEST, "amount in US dollars"),
        (("generate", "-p", "x", "--max-cost-usd", "-1"), Exit.BAD_REQUEST, "amount in US dollars"),
        (("status", "job_00000000"), Exit.BAD_REQUEST, "There is no job"),
        (("jobs", "--status", "odd"), Exit.BAD_REQUEST, "status is one of"),
        (("emulate", "nobody"), Exit.BAD_REQUEST, "atlas"),
        (("serve", "--host", "0.0.0.0", "--transport", "http"), Exit.BAD_REQUEST, "TRIPTYCH_AUTH_TOKEN"),
    ],
)
def test_an_impossible_request_is_a_sentence_and_exit_2(args: tuple[str, ...], code: Exit, said: str) -> None:
    result = run(*args)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""


def test_a_refusal_as_json_has_its_kind(coffee: str) -> None:
    assert fields("generate", "-p", "x", "--provider", "atlas")["error"]["kind"] == "no_key"


def test_a_home_that_cannot_be_used_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch, coffee: str) -> None:
    monkeypatch.setenv("TRIPTYCH_HOME", coffee)
    for args in (("jobs",), ("generate", "-p", "a hill")):
        result = run(*args)
        assert result.exit_code == Exit.BAD_REQUEST
        assert "TRIPTYCH_HOME" in result.stderr


def test_an_unexpected_error_is_a_sentence_with_its_place_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("triptych.jobs.job_reads.jobs_listed", broken)
    result = run("jobs")
    assert result.exit_code == Exit.FAILED
    assert result.stderr.startswith("triptych: Triptych failed (ZeroDivisionError: by nought)")
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("TRIPTYCH_LOG_LEVEL", "DEBUG")
    assert "Traceback" in run("jobs").stderr


def test_a_setting_that_cannot_be_right_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_BUDGET_USD", "plenty")
    result = run("jobs")
    assert result.exit_code == Exit.BAD_REQUEST
    assert "TRIPTYCH_BUDGET_USD" in result.stderr


def test_every_status_and_error_kind_has_an_exit_code() -> None:
    assert {status: formatting.exit_of_status(status) for status in Status} == {
        "queued": 5,
        "running": 5,
        "done": 0,
        "partial": 3,
        "failed": 1,
        "cancelled": 8,
        "uncertain": 4,
    }
    ends = {
        errors.OverBudget: 6,
        errors.NoKey: 2,
        errors.NotAllowed: 2,
        errors.KeyRejected: 7,
        errors.NotSent: 7,
        errors.Failed: 1,
        errors.Uncertain: 4,
    }
    assert {kind: int(formatting.exit_of_error(kind("so"))) for kind in ends} == ends


# -- money


def test_a_dry_run_shows_the_request_and_sends_nothing(with_key: Emulator, coffee: str) -> None:
    job = fields("edit", coffee, "-p", "fog", "-n", "3", "--dry-run")
    assert job["status"] == "dry_run"
    assert job["cost"]["quoted"] == pytest.approx(0.096)
    assert job["request"]["json"]["max_images"] == 3
    assert with_key.seen == []


def test_a_costly_job_without_a_terminal_is_not_sent(
    with_key: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "0.01")
    result = run("edit", coffee, "-p", "fog")
    assert result.exit_code == Exit.TOO_COSTLY
    for part in ("above $0.01", "spent $0,", "reserved $0", "quoted $0.043", "--max-cost-usd 0.043"):
        assert part in result.stderr
    assert with_key.accepted == []


@pytest.mark.parametrize("confirmation", [("--yes",), ("--max-cost-usd", "0.043")])
def test_a_confirmed_job_is_sent_and_left_running(
    with_key: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch, confirmation: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "0.01")
    result = run("edit", coffee, "-p", "fog", "--no-wait", *confirmation)
    assert result.exit_code == Exit.RUNNING
    assert "triptych status job_" in result.stdout
    assert len(with_key.accepted) == 1


def test_spend_is_a_table_within_100_columns(with_key: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_key.runner.latency_s = 600.0  # its jobs are still running when the table is read
    assert run("spend").stdout.startswith(
        "Nothing in the last 7 days (UTC).\nLast 24 hours: $0 spent, $0 reserved, of $10"
    )
    for prompt in ("fog", "rain"):
        assert run("edit", coffee, "-p", prompt, "--no-wait").exit_code == Exit.RUNNING
    assert run("edit", coffee, "-p", "fog", "--provider", "draft").exit_code == Exit.DONE
    said = run("spend", "--days", "30").stdout
    assert max(len(line) for line in said.splitlines()) <= 100
    heads, *rows, total, budget = (line.split() for line in said.splitlines())
    assert heads == ["day", "provider", "model", "jobs", "images", "quoted", "charged", "reserved"]
    assert [row[1:] for row in rows] == [
        ["atlas", "seedream-5.5", "2", "0", "$0.086", "$0", "$0.086"],
        ["draft", "draft", "1", "1", "$0", "$0", "$0"],
    ]
    assert total == ["30", "d", "in", "all", "3", "1", "$0.086", "$0", "$0.086"]
    assert " ".join(budget) == ("Last 24 hours: $0 spent, $0.086 reserved, of $10 (TRIPTYCH_BUDGET_USD); $9.914 left.")
    shown = fields("spend")
    assert shown["budget"] == {"cap": 10, "spent": 0, "reserved": 0.086, "left": 9.914}
    assert [(row["provider"], row["predictions"]) for row in shown["rows"]] == [("atlas", 2), ("draft", 1)]
    monkeypatch.setenv("TRIPTYCH_BUDGET_USD", "none")
    assert "$0.086 reserved, no cap (TRIPTYCH_BUDGET_USD)." in run("spend").stdout
    assert run("spend", "--days", "0").exit_code == Exit.BAD_REQUEST


def test_a_cap_below_the_quote_is_kept(with_key: Emulator, coffee: str) -> None:
    result = run("edit", coffee, "-p", "fog", "--max-cost-usd", "0.01")
    assert result.exit_code == Exit.TOO_COSTLY
    assert with_key.accepted == []


def test_yes_does_not_lift_the_budget(with_key: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_BUDGET_USD", "0.01")
    result = run("edit", coffee, "-p", "fog", "--yes")
    assert result.exit_code == Exit.TOO_COSTLY
    assert with_key.accepted == []


@needs_terminals
@pytest.mark.parametrize(("answer", "code", "sent"), [(b"n\n", Exit.TOO_COSTLY, 0), (b"y\n", Exit.RUNNING, 1)])
def test_on_a_terminal_it_asks_before_a_costly_job(
    with_key: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch, answer: bytes, code: Exit, sent: int
) -> None:
    import pty

    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "0.01")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        with child("edit", coffee, "-p", "fog", "--no-wait", stdin=theirs) as process:
            _, said = process.communicate(timeout=60)
        assert "This will cost $0.043" in said
        assert process.returncode == code
        assert len(with_key.accepted) == sent
    finally:
        os.close(ours)
        os.close(theirs)


# -- a hosted provider


def test_a_rejected_key_fails_the_job_and_is_never_shown(with_key: Emulator, coffee: str) -> None:
    with_key.fault("submit", "401")
    result = run("edit", coffee, "-p", "fog")
    assert result.exit_code == Exit.FAILED
    assert "key_rejected" in result.stdout
    assert KEY not in result.stdout + result.stderr


def test_an_uploaded_folder_is_done(with_key: Emulator, coffee: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(coffee, tmp_path / "photos")
    result = run("upload", str(tmp_path / "photos"))
    assert "1 picture in" in result.stdout and result.exit_code == 0


def test_an_upload_that_fails_leaves_the_handle_and_says_partial(with_key: Emulator, coffee: str) -> None:
    with_key.fault("upload", "500", times=None)
    result = run("upload", coffee)
    assert result.exit_code == Exit.PARTIAL
    assert "img_" in result.stdout


def test_the_table_of_models_has_layers_and_variations(with_key: Emulator) -> None:
    layers = next(line for line in run("models", "draft").output.splitlines() if "draft/layers" in line)
    assert layers.split() == ["draft", "layers", "1", "4", "$0", "draft/layers"]
    assert "are variations of each other, not one set" in run("models", "seedream-5.5", "--provider", "runware").output
    assert "variations" not in run("models", "seedream-4.5", "--provider", "runware").output


def test_models_are_a_table_within_100_columns(with_key: Emulator) -> None:
    result = run("models", "seedream-4.5")
    assert result.exit_code == Exit.DONE
    assert "bytedance/seedream-v4.5/edit" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 100
    assert fields("models")["default_provider"] == "atlas"


@pytest.mark.slow
@needs_signals
@pytest.mark.usefixtures("ordinary_start")
def test_an_interrupted_wait_leaves_the_job_for_status(coffee: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("atlas", latency_s=3600.0, max_side=96, key=KEY) as api:
        monkeypatch.setenv("ATLASCLOUD_API_KEY", KEY)
        monkeypatch.setenv("ATLASCLOUD_BASE_URL", api.base_url)
        with child("edit", coffee, "-p", "winter", "--json") as process:
            assert process.stderr
            assert any("running, 0 of 1" in line for line in process.stderr)  # "queued" before it, on a busy machine
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=60)
        job = json.loads(out)
        assert process.returncode == Exit.RUNNING
        assert f"triptych status {job['job_id']} --wait" in said
        api.finish_all()
        monkeypatch.setattr(job_commands, "CHARGE_WITHIN_S", 60.0)
        result = run("status", job["job_id"], "--wait")
        assert result.exit_code == Exit.DONE, result.output
        assert "charged $0.043" in result.stdout
        assert len(api.accepted) == 1


# -- doctor


def test_doctor_is_content_with_a_bare_machine() -> None:
    result = run("doctor")
    assert result.exit_code == Exit.DONE
    assert "✗" not in result.stdout
    assert "set ATLASCLOUD_API_KEY to use Atlas Cloud" in result.stdout


def test_doctor_says_what_the_money_settings_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "at most $10 in 24 hours; a job above $1 needs a confirmation" in run("doctor").stdout
    monkeypatch.setenv("TRIPTYCH_BUDGET_USD", "none")
    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "none")
    assert "no cap; no job needs a confirmation" in run("doctor").stdout
    monkeypatch.setenv("TRIPTYCH_OWNER_BUDGET_USD", "2.5")
    monkeypatch.setenv("TRIPTYCH_GROUP_BUDGETS_USD", "design=20,press=5")
    said = 'no cap; each owner at most $2.5; group "design" at most $20; group "press" at most $5; no job'
    assert said in run("doctor").stdout


def test_doctor_shows_where_clients_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_PUBLIC_URL", "HTTPS://Images.Example.com:443/")
    assert "TRIPTYCH_AUTH_TOKEN" in _faults()["TRIPTYCH_PUBLIC_URL"]["mend"]
    monkeypatch.setenv("TRIPTYCH_AUTH_TOKEN", "a-long-random-text")
    assert "TRIPTYCH_PUBLIC_URL: https://images.example.com; clients connect to" in run("doctor").stdout
    monkeypatch.setenv("TRIPTYCH_PUBLIC_URL", "images.example.com")
    assert "TRIPTYCH_PUBLIC_URL must be http:// or https://" in _faults()["settings"]["found"]


def test_doctor_knocks_without_the_key_and_never_shows_it(with_key: Emulator) -> None:
    result = run("doctor")
    assert result.exit_code == Exit.DONE
    assert f"✓ atlas: {with_key.base_url} answers" in result.stdout
    assert KEY[:6] not in result.stdout
    assert [seen.headers.get("authorization") for seen in with_key.seen] == [None]


def test_doctor_offline_sends_nothing(with_key: Emulator) -> None:
    assert run("doctor", "--offline").exit_code == Exit.DONE
    assert with_key.seen == []


def _faults() -> dict[str, Any]:
    report = fields("doctor")
    assert report["ok"] is False
    assert run("doctor").exit_code == Exit.FAILED
    return {check["about"]: check for check in report["checks"] if check["state"] == "fault"}


def test_doctor_says_what_mends_an_unreachable_provider(with_key: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLASCLOUD_BASE_URL", "http://127.0.0.1:9")
    faults = _faults()
    assert list(faults) == ["atlas"]
    assert "ATLASCLOUD_BASE_URL" in faults["atlas"]["mend"]


def test_doctor_finds_missing_keys_directories_and_broken_databases(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRIPTYCH_PROVIDER", "atlas")
    monkeypatch.setenv("TRIPTYCH_ALLOWED_DIRS", str(tmp_path / "gone"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "triptych.db").write_bytes(b"no database at all" * 300)
    assert set(_faults()) == {"default provider", "allowed directory", "database"}


def test_doctor_counts_totals_that_differ_again(tmp_path: Path) -> None:
    Store(tmp_path / "home" / "triptych.db", tmp_path / "home" / "images").close()
    with closing(sqlite3.connect(tmp_path / "home" / "triptych.db")) as connection:
        connection.execute("INSERT INTO money VALUES ('', 0, 5000000000, 0, 0, NULL)")
        connection.commit()
    said = [next(one for one in fields("doctor")["checks"] if one["about"] == "database") for _ in range(2)]
    assert "money of all jobs, bucket 0: charged $5" in said[0]["found"]
    assert [one["state"] for one in said] == ["fault", "ok"]


def test_doctor_finds_a_home_that_is_a_file(monkeypatch: pytest.MonkeyPatch, coffee: str) -> None:
    monkeypatch.setenv("TRIPTYCH_HOME", coffee)
    assert "TRIPTYCH_HOME" in _faults()


def test_doctor_finds_a_setting_that_cannot_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "some")
    assert "TRIPTYCH_CONFIRM_USD" in _faults()["settings"]["found"]


def test_doctor_finds_a_misspelled_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_BUDGET", "3")
    monkeypatch.setenv("TRIPTYCH_OWNER_BUDGETS_USD", "3")
    faults = _faults()
    assert set(faults) == {"TRIPTYCH_BUDGET", "TRIPTYCH_OWNER_BUDGETS_USD"}
    assert "did you mean TRIPTYCH_BUDGET_USD?" in faults["TRIPTYCH_BUDGET"]["mend"]


def test_doctor_shows_what_is_no_setting_without_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 16, "utf-8")
    monkeypatch.setenv("TRIPTYCH_AUTH_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("TRIPTYCH_SERVICE_HOST", "10.0.0.1")  # Kubernetes sets it for a service of the name "triptych"
    result = run("doctor", "--offline")
    assert result.exit_code == Exit.DONE
    assert "– TRIPTYCH_SERVICE_HOST: is ignored" in result.stdout and "AUTH_TOKEN_FILE" not in result.stdout


def test_doctor_finds_an_mcp_that_the_server_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"mcp": "1.28.1"}
    read = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or read(name))
    assert "has mcp 1.28.1; Triptych needs mcp 2" in _faults()["mcp"]["found"]


# -- the rest


def test_the_faults_of_an_emulated_api_can_be_listed() -> None:
    assert {"op": "submit", "name": "429"}.items() <= next(
        fault for fault in fields("emulate", "atlas", "--list-faults")["faults"] if fault["name"] == "429"
    ).items()


@needs_signals
@pytest.mark.usefixtures("ordinary_start")
def test_an_emulator_runs_until_it_is_interrupted() -> None:
    with child("emulate", "atlas", "--port", "0") as process:
        assert process.stderr
        assert "Atlas Cloud, emulated, at http://127.0.0.1:" in process.stderr.readline()
        assert "ATLASCLOUD_API_KEY=any-key" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_a_parameter_is_json_or_text(with_key: Emulator) -> None:
    kite = ("generate", "-p", "a red kite")
    wrong = run(*kite, "--param", "seed")
    assert wrong.exit_code == Exit.BAD_REQUEST and "NAME=VALUE, such as seed=7" in wrong.output
    refused = run(*kite, "--param", "seed=7")
    assert refused.exit_code == Exit.BAD_REQUEST and 'no parameter "seed"' in refused.output
    assert with_key.accepted == []
    texts = ("seed=7", "quality=high", "a=b=c", "x=true")
    read = [job_commands.Param().convert(text, None, None) for text in texts]
    assert read == [("seed", 7), ("quality", "high"), ("a", "b=c"), ("x", True)]


def test_layers_are_shown_with_their_names_and_places(coffee: str) -> None:
    shown = run("edit", coffee, "-p", "apart", "--provider", "draft", "--param", "layers=true")
    assert shown.exit_code == Exit.DONE and "layer 0" in shown.output and 'layer 1 "' in shown.output


def test_a_mask_may_lie_where_the_other_images_may(with_key: Emulator, coffee: str, tmp_path: Path) -> None:
    mask = tmp_path / "elsewhere" / "mask.png"
    mask.parent.mkdir()
    Image.new("L", (96, 96), 255).save(mask)
    model = ("--model", "openai/gpt-image-2.5-flare/edit", "--param", f"mask={mask}")
    shown = run("edit", coffee, "-p", "warmer", *model, "--param", "quality=high")
    assert shown.exit_code == Exit.DONE, shown.output
    (job,) = with_key.jobs
    assert "/_uploads/" in job.spec.body["mask"]
