"""The words of Triptych as frozen values, states, errors and the clock. Imports nothing of ours and sends nothing.

models         images, requests, predictions, jobs: frozen values
offers         what a provider sells: sizes, limits, prices
states         the states of a prediction, their moves, the waits between steps
errors         the tree of errors; amounts and provider text made fit to show
text           text made safe to show
clock          wall clock, monotonic clock, notifier
concurrency    exceptions out of task groups
json_fields    how money and time leave in JSON
private_files  files that only the user can read
"""

__all__ = ["clock", "concurrency", "errors", "json_fields", "models", "offers", "private_files", "states", "text"]
