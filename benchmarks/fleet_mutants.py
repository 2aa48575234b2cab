"""Known mistakes that a fleet alone shows, put into every member: `python -m benchmarks.fleet --mutant NAME`.

The audit has to find each of them; `FOUND_AS` says under which rule. What a run of 300 jobs found is in
`benchmarks/README.md`.
"""

from __future__ import annotations

import sys

from benchmarks.soak import ROOT

sys.path[:0] = [str(ROOT / "tests")]
from simulation.mutants import Mutant, Patch, named, put_in  # noqa: E402

FOUND_AS: dict[str, tuple[Mutant, str]] = {
    "no-limit": (
        Mutant(
            "an account runs as many as are queued",
            (
                Patch(
                    "triptych.storage.claims", "if self.state.running + self.taken >= slots.max_running:", "if False:"
                ),
                Patch(
                    "triptych.storage.claims",
                    'free = min(free, one.max_running - row["running"] - taken["n"])',
                    "free = min(free, one.max_running)",
                ),
            ),
        ),
        "account limit exceeded",
    ),
    "own-limit": (
        Mutant(
            "each process counts what it runs itself",
            (
                Patch(
                    "triptych.storage.claims", "if self.state.running + self.taken >= slots.max_running:", "if False:"
                ),
                Patch(
                    "triptych.storage.claims",
                    'free = min(free, one.max_running - row["running"] - taken["n"])',
                    "free = min(free, one.max_running - len(held))",
                ),
            ),
        ),
        "account limit exceeded",
    ),
    "shared-lease": (
        Mutant(
            "all processes have one lease, which keeps nobody away",
            (
                Patch("triptych.storage.claims", "        until = now_s + LEASE_S\n", "        until = now_s\n"),
                Patch("triptych.storage.claims", 'lease=f"{lease}-"', 'lease="shared-"'),
            ),
        ),
        "paid twice",
    ),
    "sent-again": (named("a lost answer counts as a request that was not sent"), "paid twice"),
    "no-attach": (
        Mutant(
            "two calls at once do not see each other",
            (Patch("triptych.storage.jobs", 'self._db.lock("books")  # of two', "pass  # of two"),),
        ),
        "identical calls that did not attach",
    ),
    "given-back": (
        named("the money held for an uncertain request is given back"),
        "books and providers differ",
    ),
    "any-owner": (
        Mutant(
            "every caller sees the jobs of all",
            (
                Patch(
                    "triptych.jobs.caller",
                    "        return self.owner is None or self.owner == owner\n",
                    "        return True\n",
                ),
            ),
        ),
        "another owner's data",
    ),
    "any-file": (
        Mutant(
            "a signature is good for every file of its owner, for ever",
            (
                Patch(
                    "triptych.jobs.file_links",
                    'json.dumps(["triptych file", handle, owner, until_s])',
                    'json.dumps(["triptych file", owner])',
                ),
            ),
        ),
        "another owner's data",
    ),
    "not-stored": (
        Mutant(
            "an image counts as stored though the object store did not take it",
            (
                Patch(
                    "triptych.images.object_files",
                    "            raise errors.NotStored(error.message) from error\n",
                    "            pass\n",
                ),
            ),
        ),
        "images that are not what the database says",
    ),
    "not-insisted": (named("an answer is written once and not insisted on"), "lost"),
}


def install(name: str) -> None:
    """Put a mistake into the modules that this process imports from now on."""
    put_in(FOUND_AS[name][0])
