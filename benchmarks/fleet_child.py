"""The processes of the fleet that are not the real programs.

python -m benchmarks.fleet_child emulators '{…}'        the six providers; every line in brings out their books
python -m benchmarks.fleet_child mutant NAME serve …     `triptych serve …` with one mistake in it (`fleet_mutants`)
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.soak_child import books, paint, say


def emulate(asked: dict[str, Any]) -> None:
    """Run all emulated providers until stdin closes; `share` of everything goes wrong, drawn with `seed`."""
    import triptych_emulators

    with ExitStack() as stack:
        apis = []
        for place, name in enumerate(triptych_emulators.names()):
            switches: dict[str, Any] = {} if name in ("ark", "novita") else {"balance_usd": "100000"}
            switches |= {"files_kept": 1_000_000} if name == "evolink" else {}
            running = triptych_emulators.running(
                name, latency_s=asked["latency_s"], max_side=16, painter=paint, **switches
            )
            api = stack.enter_context(running)
            if asked["share"]:
                api.chance(asked["share"], asked["seed"] + place, asked["but"])
            apis.append(api)
        say({api.name: [api.base_url, api.key, api.key_variable] for api in apis})
        for _ in sys.stdin:
            say([entry | times for api in apis for entry, times in zip(books(api), times_of(api), strict=True)])


def times_of(api: Any) -> list[dict[str, float]]:
    """Return when each accepted request began and ended, in UTC seconds."""
    return [{"began_s": work.submitted_at, "ended_s": work.finish_at} for work in api.jobs]


def store_objects(bucket: str) -> None:
    """Run an S3 API in memory until stdin closes."""
    from urllib.request import Request, urlopen

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    signed = "AWS4-HMAC-SHA256 Credential=fleet/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    urlopen(Request(f"http://{host}:{port}/{bucket}", method="PUT", headers={"Authorization": signed}))
    say(port)
    sys.stdin.read()
    server.stop()


def main(argv: Sequence[str]) -> None:
    if argv[0] == "emulators":
        emulate(json.loads(argv[1]))
        return
    if argv[0] == "s3":
        store_objects(argv[1])
        return
    from benchmarks import fleet_mutants

    fleet_mutants.install(argv[1])
    from triptych.__main__ import main as triptych

    sys.argv = ["triptych", *argv[2:]]
    triptych()


if __name__ == "__main__":
    main(sys.argv[1:])
