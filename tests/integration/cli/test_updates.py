"""A newer version: `doctor --check-updates` asks the index for it, and nothing else ever does."""

from __future__ import annotations

import json
import re
import socket
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from support import ROOT
from triptych import __version__
from triptych.cli import cli, updates
from triptych.cli.formatting import Exit
from triptych.providers import operator_urls

README = (ROOT / "README.md").read_text("utf-8")


@contextmanager
def index(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> Iterator[list[Any]]:
    """Stand in for the package index on loopback; yield the requests that it got."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers.items())))
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(updates, "INDEX_URL", f"http://127.0.0.1:{server.server_port}/pypi/triptych/json")
            yield asked
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def package(version: Any, description: str = README) -> dict[str, Any]:
    return {"info": {"name": "triptych", "version": version, "description": description}, "releases": {}}


def doctor(*options: str) -> Result:
    result = CliRunner().invoke(cli, ["doctor", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def said(*options: str) -> dict[str, Any]:
    """Return the check of updates; the doctor is content."""
    result = doctor("--check-updates", "--json", *options)
    assert result.exit_code == Exit.DONE, result.output
    [check] = [check for check in json.loads(result.stdout)["checks"] if check["about"] == "updates"]
    found: dict[str, Any] = check
    return found


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuse every connection and every look-up of a name; return what was tried."""
    tried: list[Any] = []

    def refused(*args: Any, **_: Any) -> Any:
        tried.append(args)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refused)
    return tried


def test_a_plain_doctor_asks_no_index(connections: list[Any]) -> None:
    for options in ((), ("--offline",), ("--json",)):
        result = doctor(*options)
        assert result.exit_code == Exit.DONE and "updates" not in result.stdout
    assert connections == []


def test_offline_the_doctor_is_content_and_says_why(connections: list[Any]) -> None:
    check = said()
    assert check["state"] == "ok" and check["mend"] is None
    assert check["found"].startswith(f"{__version__} is installed; pypi.org could not be asked: There was no answer")
    assert connections


def test_a_newer_version_is_shown_with_how_to_upgrade() -> None:
    with index(package("999.0")) as asked:
        check = said()
    assert check["state"] == "off" and check["found"].endswith("has 999.0")
    assert check["found"].startswith(f"{__version__} is installed")
    for way in ("uv tool upgrade triptych", "pipx upgrade triptych", "pip install --upgrade triptych", "git pull"):
        assert way in check["mend"]
    [(path, headers)] = asked
    assert path == "/pypi/triptych/json"
    assert {name.lower() for name in headers} <= {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert headers["User-Agent"] == f"triptych/{__version__}"


@pytest.mark.parametrize("newest", [__version__, "0.0.1", f"{__version__}.0"])
def test_the_newest_version_needs_no_upgrade(newest: str) -> None:
    with index(package(newest)):
        check = said()
    assert (check["state"], check["mend"]) == ("ok", None) and "none newer" in check["found"]


def test_another_projects_package_is_never_recommended() -> None:
    with index(package("999.0", "Three panels for something else.")):
        check = said()
    assert check["mend"] is None and "another project" in check["found"] and "999" not in check["found"]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ({"message": "Not Found"}, 404, "has no such package"),
        (b"<html>", 200, "no usable answer (HTTP 200)"),
        (b"\xff\x00", 503, "no usable answer (HTTP 503)"),
        ([], 200, "no usable answer"),
        ({"info": None}, 200, "no usable answer"),
        (package(None), 200, "no usable answer"),
        (package("999.0rc1"), 200, "as its newest"),
        (package("1\x1b[31m\n" + "9" * 5000), 200, "as its newest"),
    ],
)
def test_an_odd_answer_of_the_index_is_no_fault(answer: Any, status: int, words: str) -> None:
    with index(answer, status):
        check = said()
    assert check["mend"] is None and words in check["found"]
    assert len(check["found"]) < 300 and check["found"].isprintable()


def test_no_redirect_of_the_index_is_followed() -> None:
    with index(b"", 302, {"Location": "/elsewhere"}) as asked:
        assert "no usable answer (HTTP 302)" in said()["found"]
    assert len(asked) == 1


def test_a_silent_index_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_urls, "LIMIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(updates, "INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert "could not be asked" in said()["found"]


def test_a_fault_elsewhere_still_fails_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CONFIRM_USD", "some")
    with index(package(__version__)):
        result = doctor("--check-updates")
    assert result.exit_code == Exit.FAILED and "none newer" in result.stdout


def test_offline_and_a_check_for_updates_contradict() -> None:
    result = doctor("--offline", "--check-updates")
    assert result.exit_code == Exit.BAD_REQUEST and "leave out --offline" in result.stderr


def test_the_index_is_asked_for_this_package_over_https() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"https://pypi.org/pypi/{project['name']}/json" == updates.INDEX_URL
    assert urlsplit(updates.INDEX_URL).scheme == "https"
    assert project["readme"] == "README.md" and updates.OURS in README
    assert re.search(r"<!-- mcp-name: \S+ -->", README)
