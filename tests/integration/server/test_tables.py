"""One conversation about a table over stdio: sixty rows, three fail, the literal `next` makes those three again."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from support.pictures import picture
from support.servers import environ
from triptych_emulators import running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CALL = re.compile(r"(?P<tool>\w+)\((?P<arguments>.*)\)")
ROWS = 60
FAILING = (4, 20, 59)


def shop(directory: Path) -> Path:
    """Write a table of sixty pictures; three rows are refused at their first try."""
    directory.mkdir()
    lines = ["sku,image,color"]
    for n in range(ROWS):
        (directory / f"{n}.png").write_bytes(picture(f"rgb({4 * n},80,90)"))
        refused = " [[emulate:submit/moderated-before]]" if n in FAILING else ""
        lines.append(f"A{n},{n}.png,color {n}{refused}")
    (directory / "products.csv").write_text("\n".join(lines))
    return directory / "products.csv"


def literal(call: str) -> tuple[str, dict[str, Any]]:
    """Return the tool and the arguments of a `next`, which has to be one call and nothing else."""
    found = CALL.fullmatch(call)
    assert found, call
    named = re.findall(r"(\w+)=(\[.*?\]|\".*?\"|\d+)", found["arguments"])
    return found["tool"], {name: json.loads(value) for name, value in named}


async def test_what_failed_of_sixty_rows_is_redone_in_two_calls(tmp_path: Path) -> None:
    table, out = shop(tmp_path / "shop"), tmp_path / "out"
    with running("atlas", latency_s=0.2, max_side=48, price="prompt") as api:
        env = environ(
            tmp_path / "home", ATLASCLOUD_API_KEY=api.key, ATLASCLOUD_BASE_URL=api.base_url,
            TRIPTYCH_ALLOWED_DIRS=str(tmp_path), TRIPTYCH_MODELS="builtin",
        )  # fmt: skip
        server = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=tmp_path)
        async with Client(server) as client:

            async def call(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                return dict(result.structured_content or {})

            async def to_the_end(job: dict[str, Any]) -> dict[str, Any]:
                with anyio.fail_after(300):
                    while job["status"] in ("queued", "running"):
                        job = await call(*literal(job["next"]))
                return job

            asked = {
                "images": [str(table)],
                "steps": ["on {color} paper"],
                "save_to": str(out),
                "max_cost_usd": 5,
                "wait_s": 55,
            }
            first = await to_the_end(await call("edit_chain", asked))
            assert (first["status"], first["requested"], first["returned"]) == ("partial", ROWS, ROWS - 3)
            assert first["next"] == f'edit_chain(images=["{first["job_id"]}/failed"])'
            paid = api.charged_usd

            tool, arguments = literal(first["next"])
            again = await to_the_end(await call(tool, {**arguments, "wait_s": 55}))
            assert (again["status"], again["requested"], again["returned"]) == ("done", 3, 3)
            assert len(api.jobs) == ROWS and api.charged_usd - paid == 3 * paid / (ROWS - 3)
            handles = [image["handle"] for image in again["images"]]
            saved = await call("save_images", {"images": handles, "directory": str(out)})
            assert len(saved["saved"]) == 3
    with (out / "manifest.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["sku"] for line in lines] == [f"A{n}" for n in range(ROWS)]
    assert [n for n, line in enumerate(lines) if line["triptych_status"] == "failed"] == list(FAILING)
