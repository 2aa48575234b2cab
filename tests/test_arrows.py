"""Dependencies point one way: this reads every import and fails on an arrow that points back."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import triptych

ROOT = Path(triptych.__file__).parent

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(row.split())
    for row in (
        "triptych model errors tasks text migrations private links",
        "lifecycle imaging metadata sheet drift retouch presets catalog results backgrounds",
        "providers",
        "addresses",
        "assets store records ledger database rows wire clock",
        "pace references notes pruning",
        "arrivals",
        "steps engine",
        "planning views showing library market",
        "studio",
        "config",
        "server cli __main__",
    )
)
"""Each row may know itself and those above it. A new module finds its row here before it imports anything."""

APART = {"emulator": frozenset({"emulator", "imaging", "retouch"})}
"""What stands beside the rows, and all it may know."""

KNOWN_BY = {
    "config": frozenset({"server", "cli", "__main__"}),
    "cli": frozenset({"cli", "__main__"}),
    "emulator": frozenset({"emulator", "cli"}),
}
"""Who may import a room at all."""

ONLY_IN = {
    "click": frozenset({"cli"}),
    "mcp": frozenset({"server", "cli"}),
    "httpx2": frozenset({"wire", "addresses"}),
    "sqlite3": frozenset({"migrations", "database", "records", "store", "rows", "pruning"}),
    "PIL": frozenset({"imaging", "metadata", "sheet", "drift", "retouch", "emulator"}),
    "platformdirs": frozenset({"config"}),
}
"""Libraries that must not leave the rooms made for them."""

Imports = Mapping[str, frozenset[str]]


def modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("triptych", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, package: str, ours: frozenset[str]) -> Iterator[str]:
    """Return the modules that a source imports, wherever it does; `from a import b` is `a.b` where that is a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in ours else base


def read_imports() -> dict[str, frozenset[str]]:
    found = modules()
    ours = frozenset(found)
    return {
        name: frozenset(
            imports_of(
                path.read_text(encoding="utf-8"),
                name if path.name == "__init__.py" else name.rpartition(".")[0],
                ours,
            )
        )
        for name, path in found.items()
    }


def room(module: str) -> str:
    """Return which room a module of ours stands in."""
    return module.split(".")[1] if "." in module else module


def complaints(imports: Imports) -> list[str]:
    """Return a sentence for every arrow that points where it must not."""
    rows = {name: i for i, row in enumerate(LAYERS) for name in row}
    found = []
    for module, targets in sorted(imports.items()):
        here = room(module)
        if here not in rows and here not in APART:
            found.append(f"{module} has no place in LAYERS")
            continue
        for target in sorted(targets):
            library = target.split(".")[0]
            if library != "triptych":
                if here not in ONLY_IN.get(library, {here}):
                    found.append(f"{module} imports {library}, which belongs in {', '.join(sorted(ONLY_IN[library]))}")
                continue
            there = room(target)
            if here not in KNOWN_BY.get(there, {here}):
                found.append(f"{module} imports {target}, which only {', '.join(sorted(KNOWN_BY[there]))} may know")
            elif here in APART:
                if there not in APART[here]:
                    found.append(f"{module} imports {target}, and {here} stands apart")
            elif there in rows and rows[there] > rows[here]:
                found.append(f"{module} imports {target}, which stands further on")
    return found


def circle(imports: Imports) -> list[str]:
    """Return a chain of modules that import each other, or nothing."""
    graph = {module: targets & imports.keys() - {module} for module, targets in imports.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_arrow_points_back() -> None:
    assert complaints(read_imports()) == []


def test_no_two_modules_need_each_other() -> None:
    assert circle(read_imports()) == []


def test_every_room_that_the_rules_name_exists() -> None:
    rooms = {room(module) for module in modules()}
    named = {*APART, *KNOWN_BY}.union(*LAYERS, *APART.values(), *KNOWN_BY.values(), *ONLY_IN.values())
    assert named - rooms == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("triptych.model", "from triptych import errors, store"),
        ("triptych.model", "from triptych.studio import Studio"),
        ("triptych.catalog", "import triptych.wire"),
        ("triptych.providers.atlas", "def submit():\n    from triptych import wire"),
        ("triptych.providers.atlas", "from ..engine import Engine"),
        ("triptych.wire", "if TYPE_CHECKING:\n    from triptych.engine import Engine"),
        ("triptych.engine", "from triptych import config"),
        ("triptych.studio", "from triptych.config import Settings"),
        ("triptych.studio", "from triptych.server import tools"),
        ("triptych.server.tools", "from triptych import cli"),
        ("triptych.server.tools", "from triptych import emulator"),
        ("triptych.server.tools", "import click"),
        ("triptych.studio", "import mcp.types"),
        ("triptych.providers.atlas", "import httpx2"),
        ("triptych.emulator.atlas", "from triptych import model"),
        ("triptych.emulator.atlas", "from triptych.providers import load"),
        ("triptych.utils", "import os"),
    ],
)
def test_an_arrow_that_points_back_is_seen_wherever_it_hides(module: str, source: str) -> None:
    ours = frozenset(modules())
    arrows = frozenset(imports_of(source, module.rpartition(".")[0], ours))
    [complaint] = complaints({module: arrows})
    assert complaint.startswith(module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("triptych.wire", "from triptych import __version__, errors\nimport httpx2"),
        ("triptych.server.tools", "from triptych.server import schemas\nfrom triptych.studio import Studio"),
        ("triptych.cli", "import click\nfrom triptych import config, emulator"),
        ("triptych.emulator.atlas", "from triptych.emulator.stage import Emulator\nfrom triptych import retouch"),
    ],
)
def test_an_arrow_that_points_forward_is_not(module: str, source: str) -> None:
    arrows = frozenset(imports_of(source, module.rpartition(".")[0], frozenset(modules())))
    assert complaints({module: arrows}) == []


def test_a_circle_is_seen_and_a_module_taken_from_its_package_is_none() -> None:
    assert circle({"triptych.a": frozenset({"triptych.b"}), "triptych.b": frozenset({"triptych.a"})})
    assert not circle({"triptych.a": frozenset({"triptych.b", "os"}), "triptych.b": frozenset({"triptych.c"})})
    taken = imports_of("from triptych.retouch import masks", "triptych.retouch", frozenset({"triptych.retouch.masks"}))
    assert list(taken) == ["triptych.retouch.masks"]
