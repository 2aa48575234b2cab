"""The control paths of an emulated API, `/_emulator/…`: faults, log and books over HTTP, for tests in other processes.

They need no key and are not logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from triptych_emulators.kit.faults import BadDirective, FaultType
from triptych_emulators.kit.requests import RecordedRequest


class Controlled(Protocol):
    """The part of an emulator that its control paths use."""

    @property
    def faults(self) -> Sequence[FaultType]: ...

    @property
    def seen(self) -> list[RecordedRequest]: ...
    @property
    def accepted(self) -> list[str]: ...
    @property
    def charged_usd(self) -> Decimal: ...
    def fault(self, op: str, name: str, times: int | None = 1, **options: Any) -> None: ...
    def clear_faults(self) -> None: ...
    def finish_all(self) -> None: ...


def control_routes(emulator: Controlled) -> list[Route]:
    """Return the control paths of one emulator."""

    async def add_fault(request: Request) -> Response:
        try:
            fields = dict(await request.json())
            emulator.fault(str(fields.pop("op")), str(fields.pop("name")), fields.pop("times", 1), **fields)
        except (BadDirective, KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error) or type(error).__name__}, 400)
        return Response(status_code=204)

    async def clear_faults(_: Request) -> Response:
        emulator.clear_faults()
        return Response(status_code=204)

    async def list_faults(_: Request) -> Response:
        rows = [{"op": f.op, "name": f.name, "about": f.about, "options": dict(f.options)} for f in emulator.faults]
        return JSONResponse(rows)

    async def list_seen(_: Request) -> Response:
        rows = [
            {**vars(seen), "body": None, "size": len(seen.body), "headers": _without_key(seen.headers)}
            for seen in emulator.seen
        ]
        return JSONResponse(rows)

    async def ledger(_: Request) -> Response:
        return JSONResponse({"accepted": emulator.accepted, "charged_usd": str(emulator.charged_usd)})

    async def finish(_: Request) -> Response:
        emulator.finish_all()
        return Response(status_code=204)

    return [
        Route("/_emulator/faults", add_fault, methods=["POST"]),
        Route("/_emulator/faults", clear_faults, methods=["DELETE"]),
        Route("/_emulator/faults", list_faults, methods=["GET"]),
        Route("/_emulator/seen", list_seen, methods=["GET"]),
        Route("/_emulator/ledger", ledger, methods=["GET"]),
        Route("/_emulator/finish", finish, methods=["POST"]),
    ]


def _without_key(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: "…" if name in ("authorization", "api-key") else value for name, value in headers.items()}
