"""Known mistakes, put back into the program one at a time: what the simulation is shown to see.

A mutant is a list of replacements in the source of modules, made as they are imported, in a process of its own. A text
that a mutant replaces has to be there exactly once, so that a mutant which no longer applies fails a test.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Patch:
    """One replacement in one module; `.sql` and `.postgres.sql` name the statements of each database."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A mistake: its name, what makes it, and the only database that shows it."""

    name: str
    patches: Sequence[Patch]
    database: str = ""


def _one(name: str, module: str, old: str, new: str, database: str = "") -> Mutant:
    return Mutant(name, (Patch(module, old, new),), database)


MUTANTS: Sequence[Mutant] = (
    Mutant(
        "an interrupted submit is put back to queued",
        (
            Patch(
                "triptych.jobs.worker",
                "await self._store.put_back(claim, self._clock.monotonic() + LEASE_S)\n",
                "await self._submission._transitions.move(claim, claim.prediction.state, wait_s=LEASE_S)\n",
            ),
            Patch("triptych.jobs.transitions", "internal > INTERNAL_ERRORS", "internal > 0"),
            Patch("triptych.jobs.submission", "            if gate.left:\n", "            if False:\n"),
            Patch(
                "triptych.jobs.submission",
                "            if gate.left and claim.prediction.fault is None:\n",
                "            if False:\n",
            ),
            Patch(
                "triptych.jobs.submission",
                "outcome = _internal(error) if gate.left else errors.NotSent(_internal(error).message)\n",
                "raise\n",
            ),
        ),
    ),
    _one(
        "durations and leases are read from the wall clock",
        "simulation.world",
        "        return self._machine.monotonic()\n",
        "        return self._machine.wall()\n",
    ),
    Mutant(
        "the request leaves before it is written down",
        (
            Patch(
                "triptych.jobs.submission",
                "        sent = await self._transitions.move(\n            claim,\n            State.SUBMITTING,\n",
                "        sent = (lambda *_, **__: claim)(\n            claim,\n            State.SUBMITTING,\n",
            ),
            Patch(
                "triptych.jobs.submission",
                "        if sent and sent.prediction.state is State.SUBMITTING:",
                "        if sent:",
            ),
            Patch(
                "triptych.jobs.submit_gate",
                "        if not ours:\n            raise",
                "        if False:\n            raise",
            ),
            Patch(
                "triptych.core.states",
                "State.QUEUED: frozenset({State.SUBMITTING,",
                "State.QUEUED: frozenset({State.SUBMITTING, State.RUNNING, State.FETCHING, State.UNCERTAIN,",
            ),
        ),
    ),
    _one(
        "an answer is written once and not insisted on",
        "triptych.jobs.transitions",
        "            except errors.Outage as error:\n                log.log(",
        "            except errors.Outage as error:\n                raise\n                log.log(",
    ),
    _one(
        "the lease is not checked before the request leaves",
        "triptych.jobs.submit_gate",
        "        if not ours:\n            raise",
        "        if False:\n            raise",
    ),
    Mutant(
        "a claim reads the clock before it waits for the database",
        (
            Patch(
                "triptych.storage.claims",
                "            now_s = max(now.mono_s, self._clock.monotonic())\n",
                "            now_s = now.mono_s\n",
            ),
            Patch("triptych.jobs.worker", "            now = moment(self._clock)\n", ""),
            Patch(
                "triptych.jobs.worker",
                "        slots, held, lease = self._slots(), list(self._held), uuid4().hex\n",
                "        slots, held, lease = self._slots(), list(self._held), uuid4().hex\n"
                "        now = moment(self._clock)\n",
            ),
        ),
    ),
    _one(
        "a process takes over what it holds itself",
        "triptych.jobs.worker",
        "slots=slots, most=most, held=held), look\n",
        "slots=slots, most=most, held=[]), look\n",
    ),
    _one(
        "a prediction in the history is matched by its time alone",
        "triptych.providers._history",
        "            if entry.same is False or entry.ticket in known:\n                continue\n",
        "            entry = Entry(entry.ticket, entry.at_s, True)\n"
        "            if entry.ticket in known:\n                continue\n",
    ),
    _one(
        "the same request is looked for outside the transaction",
        "triptych.storage.jobs",
        "            if attach and (found := self.same_request(job.fingerprint, job.owner, job.request)):\n"
        "                return found\n",
        "",
    ),
    Mutant(
        "the budget is checked outside the transaction",
        (
            Patch(
                "triptych.storage.jobs",
                "            budget.require(sum((p.quoted_usd for p in predictions), Decimal(0)))\n",
                "",
            ),
            Patch(
                "triptych.jobs.job_creation",
                "        plan = cost_check.with_quotes(plan, await",
                "        balance = await self._store.tightest_budget(moment(self._clock), caller.owner, caller.group)\n"
                "        plan = cost_check.with_quotes(plan, await",
            ),
            Patch(
                "triptych.jobs.job_creation",
                "            await self._store.tightest_budget(moment(self._clock), caller.owner, caller.group),\n",
                "            balance,\n",
            ),
        ),
    ),
    _one(
        "an error while polling ends the job",
        "triptych.jobs.completion",
        "            if now_s >= deadline_at:\n                await self._miss_deadline(claim, message)\n",
        "            if True:\n"
        '                fault = Failure("outage", message, True)\n'
        "                await self._transitions.end(claim, State.FAILED, fault, free=True)\n",
    ),
    _one(
        "an image is stored without being decoded",
        "triptych.images.files",
        "        return self._write(data, processing.verify(data))\n",
        "        from triptych.images.processing import Facts\n\n"
        '        return self._write(data, Facts(mime_type="image/png", width=1, height=1))\n',
    ),
    _one(
        "a disk that says no breaks a paid stream off",
        "triptych.jobs.early_outputs",
        "        self._held.append(self._bounded(frame))\n",
        '        raise errors.Outage("The disk is full.")\n',
    ),
    _one(
        "asking for the status of an uncertain request sends it again",
        "triptych.jobs.submission",
        'prediction.fault.kind in ("uncertain", RESTARTED.kind):',
        "prediction.fault.kind == RESTARTED.kind:",
    ),
    _one(
        "the money held for an uncertain request is given back",
        "triptych.jobs.completion",
        "        await self._transitions.end(claim, State.UNCERTAIN, fault)\n",
        "        await self._transitions.end(claim, State.UNCERTAIN, fault, free=True)\n",
    ),
    _one(
        "a request that may still be on its way is not waited for",
        "triptych.jobs.submission",
        "LOOK_FOR_S = 60.0\n",
        "LOOK_FOR_S = 1.0\n",
    ),
    _one(
        "a lost answer counts as a request that was not sent",
        "triptych.providers.client",
        '            raise errors.AnswerLost(f"The answer of {title} was lost',
        '            raise errors.NotSent(f"The answer of {title} was lost',
    ),
    Mutant(
        "a refusal of the second try speaks for the first",
        (Patch("triptych.jobs.submission", "            case _ if again:  #", "            case _ if False:  #"),),
    ),
    _one(
        "what runs at the provider is cancelled as if it were free",
        "triptych.storage.jobs",
        '                if row["state"] not in (State.WAITING, State.QUEUED, State.UNCERTAIN) or (\n'
        '                    leased and row["state"] != State.WAITING\n                ):\n',
        '                if row["state"] not in (State.WAITING, State.QUEUED, State.UNCERTAIN, State.RUNNING):\n',
    ),
    Mutant(
        "a late answer is thrown away once the lease is lost",
        (
            Patch(
                "triptych.storage.jobs", "            if not ours and not late_answer:\n", "            if not ours:\n"
            ),
        ),
    ),
    Mutant(
        "a submit is written without waiting for the disk",
        (
            Patch(
                "triptych.storage.sqlite",
                'self.connection.execute("PRAGMA synchronous=FULL")\n                self.require_current()',
                'self.connection.execute("PRAGMA synchronous=NORMAL")\n                self.require_current()',
            ),
            Patch(
                "triptych.storage.sqlite",
                'with self._mendable():\n                self.connection.execute("PRAGMA synchronous=FULL")',
                'with self._mendable():\n                self.connection.execute("PRAGMA synchronous=NORMAL")',
            ),
        ),
    ),
    _one(
        "an image's file is not flushed",
        "triptych.images.writing",
        "            systems.flush_file(file.fileno())\n",
        "",
    ),
    _one(
        "an error of the database ends the worker",
        "triptych.jobs.worker",
        "                except errors.Outage:  # the store logs it\n                    idle_s = DB_POLL_INTERVAL_S\n",
        "                except errors.Outage:  # the store logs it\n                    raise\n",
    ),
    _one(
        "a done job does not answer for the same request",
        ".sql",
        "WHERE fingerprint = :fingerprint\n  AND (status IN ('queued', 'running', 'uncertain')\n"
        "       OR (status IN ('done', 'partial')\n",
        "WHERE fingerprint = :fingerprint\n  AND (status IN ('queued', 'running', 'uncertain')\n"
        "       OR (status IN ('nothing')\n",
    ),
    Mutant(
        "a live job is sent under the catalogue's newest schema",
        (
            Patch(
                "triptych.jobs.catalogues",
                "    return Catalogue(read_at, tuple(offers), skipped, complete)\n",
                "    NEWEST.update({(one.provider, one.endpoint, one.operation): one for one in offers})\n"
                "    return Catalogue(read_at, tuple(offers), skipped, complete)\n",
            ),
            Patch("triptych.jobs.catalogues", "VERSION = 1\n", "VERSION = 1\nNEWEST = {}\n"),
            Patch(
                "triptych.jobs.polling",
                "        return prediction.live_offer or self._offers.get(\n",
                "        from triptych.jobs.catalogues import NEWEST\n\n"
                "        newest = NEWEST.get((prediction.provider, prediction.endpoint, prediction.operation))\n"
                "        return (prediction.live_offer and newest) or prediction.live_offer or self._offers.get(\n",
            ),
        ),
    ),
    _one(
        "an upload in use is deleted",
        "triptych.storage.reads",
        '[row for row in uploads if row["sha256"] not in needed and row["url"] not in sent][:limit]',
        "uploads[:limit]",
    ),
    _one(
        "the original is taken from another lane",
        "triptych.core.requests",
        'row.original or (row.images[0] if row.images else f"{job_id}/{lane * self.steps + row.done + 1}")',
        'row.original or (self.row(0).images or (f"{job_id}/{row.done + 1}",))[0]',
    ),
    _one(
        "a retry begins again at the first step",
        "triptych.jobs.retries",
        "    if done == row.done:\n        return row\n",
        "    if True:\n        return row\n",
    ),
    _one(
        "a request from words goes to the endpoint for edits after a fall-over",
        "triptych.storage.jobs",
        'from_words = route.words and not Operation(row["operation"]).edits',
        "from_words = False",
    ),
    _one(
        "later requests are reserved at the price of the first",
        "triptych.jobs.planning",
        "return (self.quotes if step == self.request.first_step(lane) else self.later_quotes)[lane]",
        "return self.quotes[lane]",
    ),
    Mutant(
        "the manifest is written before the copies",
        (
            Patch(
                "triptych.jobs.image_access",
                "            for output in stored:\n                image = await",
                "            await manifest.write(self._store, self._files, job_id, target, paths)\n"
                "            for output in stored:\n                image = await",
            ),
            Patch(
                "triptych.jobs.image_access",
                "image, target)\n            await manifest.write(self._store, self._files, job_id, target, paths)\n",
                "image, target)\n",
            ),
        ),
    ),
    _one(
        "the words of a look do not count for the same request",
        "triptych.core.requests",
        'asked["look"] = [self.look.words, ',
        'asked["look"] = ["", ',
    ),
    _one(
        "an outage while submitting counts as a refusal",
        "triptych.jobs.submission",
        "            case errors.Outage():\n                await self._record_lost_response",
        "            case errors.Outage() if False:\n                await self._record_lost_response",
    ),
    _one(
        "a commit whose answer is lost counts as written",
        "triptych.storage.postgres",
        'return bool(row and row["kept"])',
        "return True",
        "postgres",
    ),
    _one(
        "a commit that arrives after the question about it is written",
        "triptych.storage.postgres",
        'connection.execute(_ASK, {"token": token})',
        "pass",
        "postgres",
    ),
    _one(
        "two that ask for the last money are not kept apart",
        "triptych.storage.jobs",
        'self._db.lock("books")  # of two',
        "pass  # of two",
        "postgres",
    ),
    _one(
        "a prediction that another process takes is taken as well",
        ".postgres.sql",
        "WHERE id IN (:ids) AND free_at <= :now FOR UPDATE SKIP LOCKED)",
        "WHERE id IN (:ids))",
        "postgres",
    ),
)


def patched(patch: Patch) -> str:
    """Return the source of a patch's file with the replacement made. Raises: `LookupError` if it does not apply."""
    source = path_of(patch.module).read_text("utf-8")
    if source.count(patch.old) != 1:
        raise LookupError(f"{patch.module}: {patch.old!r} is there {source.count(patch.old)} times")
    return source.replace(patch.old, patch.new)


def path_of(module: str) -> Path:
    if module.endswith(".sql"):
        name = "queries.sql" if module == ".sql" else "queries_postgres.sql"
        return path_of("triptych.storage.sqlite").with_name(name)
    found = importlib.util.find_spec(module)
    assert found
    assert found.origin
    return Path(found.origin)


def named(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def put_in(mutant: str | Mutant) -> None:
    """Let the modules of a mutant be imported with its mistake; none of them may have been imported yet."""
    mutant = named(mutant) if isinstance(mutant, str) else mutant
    sources: dict[str, str] = {}
    for patch in mutant.patches:
        patched(patch)  # it applies
        if patch.module.endswith(".sql"):
            # The statements are read as text: what reads them replaces in them.
            reads = 'text = files("triptych.storage").joinpath(name).read_text("utf-8")'
            source = path_of("triptych.storage.statements").read_text("utf-8")
            assert source.count(reads) == 1
            mistaken = f"{reads}.replace({patch.old!r}, {patch.new!r})"
            sources["triptych.storage.statements"] = source.replace(reads, mistaken)
            continue
        before = sources.get(patch.module) or path_of(patch.module).read_text("utf-8")
        sources[patch.module] = before.replace(patch.old, patch.new)
    for module in sources:
        sys.modules.pop(module, None)
    sys.meta_path.insert(0, _Finder(sources))


class _Finder(MetaPathFinder):
    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._sources:
            return None
        origin = str(path_of_unpatched(fullname, path))
        return ModuleSpec(fullname, _Loader(self._sources[fullname], origin), origin=origin)


class _Loader(Loader):
    def __init__(self, source: str, origin: str) -> None:
        self._source, self._origin = source, origin

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._origin
        exec(compile(self._source, self._origin, "exec"), module.__dict__)


def path_of_unpatched(module: str, path: Any) -> Path:
    return Path(path[0]) / f"{module.rpartition('.')[2]}.py"
