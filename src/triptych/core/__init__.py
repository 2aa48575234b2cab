"""The domain values of Triptych, its states, errors and clock. Imports no other package of Triptych; sends nothing.

models         images, predictions, outputs, jobs: frozen values
requests       the request of a paid call, with its lanes and its look
offers         models as providers sell them: sizes, limits, prices
states         the states of a prediction, their moves, the waits between steps
errors         the tree of errors; amounts and provider text made fit to show
text           text made safe to show
clock          wall clock, monotonic clock, notifier
concurrency    exceptions out of task groups
outages        log lines about an outage, few of them
telemetry      spans and values for metrics, traces and logs
json_fields    the root of results, and the form of money and times in JSON
secret         keys and passwords as values
private_files  files that only the user can read
systems        differences between Linux, macOS and Windows
"""

__all__ = [
    "clock",
    "concurrency",
    "errors",
    "json_fields",
    "models",
    "offers",
    "outages",
    "private_files",
    "requests",
    "secret",
    "states",
    "systems",
    "telemetry",
    "text",
]
