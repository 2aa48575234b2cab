"""The stage: what every emulated API stands on.

`faults` says what can go wrong and when, `answers` makes it go wrong, `works` holds accepted jobs and draws their
pictures, `log` writes down what was asked, `loopback` listens, and `theatre` brings them together. An API's own module
(`triptych_emulators.atlas`, …) brings its routes, its bodies and its odd habits, and knows nothing of threads, sockets
or pixels.
"""

from __future__ import annotations

from triptych_emulators.stage.answers import Events
from triptych_emulators.stage.faults import (
    Armed,
    BadDirective,
    Failure,
    Fault,
    for_every_op,
    for_results,
    without_directives,
)
from triptych_emulators.stage.log import Seen
from triptych_emulators.stage.theatre import Emulator
from triptych_emulators.stage.works import Order, UnreachableImage, Work

__all__ = [
    "Armed",
    "BadDirective",
    "Emulator",
    "Events",
    "Failure",
    "Fault",
    "Order",
    "Seen",
    "UnreachableImage",
    "Work",
    "for_every_op",
    "for_results",
    "without_directives",
]
