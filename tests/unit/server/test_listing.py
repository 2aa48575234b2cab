"""What an assistant reads before it calls anything: names, descriptions, schemas, annotations, instructions."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from triptych.server import schemas, tools
from triptych.server.app import INSTRUCTIONS

SNAPSHOTS = Path(__file__).parent / "snapshots"
NAMES = [
    "upload_images",
    "edit_sequence",
    "edit_chain",
    "generate_sequence",
    "get_status",
    "list_jobs",
    "cancel_job",
    "list_models",
    "view_images",
    "save_images",
]
SHARED = ["model", "provider", "size", "format", "params", "wait_s", "save_to", "max_cost_usd", "dry_run", "again"]


def listed(name: str) -> dict[str, Any]:
    tool = next(tool for tool in tools.listing().tools if tool.name == name)
    return tool.model_dump(by_alias=True, exclude_none=True, mode="json")


def nodes(schema: Any) -> list[dict[str, Any]]:
    """Return every schema inside a schema; the names of properties are not among them."""
    if isinstance(schema, list):
        return [node for item in schema for node in nodes(item)]
    if not isinstance(schema, dict):
        return []
    inner = [
        node
        for key, value in schema.items()
        for node in (nodes(list(value.values())) if key == "properties" else nodes(value))
    ]
    return [schema, *inner]


def test_ten_tools_are_listed_in_order_of_use() -> None:
    assert [tool.name for tool in tools.listing().tools] == NAMES


def test_the_list_is_made_once() -> None:
    assert tools.listing() is tools.listing()


def test_what_the_model_reads_stays_under_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {}
    for name in NAMES:
        seen = {key: listed(name)[key] for key in ("name", "description", "inputSchema")}
        sizes[name] = len(json.dumps(seen, separators=(",", ":"), ensure_ascii=False).encode())
    with capsys.disabled():
        sys.stdout.write(f"\ntools/list: {sum(sizes.values())} bytes {sizes}\n")
    assert sum(sizes.values()) < 7000


def test_the_instructions_name_every_paid_tool_within_1200_characters() -> None:
    assert len(INSTRUCTIONS) < 1200
    for word in ("edit_sequence", "edit_chain", "generate_sequence", "get_status", "view_images", "save_images"):
        assert word in INSTRUCTIONS
    for word in ("list_jobs", "cancel_job", "again", "dry_run", "max_cost_usd", "uncertain"):
        assert word in INSTRUCTIONS


@pytest.mark.parametrize("name", NAMES)
def test_a_tool_is_what_its_snapshot_says(name: str) -> None:
    path = SNAPSHOTS / f"{name}.json"
    now = json.dumps(listed(name), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("TRIPTYCH_UPDATE_SNAPSHOTS"):
        path.write_text(now, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == now, "run with TRIPTYCH_UPDATE_SNAPSHOTS=1 if this is meant"


def test_no_snapshot_is_left_of_a_tool_that_is_gone() -> None:
    assert sorted(path.stem for path in SNAPSHOTS.glob("*.json")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_input_schema_is_lean_and_valid(name: str) -> None:
    schema = listed(name)["inputSchema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    for node in nodes(schema):
        assert not {"title", "$ref", "$defs", "anyOf"} & set(node), node
        assert node.get("default", 1) is not None


@pytest.mark.parametrize("name", NAMES)
def test_an_output_schema_is_valid_and_only_pixels_have_none(name: str) -> None:
    schema = listed(name).get("outputSchema")
    assert (schema is None) == (name == "view_images")
    if schema:
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert not any({"title", "$ref", "$defs"} & set(node) for node in nodes(schema))


@pytest.mark.parametrize("name", NAMES)
def test_a_tools_four_annotations_agree(name: str) -> None:
    tool = listed(name)
    hints = tool["annotations"]
    assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} <= set(hints)
    assert tool["title"]
    assert not (hints["readOnlyHint"] and hints["destructiveHint"])


def test_annotations_are_truthful_about_money_and_loss() -> None:
    hints = {name: listed(name)["annotations"] for name in NAMES}
    assert {name for name in NAMES if hints[name]["readOnlyHint"]} == {
        "get_status",
        "list_jobs",
        "list_models",
        "view_images",
    }
    assert {name for name in NAMES if hints[name]["destructiveHint"]} == {"cancel_job"}
    for paid in ("edit_sequence", "edit_chain", "generate_sequence"):
        assert hints[paid]["openWorldHint"] and not hints[paid]["idempotentHint"]


@pytest.mark.parametrize("name", ["edit_sequence", "edit_chain", "generate_sequence"])
def test_the_paid_tools_share_their_optional_arguments_after_their_own(name: str) -> None:
    properties = list(listed(name)["inputSchema"]["properties"])
    assert properties[-len(SHARED) :] == SHARED
    assert not set(listed(name)["inputSchema"]["required"]) & set(SHARED)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_in_a_schema_is_also_in_words(name: str) -> None:
    for argument, schema in listed(name)["inputSchema"]["properties"].items():
        for limit in ("maximum", "maxItems"):
            if limit in schema:
                assert re.search(rf"\b{schema[limit]}\b", schema["description"]), argument


def test_the_list_has_exactly_the_models_arguments() -> None:
    for name, tool in tools.TOOLS.items():
        assert set(listed(name)["inputSchema"]["properties"]) == set(tool.arguments.model_fields)
        assert issubclass(tool.arguments, schemas.Arguments)
