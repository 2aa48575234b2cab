"""The faults of every emulated API, over real sockets: one response is spoiled, and the next is whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.clients import AUTH
from support.clocks import HandClock
from support.emulated_apis import Api, apis
from triptych_emulators import Emulator, faults, running
from triptych_emulators.kit import for_every_op, for_results

APIS = apis()
GENERIC = tuple(fault for fault in for_every_op(("submit",)))
OPS = [(name, op) for name in APIS for op in dict.fromkeys(fault.op for fault in faults(name)) if op != "callback"]
POLLED = [name for name, api in APIS.items() if api.poll]

REFUSALS = [
    ("atlas", "moderated-before", 400, 400),
    ("wavespeed", "moderated-at-once", 400, "1200"),
    ("wavespeed", "no-funds", 403, "insufficient_credits"),
    ("evolink", "moderated-at-once", 400, "content_policy_violation"),
    ("evolink", "user-quota", 402, "insufficient_user_quota"),
    ("evolink", "daily-quota", 402, "token_daily_quota_exceeded"),
    ("evolink", "model-unavailable", 403, "model_unavailable"),
    ("evolink", "502", 502, "upstream_error"),
    ("runware", "moderated-before", 400, "contentPolicyViolation"),
    ("runware", "no-funds", 200, "insufficientCredits"),
    ("runware", "unknown-model", 400, "invalidModel"),
    ("runware", "model-unavailable", 503, "modelUnavailable"),
    ("runware", "401", 401, "invalidApiKey"),
    ("runware", "429", 429, "rateLimitExceeded"),
    ("runware", "503", 503, "noAvailableServer"),
    ("runware", "504", 504, "timeoutProvider"),
    ("ark", "401", 401, "AuthenticationError"),
    ("ark", "503", 503, "ServerOverloaded"),
    ("novita", "404", 404, "PATH_NOT_FOUND"),
    ("novita", "429", 429, "RATE_LIMIT_EXCEEDED"),
]
"""Refused submits: API, fault, HTTP status, the provider's code. `test_ark` and `test_novita` have their own tables."""


@pytest.fixture(scope="module")
def emulators() -> Iterator[dict[str, tuple[Emulator, httpx2.Client]]]:
    started: dict[str, tuple[Emulator, httpx2.Client]] = {}
    stack = []
    for name, api in APIS.items():
        context = running(name, max_side=16, clock=HandClock(), **api.switches)
        emulator = context.__enter__()
        started[name] = emulator, httpx2.Client(base_url=emulator.base_url, headers=AUTH)
        stack.append(context)
    yield started
    for name, context in zip(started, stack, strict=True):
        started[name][1].close()
        context.__exit__(None, None, None)


class Running:
    """One running emulator and a client of it."""

    def __init__(self, api: Api, emulator: Emulator, client: httpx2.Client) -> None:
        self.api, self.emulator, self.client = api, emulator, client
        emulator.clear()

    def submit(self, prompt: str = "a kite") -> httpx2.Response:
        return self.api.submit(self.client, prompt)

    def submitted(self, prompt: str = "a kite") -> str:
        return self.api.job_id(self.submit(prompt).json())

    def polled(self, job_id: str) -> httpx2.Response:
        assert self.api.poll
        return self.api.poll(self.client, job_id)

    def result_url(self) -> str:
        response = self.submit()
        return self.api.urls((self.polled(self.api.job_id(response.json())) if self.api.poll else response).json())[0]

    def sender(self, op: str) -> Any:
        """Return a function that sends the same request of an operation each time."""
        if op == "submit":
            return self.submit
        if op == "poll":
            job_id = self.submitted()
            return lambda: self.polled(job_id)
        if op == "result":
            url = self.result_url()
            return lambda: self.client.get(url)
        return lambda: self.api.others[op](self.client)


@pytest.fixture
def run(request: pytest.FixtureRequest, emulators: dict[str, tuple[Emulator, httpx2.Client]]) -> Running:
    return Running(APIS[request.param], *emulators[request.param])


def arm(run: Running, op: str, name: str, **options: Any) -> None:
    run.emulator.fault(op, name, **({"seconds": 0.01} if name == "hang" else {}), **options)


def check_spoiled(run: Running, name: str, send: Any) -> None:
    if name in ("drop", "lost-answer", "hang"):
        with pytest.raises(httpx2.RemoteProtocolError):
            send()
        assert run.emulator.seen[-1].status == 0
        return
    got = send()
    if name.isdigit():
        assert got.status_code == int(name) and run.api.code(got.json())
        assert "retry-after" not in got.headers
    elif name == "html-502":
        assert got.status_code == 502 and "<html>" in got.text
    elif name == "broken-json":
        assert got.status_code == 200 and got.content
        with pytest.raises(ValueError):
            json.loads(got.content)
    elif name == "empty-body":
        assert (got.status_code, got.content) == (200, b"")
    else:
        assert name == "code-500-null" and got.json() == {"code": 500, "data": None}


@pytest.mark.parametrize("fault", GENERIC, ids=lambda fault: fault.name)
@pytest.mark.parametrize("run", APIS, indirect=True)
def test_a_fault_spoils_one_submit(run: Running, fault: Any) -> None:
    before = len(run.emulator.accepted)
    arm(run, "submit", fault.name)
    check_spoiled(run, fault.name, run.submit)
    assert len(run.emulator.accepted) - before == (fault.reach == "after")
    assert run.submit().status_code == 200


@pytest.mark.parametrize(("run", "op"), OPS, indirect=["run"])
def test_every_operation_has_every_generic_fault(run: Running, op: str) -> None:
    known = {fault.name for fault in faults(run.api.name) if fault.op == op}
    assert {fault.name for fault in GENERIC} <= known
    send = run.sender(op)
    for name in ("503", "drop", "broken-json"):
        arm(run, op, name)
        check_spoiled(run, name, send)
    assert send().status_code == 200


@pytest.mark.parametrize("run", APIS, indirect=True)
def test_a_rate_limit_can_name_its_wait(run: Running) -> None:
    run.emulator.fault("submit", "429", retry_after=7)
    assert run.submit().headers["retry-after"] == "7"


@pytest.mark.parametrize(("run", "name", "status", "code"), REFUSALS, indirect=["run"])
def test_a_refusal_with_a_code_accepts_nothing(run: Running, name: str, status: int, code: Any) -> None:
    before = len(run.emulator.accepted)
    run.emulator.fault("submit", name)
    refused = run.submit()
    assert (refused.status_code, run.api.code(refused.json())) == (status, code)
    assert len(run.emulator.accepted) == before


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("run", APIS, indirect=True)
def test_a_spoiled_submit_may_be_accepted(run: Running, accepted: bool) -> None:
    before = len(run.emulator.accepted)
    run.emulator.fault("submit", "504", accepted=accepted)
    assert run.submit().status_code == 504
    assert len(run.emulator.accepted) - before == accepted


@pytest.mark.parametrize("run", [name for name in POLLED if name != "runware"], indirect=True)
def test_an_accepted_submit_may_lack_or_have_an_odd_id(run: Running) -> None:
    before = len(run.emulator.accepted)
    run.emulator.fault("submit", "no-id")
    with pytest.raises(KeyError):
        run.submitted()
    run.emulator.fault("submit", "odd-ids")
    odd = run.submitted()
    assert "/" in odd and not odd.isascii()
    assert run.emulator.accepted[before + 1 :] == [odd]
    assert run.api.job_id(run.polled(odd).json()) == odd


@pytest.mark.parametrize("asked_by", ["test", "prompt", "http"])
@pytest.mark.parametrize("run", POLLED, indirect=True)
def test_a_test_the_prompt_or_http_injects_a_fault(run: Running, asked_by: str) -> None:
    name, prompt = "unknown-status", "a kite"
    if asked_by == "test":
        run.emulator.fault("poll", name)
    elif asked_by == "http":
        assert run.client.post("/_emulator/faults", json={"op": "poll", "name": name}).status_code == 204
    else:
        prompt = f"a kite [[emulate: {name}]]"
    job_id = run.submitted(prompt)
    statuses = [run.api.status(run.polled(job_id).json()) for _ in range(3)]
    assert statuses[:2] == ["warming", "warming"] and statuses[2] in ("completed", "success")
    other = run.polled(run.submitted("the next is as usual")).json()
    assert run.api.status(other) in ("completed", "success")


@pytest.mark.parametrize("run", POLLED, indirect=True)
def test_a_failed_job_costs_nothing(run: Running) -> None:
    before = run.emulator.charged_usd
    job_id = run.submitted("a kite [[emulate: moderated]]")
    assert run.polled(job_id).status_code == 200
    assert run.emulator.charged_usd == before
    run.submitted()
    assert run.emulator.charged_usd - before == Decimal(run.api.price_usd)


DOWNLOADS = {fault.name for fault in for_results()}


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
@pytest.mark.parametrize(
    ("run", "asked_by"), [("atlas", "test"), ("atlas", "prompt"), ("ark", "test")], indirect=["run"]
)
def test_a_spoiled_download_is_whole_the_second_time(run: Running, name: str, asked_by: str) -> None:
    options = {"seconds": 0.01} if name == "slow" else {}
    if asked_by == "test":
        run.emulator.fault("result", name, **options)
        url = run.result_url()
    else:
        words = " ".join([f"result/{name}", *(f"{key}={value}" for key, value in options.items())])
        url = run.api.urls(run.polled(run.submitted(f"a kite [[emulate: {words}]]")).json())[0]
    if name == "truncated":
        with pytest.raises(httpx2.RemoteProtocolError):
            run.client.get(url)
    else:
        got = run.client.get(url)
        assert got.status_code == {"410": 410, "redirect": 302}.get(name, 200)
        if name == "redirect":
            assert run.client.get(str(got.headers["location"])).status_code == 200
        if name == "not-an-image":
            assert got.headers["content-type"] == "image/png" and b"AccessDenied" in got.content
    assert Image.open(io.BytesIO(run.client.get(url).content)).format in ("PNG", "JPEG")


@pytest.mark.parametrize("name", APIS)
def test_every_declared_fault_is_unique_and_described(name: str) -> None:
    declared = faults(name)
    assert len({(fault.op, fault.name) for fault in declared}) == len(declared)
    assert all(fault.about for fault in declared)
    assert {fault.name for fault in declared if fault.op == "result"} - {f.name for f in GENERIC} == DOWNLOADS


@pytest.mark.parametrize("run", POLLED, indirect=True)
def test_a_strangers_job_is_listed_but_not_counted(run: Running) -> None:
    before = (run.emulator.accepted, run.emulator.charged_usd, run.emulator.performed["submit"])
    run.emulator.fault("submit", "drop")
    with httpx2.Client(base_url=run.emulator.base_url, headers={**AUTH, "X-Emulator-Stranger": "1"}) as stranger:
        job_id = run.api.job_id(run.api.submit(stranger, "a stranger's kite").json())
    assert run.api.status(run.polled(job_id).json()) in ("completed", "success")
    assert job_id in [job.id for job in run.emulator.account_jobs]
    assert before == (run.emulator.accepted, run.emulator.charged_usd, run.emulator.performed["submit"])
    with pytest.raises(httpx2.RemoteProtocolError):  # the fault waited for a request of ours
        run.submit()
