"""Dependencies point one way: this reads every import and fails on an arrow that points back."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import triptych

SOURCE = Path(triptych.__file__).parents[1]

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    room: frozenset(known.split())
    for room, known in {
        "thin": "",
        "core": "",
        "catalog": "core",
        "images": "core",
        "storage": "core images",
        "providers": "core catalog images storage",
        "jobs": "core catalog images storage providers",
        "logs": "core providers",
        "settings": "core providers jobs logs",
        "server": "core catalog images storage providers jobs logs settings thin",
        "cli": "core catalog images storage providers jobs logs settings server thin triptych_emulators",
        "__main__": "settings server cli thin",
        "triptych_emulators": "core images",
    }.items()
}
"""One row for each package: the others that it may import. `triptych` itself, the version, is open to all."""

ONLY_IN = {
    "click": frozenset({"cli"}),
    "mcp": frozenset({"server", "cli"}),
    "httpx2": frozenset({"providers"}),
    "sqlite3": frozenset({"storage", "jobs", "thin"}),
    "PIL": frozenset({"images", "providers", "triptych_emulators"}),
    "platformdirs": frozenset({"settings"}),
}
"""Libraries that must not leave the rooms made for them."""

Imports = Mapping[str, frozenset[str]]


def modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name."""
    found = {}
    for package in ("triptych", "triptych_emulators"):
        for path in (SOURCE / package).rglob("*.py"):
            parts = path.relative_to(SOURCE).with_suffix("").parts
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


@functools.cache
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
    """Return which room of the design a module of ours stands in."""
    package, _, rest = module.partition(".")
    return package if package == "triptych_emulators" or not rest else rest.split(".")[0]


def complaints(imports: Imports) -> list[str]:
    """Return a sentence for every arrow that points where it must not."""
    found = []
    for module, targets in sorted(imports.items()):
        here = room(module)
        if here not in MAY_IMPORT and here != "triptych":
            found.append(f"{module} has no row in MAY_IMPORT")
            continue
        for target in sorted(targets):
            library = target.split(".")[0]
            if library not in ("triptych", "triptych_emulators"):
                if here not in ONLY_IN.get(library, {here}):
                    found.append(f"{module} imports {library}, which belongs in {', '.join(sorted(ONLY_IN[library]))}")
            elif room(target) not in (here, "triptych") and not any(
                f"{target}.".startswith((f"triptych.{known}.", f"{known}.")) for known in MAY_IMPORT.get(here, ())
            ):
                found.append(f"{module} imports {target}, which {here} must not know")
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


def public_faces() -> dict[str, frozenset[str]]:
    """Return the names in `__all__` of every package that has one."""
    found = {}
    for module, path in modules().items():
        if path.name == "__init__.py" and module.count(".") == 1:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    found[module] = frozenset(ast.literal_eval(node.value))
    return found


@pytest.mark.parametrize("package", sorted(public_faces()))
def test_other_rooms_import_only_the_public_face(package: str) -> None:
    used = {
        target.removeprefix(f"{package}.").split(".")[0]
        for module, targets in read_imports().items()
        if room(module) != room(package)
        for target in targets
        if target.startswith(f"{package}.")
    }
    assert used <= public_faces()[package]


def test_these_rooms_have_a_public_face() -> None:
    assert public_faces().keys() >= {
        f"triptych.{name}" for name in ("core", "catalog", "images", "storage", "providers", "jobs", "server")
    }


def test_no_arrow_points_back() -> None:
    assert complaints(read_imports()) == []


def test_no_two_modules_need_each_other() -> None:
    assert circle(read_imports()) == []


def test_every_room_has_its_row_and_every_row_its_room() -> None:
    assert {room(module) for module in modules()} - {"triptych"} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("triptych.core.models", "from triptych.storage import jobs"),
        ("triptych.core.models", "from triptych.jobs.service import ImageService"),
        ("triptych.catalog", "import triptych.providers.client"),
        ("triptych.storage.jobs", "from triptych.providers import load"),
        ("triptych.providers.atlas", "def submit():\n    from triptych.jobs import worker"),
        ("triptych.providers.atlas", "from ..jobs.worker import Worker"),
        ("triptych.providers.client", "if TYPE_CHECKING:\n    from triptych.jobs.worker import Worker"),
        ("triptych.jobs.worker", "from triptych import settings"),
        ("triptych.jobs.service", "from triptych.settings import Settings"),
        ("triptych.jobs.service", "from triptych.server import tools"),
        ("triptych.server.tools", "from triptych import cli"),
        ("triptych.server.tools", "import triptych_emulators"),
        ("triptych.server.tools", "import click"),
        ("triptych.jobs.service", "import mcp.types"),
        ("triptych.jobs.planning", "import httpx2"),
        ("triptych_emulators.atlas", "from triptych.catalog import presets"),
        ("triptych_emulators.atlas", "from triptych.providers import load"),
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
        (
            "triptych.providers.client",
            "from triptych import __version__\nimport httpx2",
        ),
        (
            "triptych.server.tools",
            "from triptych.server import schemas\nfrom triptych.jobs.service import ImageService",
        ),
        ("triptych.cli", "import click\nimport triptych_emulators\nfrom triptych import settings"),
        (
            "triptych_emulators.atlas",
            "import triptych_emulators.kit\nfrom triptych.images import files",
        ),
    ],
)
def test_an_arrow_that_points_forward_is_not(module: str, source: str) -> None:
    arrows = frozenset(imports_of(source, module.rpartition(".")[0], frozenset(modules())))
    assert complaints({module: arrows}) == []


def test_a_circle_of_imports_is_found() -> None:
    assert circle({"triptych.a": frozenset({"triptych.b"}), "triptych.b": frozenset({"triptych.a"})})
    assert not circle({"triptych.a": frozenset({"triptych.b", "os"}), "triptych.b": frozenset({"triptych.c"})})
    taken = imports_of(
        "from triptych.providers.preview import masks",
        "triptych.providers.preview",
        frozenset({"triptych.providers.preview.masks"}),
    )
    assert list(taken) == ["triptych.providers.preview.masks"]
