"""Public names: none vanishes unnoticed. docs/versioning.md says what is public and how a name is withdrawn.

`public_names.txt` has one name a line. `TRIPTYCH_UPDATE_SNAPSHOTS=1` adds new names and removes none: who removes one
deletes its line by hand, after the time that the page gives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import click

from support import ROOT
from triptych import __main__, settings
from triptych.cli import cli, commands, compare, db, demo, doctor, formatting, install
from triptych.core import errors, states
from triptych.core.json_fields import Result
from triptych.jobs import callbacks, look_results, model_results, results
from triptych.jobs.caller import READ, SPEND
from triptych.server import files, gallery, metrics, prompts, resources, tools
from triptych.storage import migrations

KEPT = Path(__file__).parent / "public_names.txt"
POLICY = (ROOT / "docs" / "versioning.md").read_text("utf-8")

JSON: Mapping[str, type[Result]] = {
    **dict.fromkeys(("edit", "chain", "generate", "status", "cancel"), results.JobResult),
    "compare": compare.Comparison,
    "jobs": results.JobsResult,
    "spend": results.SpendResult,
    "prune": results.PruneResult,
    "objects copy": results.CopyResult,
    "revoke-urls": commands._Revoked,
    "models": model_results.ModelsResult,
    "upload": results.UploadResult,
    **dict.fromkeys(("look list", "look show"), look_results.LooksResult),
    "look remove": look_results.LookResult,
    "view": commands._Viewed,
    "save": results.SaveResult,
    "db migrate": db.Migrated,
    "db check": db.Checked,
    "db copy": db.Copied,
    "doctor": doctor.Report,
    **dict.fromkeys(("install", "uninstall"), install.Installed),
    "emulate": commands._Faults,
    "demo": demo.Shown,
}
"""What each command writes with `--json`."""


def models_in(annotation: Any) -> Iterator[type[Result]]:
    if isinstance(annotation, type) and issubclass(annotation, Result):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def keys(model: type[Result], before: str = "") -> Iterator[str]:
    """Yield the path of each key in the JSON of a model; items of a list have their list's path."""
    for name, annotation in get_type_hints(model).items():
        if get_origin(annotation) is ClassVar:
            continue
        yield f"{before}{name}"
        for inner in models_in(annotation):
            assert get_origin(inner) not in (Union, UnionType)
            yield from keys(inner, f"{before}{name}.")


def properties(schema: Any, before: str = "") -> Iterator[str]:
    """Yield the path of each property of a schema."""
    if isinstance(schema, list):
        for item in schema:
            yield from properties(item, before)
    elif isinstance(schema, dict):
        for name, inner in schema.get("properties", {}).items():
            yield f"{before}{name}"
            yield from properties(inner, f"{before}{name}.")
        for key in ("items", "anyOf", "oneOf", "additionalProperties"):
            yield from properties(schema.get(key), before)


def all_commands(group: click.Group = cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def kinds(error: type[errors.TriptychError]) -> Iterator[str]:
    yield error.kind
    for inner in error.__subclasses__():
        yield from kinds(inner)


def names() -> Iterator[str]:
    for tool in tools.listing().tools:
        yield f"tool {tool.name}"
        yield from (f"tool {tool.name} takes {path}" for path in properties(tool.input_schema))
        yield from (f"tool {tool.name} returns {path}" for path in properties(tool.output_schema))
    for prompt in prompts.listing().prompts:
        yield f"prompt {prompt.name}"
        yield from (f"prompt {prompt.name} takes {argument.name}" for argument in prompt.arguments or ())
    for variable in settings.variables():
        yield f"setting {variable}"
        if variable.startswith("TRIPTYCH_") or variable.endswith(__main__.SECRETS):
            yield f"setting {variable}_FILE"
    for name, command in all_commands():
        yield f"command {name}"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                options = (*parameter.opts, *parameter.secondary_opts)
                yield from (f"command {name} option {option}" for option in options)
                if isinstance(parameter.type, click.Choice):
                    yield from (f"command {name} option {options[-1]} {choice}" for choice in parameter.type.choices)
    for name, model in JSON.items():
        yield from (f"json {name} {path}" for path in keys(model))
    yield from (f"json error.{key}" for key in ("kind", "message", "retryable"))
    yield from (f"error kind {kind}" for kind in kinds(errors.TriptychError))
    yield from (f"exit code {int(code)} {code.name.lower()}" for code in formatting.Exit)
    yield from (f"job status {status}" for status in formatting._OF_STATUS)
    yield from (f"prediction state {state}" for state in states.MOVES)
    yield from (f"resource {template.uri_template}" for template in resources.templates().resource_templates)
    yield from (f"resource triptych://{name}" for name in ("jobs", "models", "looks", "spend"))
    yield f"resource {gallery.URI}"
    yield from (f"route /{route}" for route in metrics.ROUTES)
    yield from (f"scope {scope}" for scope in (READ, SPEND))
    source = (ROOT / "src" / "triptych" / "server" / "metrics.py").read_text("utf-8")
    yield from (f"metric {metric}" for metric in re.findall(r'"(triptych_\w+)"', source))
    yield from (f"database version {number}" for number, _ in migrations.listed())


def test_no_public_name_vanishes_and_none_is_unwritten() -> None:
    now, kept = set(names()), set(KEPT.read_text("utf-8").splitlines())
    if os.environ.get("TRIPTYCH_UPDATE_SNAPSHOTS"):
        KEPT.write_text("".join(f"{name}\n" for name in sorted(now | kept)), encoding="utf-8", newline="\n")
        kept |= now
    assert not kept - now, f"gone; docs/versioning.md says how a name is withdrawn: {sorted(kept - now)}"
    assert not now - kept, f"new; run with TRIPTYCH_UPDATE_SNAPSHOTS=1 if they are meant: {sorted(now - kept)}"


def test_the_names_are_sorted_with_each_once() -> None:
    lines = KEPT.read_text("utf-8").splitlines()
    assert lines == sorted(set(lines))


def test_every_command_with_json_has_its_keys_written_down() -> None:
    with_json = {
        name for name, command in all_commands() if any("--json" in parameter.opts for parameter in command.params)
    }
    assert with_json == set(JSON)


def test_the_routes_of_the_code_are_among_the_public_ones() -> None:
    public = {f"/{route}" for route in metrics.ROUTES}
    assert {files.ROUTE, gallery.ROUTE, callbacks.ROUTE} <= public


def test_the_policy_speaks_of_every_kind_of_name() -> None:
    kinds_kept = {line.split()[0] for line in KEPT.read_text("utf-8").splitlines()}
    told = set(re.findall(r"^\| `([a-z]+)` \|", POLICY, re.MULTILINE))
    assert told == kinds_kept


def test_the_policy_names_the_version_of_the_database() -> None:
    assert f"(now {migrations.newest()})" in POLICY
