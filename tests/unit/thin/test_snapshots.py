"""The answers of the package are those of the real server, and answers of another server are not used."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from support import ROOT
from triptych import __version__
from triptych.server import snapshots as written
from triptych.thin import snapshots
from triptych.thin.messages import Unknown

VERSIONS = {"mcp": "2.3.0", "mcp_types": "2.3.0", "pydantic": "2.14.3", "pydantic_core": "2.50.4"}


def pinned() -> dict[str, str]:
    """Return the versions in constraints.txt, with which the package is built."""
    found = re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    versions = {name.lower().replace("-", "_"): version for name, version in found}
    return {name: versions[name] for name in snapshots.VERSIONED}


@pytest.fixture(scope="module")
def packaged() -> str:
    return written.packaged()


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A directory with the folders of an installation."""
    site = tmp_path / "site"
    for name, version in VERSIONS.items():
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").touch()
        (site / f"{name}-{version}.dist-info").mkdir()
    return site


@pytest.fixture
def other_sdk(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Another version of the SDK than that of the package's answers."""
    found = {"triptych": __version__, **VERSIONS, "mcp": "2.99"}
    monkeypatch.setattr(snapshots, "installed", lambda path: found)
    return found


def test_the_answers_of_the_package_are_those_of_this_server(packaged: str) -> None:
    if os.environ.get("TRIPTYCH_UPDATE_SNAPSHOTS"):
        Path(snapshots.PACKAGED).write_text(packaged, "utf-8", newline="\n")
    if snapshots.installed(sys.path) != {"triptych": __version__, **pinned()}:
        pytest.skip("the answers are of the versions in constraints.txt, and are not used with others")
    assert Path(snapshots.PACKAGED).read_text("utf-8") == packaged, "run scripts/snapshots"


def test_the_answers_that_are_used_are_of_the_installed_packages() -> None:
    found = snapshots.find(None)
    assert found is None or found.key == snapshots.installed(sys.path)


def test_the_versions_are_read_from_the_folders(installation: Path) -> None:
    assert snapshots.installed(["/none", str(installation)]) == {"triptych": __version__, **VERSIONS}


def test_only_packages_on_the_path_count(installation: Path, tmp_path: Path) -> None:
    (tmp_path / "cwd" / "mcp").mkdir(parents=True)  # no package: an import goes on past it
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mcp").touch()
    path = [str(tmp_path / "cwd"), str(tmp_path / "bin"), str(installation)]
    assert snapshots.installed(path) == {"triptych": __version__, **VERSIONS}


@pytest.mark.parametrize("spoil", ["two versions", "no version", "a module", "no package", "a zip file", "no folder"])
def test_unclear_versions_are_no_versions(installation: Path, spoil: str) -> None:
    path = [str(installation)]
    if spoil == "two versions":
        (installation / "mcp-2.2.0.dist-info").mkdir()
    elif spoil == "no version":
        (installation / "mcp-2.3.0.dist-info").rmdir()
    elif spoil == "a module":
        (installation / "pydantic.py").touch()
    elif spoil == "no package":
        (installation / "pydantic" / "__init__.py").unlink()
    elif spoil == "a zip file":
        (installation / "more.zip").touch()
        path = [str(installation / "more.zip"), *path]
    else:
        path = []
    assert snapshots.installed(path) is None


def test_answers_of_another_sdk_are_not_used(other_sdk: dict[str, str], tmp_path: Path) -> None:
    assert snapshots.find(None) is None
    assert snapshots.find(str(tmp_path)) is None


@pytest.mark.usefixtures("other_sdk")
def test_the_server_keeps_its_own_answers_for_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "answers.txt.123").write_text("of a killed process")
    written.keep(tmp_path)
    found = snapshots.find(str(tmp_path))
    assert found and b"io.modelcontextprotocol" in found.text("2026-07-28", "server/discover", 1)
    assert [path.name for path in tmp_path.iterdir()] == [snapshots.NAME]
    if os.name == "posix":
        assert (tmp_path / snapshots.NAME).stat().st_mode & 0o077 == 0


def test_kept_answers_end_with_their_sdk_and_their_package(
    tmp_path: Path, other_sdk: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written.keep(tmp_path)
    other_sdk["pydantic"] = "2.99"
    assert snapshots.find(str(tmp_path)) is None
    other_sdk["pydantic"] = VERSIONS["pydantic"]
    assert snapshots.find(str(tmp_path))
    changed = tmp_path / "changed.txt"
    changed.write_bytes(Path(snapshots.PACKAGED).read_bytes() + b"\n")
    monkeypatch.setattr(snapshots, "PACKAGED", str(changed))
    assert snapshots.find(str(tmp_path)) is None


@pytest.mark.usefixtures("other_sdk")
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"key": 1}'])
def test_a_damaged_file_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    (tmp_path / snapshots.NAME).write_bytes(content)
    assert snapshots.find(str(tmp_path)) is None
    written.keep(tmp_path)
    assert snapshots.find(str(tmp_path))


@pytest.mark.usefixtures("other_sdk")
def test_half_a_file_is_no_snapshot(tmp_path: Path) -> None:
    written.keep(tmp_path)
    path = tmp_path / snapshots.NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert snapshots.find(str(tmp_path)) is None


@pytest.mark.usefixtures("other_sdk")
def test_a_home_that_cannot_be_written_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "a file"
    home.touch()
    written.keep(home)
    written.keep(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_the_server_keeps_nothing_that_the_package_has(tmp_path: Path) -> None:
    if snapshots.find(None) is None:
        pytest.skip("the package has no answers of the installed SDK")
    written.keep(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("request_id", ["@id@", "@images@"])
def test_an_id_that_looks_like_a_mark_stays(packaged: str, request_id: str) -> None:
    found = snapshots.Snapshot(packaged.encode())
    listed = json.loads(found.text("2025-06-18", "resources/list", request_id, ['{"uri":"x"}']))
    assert listed["id"] == request_id and listed["result"]["resources"][-1] == {"uri": "x"}


def test_an_answer_has_the_id_and_the_images(packaged: str) -> None:
    found = snapshots.Snapshot(packaged.encode())
    listed = found.text("2025-06-18", "resources/list", "a", ['{"uri":"x"}'])
    fields = json.loads(listed)
    assert fields["id"] == "a" and fields["result"]["resources"][-1] == {"uri": "x"}
    assert json.loads(found.text("2025-06-18", "resources/list", 7))["id"] == 7
    with pytest.raises(Unknown):
        found.text("2026-07-28", "ping", 1)
    with pytest.raises(Unknown):
        found.text("2031-01-01", "tools/list", 1)
