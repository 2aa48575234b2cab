"""An S3 API on loopback (moto), and a proxy before it that fails as real object stores and networks do."""

from __future__ import annotations

import functools
import http.client
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from triptych.core.clock import Clock
from triptych.images.objects import Objects, ObjectsPlace

FAULTS = ("slow", "full", "over quota", "forbidden", "busy", "away", "answer lost")
"""What a request to store an image may come to. After "answer lost" the image is stored."""
_ANSWERS = {
    "full": (507, "XMinioStorageFull"),
    "over quota": (403, "QuotaExceeded"),
    "forbidden": (403, "AccessDenied"),
    "busy": (503, "SlowDown"),
    "missing": (404, "NoSuchKey"),
    "no conditions": (501, "NotImplemented"),
}
SLOW_S = 1.5
TIMEOUT_S = 0.5
SECRET = "a-secret-key-of-the-bucket"


@functools.cache
def moto_port() -> int:
    """Return the port of the S3 API of this test process; the first call starts it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    return int(server.get_host_and_port()[1])


@dataclass
class Fault:
    """The next `times` requests of a method come to `kind`, after `after` others."""

    method: str
    kind: str
    times: int
    after: int = 0


@dataclass
class Bucket:
    """A bucket behind the failing proxy."""

    name: str
    port: int
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """The method and the path below the bucket of every request."""
    answered: list[int] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "TRIPTYCH_OBJECTS_URL": f"s3://{self.name}/of/us",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def place(self, timeout_s: float = TIMEOUT_S, **more: str) -> ObjectsPlace:
        options = {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "access_key_id": "AKIDEXAMPLE",
            "secret_access_key": SECRET,
            "region": "us-east-1",
        }
        return ObjectsPlace(f"s3://{self.name}/of/us", {**options, **more}, allow_http=True, timeout_s=timeout_s)

    def open(self, clock: Clock, timeout_s: float = TIMEOUT_S) -> Objects:
        return Objects(self.place(timeout_s), clock)

    def fail(self, method: str, kind: str, times: int = 1, after: int = 0) -> None:
        self.faults.append(Fault(method, kind, times, after))

    def stored(self) -> dict[str, tuple[str, bytes]]:
        """Return the type and the bytes of every object below the prefix, read past the proxy."""
        import obstore
        from obstore.store import S3Store

        place = self.place(30, endpoint=f"http://127.0.0.1:{moto_port()}")
        store = S3Store(self.name, prefix="of/us", config=dict(place.options), client_options={"allow_http": True})  # type: ignore[arg-type]
        found = {}
        for part in obstore.list(store):
            for one in part:
                answer = obstore.get(store, one["path"])
                found[one["path"]] = (str(answer.attributes.get("Content-Type")), bytes(answer.bytes()))
        return found

    def number(self, method: str) -> int:
        return sum(1 for asked, path in self.asked if asked == method and "/images/" in path)

    def _fault(self, method: str) -> str | None:
        for fault in self.faults:
            if fault.method in (method, "*") and fault.times:
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault.kind
        return None


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Make a bucket of its own behind a proxy of its own."""
    made = Bucket(f"bucket-{uuid4().hex[:12]}", 0)
    _pass_on("PUT", f"/{made.name}", {}, b"")

    class Handler(_Proxy):
        bucket = made

    server = _Server(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Proxy(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        below = self.path.removeprefix(f"/{self.bucket.name}")
        kind = self.bucket._fault(self.command)
        self.bucket.asked.append((self.command, below))
        if kind == "slow":
            time.sleep(SLOW_S)
        if kind in ("away", "slow"):
            self.close_connection = True
            return
        if kind == "no conditions" and "If-None-Match" not in self.headers:
            kind = None
        if kind in _ANSWERS:
            status, code = _ANSWERS[kind]
            self._answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())
            return
        status, headers, body = _pass_on(self.command, self.path, dict(self.headers.items()), data)
        if kind == "answer lost":
            self.close_connection = True
        elif kind == "cut off":
            self._answer(status, headers, body, len(body) // 2)
            self.close_connection = True
        elif kind == "short":
            self._answer(status, headers | {"Content-Length": str(len(body) // 2)}, body, len(body) // 2)
        else:
            self._answer(status, headers, body)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, send: int | None = None) -> None:
        self.bucket.answered.append(status)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:send])

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle  # noqa: N815


def _pass_on(method: str, path: str, headers: dict[str, str], data: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", moto_port(), timeout=30)
    try:
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "server", "date")
        }
        return answer.status, kept, answer.read()
    finally:
        connection.close()
