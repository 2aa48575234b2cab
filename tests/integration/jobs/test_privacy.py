"""What PRIVACY.md promises: what a provider gets of the user's files, and which hosts are asked at all."""

from __future__ import annotations

import ast
import base64
import getpass
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from support import ROOT
from support.clocks import FakeClock
from support.fixtures import Finish, MakeService
from support.jobs import NOW, edit_sequence, ended
from triptych import providers
from triptych.cli import updates
from triptych_emulators import names, running

POLICY = (ROOT / "PRIVACY.md").read_text("utf-8")
SECRET_FILE, SECRET_FOLDER = "grandmas-house-in-ulm", "divorce-papers"
SECRET_WORDS = ("Owner Serial 4711", "48.4011 North", "private remark")
PROMPT = "make it golden hour"
SENT = {
    *("host", "accept", "accept-encoding", "connection", "user-agent", "authorization", "content-type"),
    *("content-length", "transfer-encoding", "idempotency-key"),
}

SENT_FILES = [*((name, "jpg") for name in names()), ("atlas", "png"), ("novita", "png")]


def photograph(folder: Path, suffix: str) -> Path:
    """Return a picture whose name, directory and metadata say what nobody should read."""
    folder.mkdir()
    path = folder / f"{SECRET_FILE}.{suffix}"
    image = Image.new("RGB", (1200, 900), (180, 120, 60))
    if suffix == "png":
        texts = PngInfo()
        for n, word in enumerate(SECRET_WORDS):
            texts.add_text(f"Comment{n}", word)
        image.save(path, pnginfo=texts)
        return path
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298] = SECRET_WORDS
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 24.0, 4.0)
    image.save(path, exif=exif, comment=SECRET_WORDS[2])
    return path


def hidden(body: bytes) -> bytes:
    """Return a body together with what its base64 parts hold."""
    parts = [body]
    for found in re.findall(rb"[A-Za-z0-9+/]{200,}={0,2}", body):
        parts.append(base64.b64decode(found + b"=" * (-len(found) % 4)))
    return b"\0".join(parts)


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "suffix"), SENT_FILES)
async def test_a_provider_gets_neither_names_nor_metadata_of_files(
    make_service: MakeService, clock: FakeClock, finish: Finish, tmp_path: Path, name: str, suffix: str
) -> None:
    path = photograph(tmp_path / SECRET_FOLDER, suffix)
    before = path.read_bytes()
    assert all(word.encode() in before for word in SECRET_WORDS)
    with running(name, latency_s=0.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api, TRIPTYCH_ALLOWED_DIRS=str(tmp_path), TRIPTYCH_CONFIRM_USD="none") as service:
            started = await edit_sequence(service, [str(path)], PROMPT, 2, NOW)
            job = await ended(service, finish, started.job_id)
            assert job.status == "done"
        seen = api.seen
    private = [SECRET_FILE, SECRET_FOLDER, *SECRET_WORDS, str(tmp_path), str(Path.home())]
    # A short name may stand in any body by chance.
    private += [who for who in (socket.gethostname(), getpass.getuser()) if len(who) > 7 and who != "localhost"]
    for request in seen:
        told = f"{request.path} {request.query} {request.headers}".encode() + hidden(request.body)
        for word in private:
            assert word.encode() not in told, (request.method, request.path, word)
        assert set(request.headers) <= SENT, request.path
        assert re.fullmatch(r"triptych/[\d.]+", request.headers["user-agent"])
        assert b"Exif" not in hidden(request.body)
    assert any(PROMPT.encode() in request.body for request in seen)
    assert any(len(request.body) > 2000 for request in seen), "the picture itself was sent"


@pytest.mark.anyio
async def test_without_a_key_nothing_leaves_the_machine(
    make_service: MakeService, finish: Finish, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def refused(*args: Any, **_: Any) -> Any:
        tried.append(args)
        raise OSError("no network in this test")

    for owner, name in ((socket.socket, "connect"), (socket.socket, "sendto"), (socket, "getaddrinfo")):
        monkeypatch.setattr(owner, name, refused)
    async with make_service(TRIPTYCH_MODELS="live") as service:
        await service.upload_images([coffee])
        job = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id)
        await service.list_models(query="seedream")
        await service.view_images([f"{job.job_id}/1"])
    assert job.status == "done" and tried == []


def hosts_in_source() -> set[str]:
    """Return the hosts of all URLs that the source can ask; docstrings and examples ask nobody."""
    found = set()
    for path in (ROOT / "src" / "triptych").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                found |= set(re.findall(r"\b(?:https?|wss?)://([A-Za-z0-9][\w.-]*\.[a-z]{2,})", node.value))
    for suffix in ("html", "js", "css"):
        for page in (ROOT / "src" / "triptych").rglob(f"*.{suffix}"):
            found |= set(re.findall(r"\b(?:https?|wss?)://([\w.-]+\.[a-z]{2,})", page.read_text("utf-8")))
    return {host for host in found if not host.endswith(("example.com", ".example"))}


def test_the_source_knows_no_hosts_but_these() -> None:
    known = {
        urlsplit(base.default).hostname
        for name in providers.names()
        for base in providers.load(name).base_urls.values()
    }
    assert hosts_in_source() == known | {urlsplit(updates.INDEX_URL).hostname}


def test_the_policy_names_every_host_and_provider() -> None:
    for host in hosts_in_source():
        assert f"`{host}`" in POLICY, host
    for name in names():
        assert f"/providers/{name}.md" in POLICY, name
