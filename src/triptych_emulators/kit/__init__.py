"""The kit: the parts that every emulated API is built from.

`server` has the class `Emulator` and brings the others together: `faults` (the tables, and which fault comes when),
`responses` (faulty ones), `jobs` (accepted jobs, their time and charge), `images` (results, uploads and inputs),
`painter` (the default pictures), `prices`, `requests` (the log), `loopback` (the server's socket and thread),
`callbacks` (reports of the ends of jobs) and `validation` (checks that several APIs share). The module of an API
(`triptych_emulators.atlas`, …) has its routes, its bodies and its peculiarities, and no threads, sockets or pixels.
"""

from __future__ import annotations

from triptych_emulators.kit.callbacks import FAULTS as CALLBACK_FAULTS
from triptych_emulators.kit.callbacks import may_be_called
from triptych_emulators.kit.faults import FaultType, JobFailure, for_every_op, for_jobs, for_results, refusals
from triptych_emulators.kit.images import UnreachableImage
from triptych_emulators.kit.jobs import EmulatedJob, JobSpec
from triptych_emulators.kit.painter import Painter
from triptych_emulators.kit.requests import RecordedRequest
from triptych_emulators.kit.responses import EventStream
from triptych_emulators.kit.server import Emulator, form_file, id_in_path, retry_after
from triptych_emulators.kit.validation import InvalidRequest

__all__ = [
    "CALLBACK_FAULTS",
    "EmulatedJob",
    "Emulator",
    "EventStream",
    "FaultType",
    "InvalidRequest",
    "JobFailure",
    "JobSpec",
    "Painter",
    "RecordedRequest",
    "UnreachableImage",
    "for_every_op",
    "for_jobs",
    "for_results",
    "form_file",
    "id_in_path",
    "may_be_called",
    "refusals",
    "retry_after",
]
