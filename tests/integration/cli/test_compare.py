"""`triptych compare`: what it sends, what it refuses, and what it shows."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from triptych.cli import cli, compare
from triptych.cli.formatting import Exit
from triptych_emulators import Emulator, running

THREE = "seedream-4.5,seedream-5.0-lite,seedream-4.0"
PRICES = {"seedream-4.5": "0.036", "seedream-5.0-lite": "0.032", "seedream-4.0": "0.027"}
SUM = sum(map(Decimal, PRICES.values()))


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr(compare, "CHARGE_WITHIN_S", 0.0)
    monkeypatch.setattr(compare, "POLL_EVERY_S", 0.05)
    with running("atlas", latency_s=0.0, max_side=96, key="sk-a-key-1234567890") as emulator:
        monkeypatch.setenv("ATLASCLOUD_API_KEY", emulator.key)
        monkeypatch.setenv("ATLASCLOUD_BASE_URL", emulator.base_url)
        yield emulator


def run(*args: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["compare", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def fields(*args: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*args, "--json").stdout)
    return found


def test_each_model_makes_one_job_with_its_price_and_files(api: Emulator, coffee: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("at dusk", "--image", coffee, "--models", THREE, "--save-to", out)
    assert result.exit_code == Exit.DONE, result.output
    heads, *rows = [line.split() for line in result.stdout.splitlines()[:4]]
    assert heads == ["model", "provider", "status", "images", "cost", "time", "job"]
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [(m, "atlas", "done", "1") for m in PRICES]
    assert f"All together: ${SUM} quoted." in result.stdout
    assert f"side by side: triptych view {' '.join(row[-1] for row in rows)}" in result.stdout
    assert len(api.accepted) == len(list(out.iterdir())) == 3
    assert all(f"  {row[-1]}/1  " in result.stdout for row in rows)


def test_words_alone_are_compared_on_several_providers(api: Emulator) -> None:
    found = fields("a boat", "--models", "draft", "--providers", "draft,atlas", "--dry-run")
    assert found["error"]["kind"] == "unknown_model", "a model that a provider lacks is refused before anything is sent"
    found = fields("a boat", "--models", "seedream-4.5,seedream-4.0", "--providers", "atlas", "-n", "2", "--dry-run")
    assert [one["provider"] for one in found["compared"]] == ["atlas", "atlas"]
    assert Decimal(str(found["quoted"])) == 2 * (Decimal("0.036") + Decimal("0.027"))
    assert api.accepted == []


def test_one_model_is_no_comparison(api: Emulator) -> None:
    result = run("a boat", "--models", "seedream-4.5, seedream-4.5")
    assert result.exit_code == Exit.BAD_REQUEST and "two models" in result.stderr


@pytest.mark.parametrize(
    ("variables", "options", "says"),
    [
        ({"TRIPTYCH_CONFIRM_USD": "0.05"}, (), "--max-cost-usd 0.095"),
        ({}, ("--max-cost-usd", "0.09"), "above the cap of $0.09"),
        ({"TRIPTYCH_BUDGET_USD": "0.08"}, ("--yes",), "$0.08 of the budget"),
    ],
)
def test_the_sum_is_checked_before_anything_is_sent(
    api: Emulator, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: tuple[str, ...], says: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run("a boat", "--models", THREE, *options)
    assert result.exit_code == Exit.TOO_COSTLY and says in result.stderr, result.output
    assert api.accepted == []


@pytest.mark.parametrize("confirmation", [("--yes",), ("--max-cost-usd", "0.095")])
def test_a_confirmed_comparison_is_sent(
    api: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch, confirmation: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "0.02")
    result = run("a boat", "--image", coffee, "--models", THREE, *confirmation)
    assert result.exit_code == Exit.DONE, result.output
    assert len(api.accepted) == 3


def test_a_model_that_fails_stands_beside_the_others(api: Emulator, coffee: str) -> None:
    api.fault("submit", "moderated-before")
    result = run("x", "--image", coffee, "--models", THREE)
    assert result.exit_code == Exit.PARTIAL
    states = [line.split()[2] for line in result.stdout.splitlines()[1:4]]
    assert sorted(states) == ["done", "done", "failed"]
    (failed,) = [model for model, state in zip(PRICES, states, strict=True) if state == "failed"]
    assert f"  {failed}: " in result.stdout, "why it failed"


def test_the_same_comparison_again_pays_nothing(api: Emulator, coffee: str) -> None:
    first = fields("at dusk", "--image", coffee, "--models", THREE)
    again = fields("at dusk", "--image", coffee, "--models", THREE)
    assert [one["job"]["job_id"] for one in again["compared"]] == [one["job"]["job_id"] for one in first["compared"]]
    assert len(api.accepted) == 3


def test_an_interrupted_comparison_names_its_jobs(api: Emulator, coffee: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "_ended", interrupted)
    result = CliRunner().invoke(cli, ["compare", "at dusk", "--image", coffee, "--models", THREE])
    assert result.exit_code != Exit.DONE
    named = re.findall(r"triptych status (job_\w+) --wait", result.stderr)
    assert len(set(named)) == len(api.accepted) == 3
