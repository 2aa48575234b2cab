"""Runs steps with the official WaveSpeedAI client, unmodified: JSON on stdin, one answer per step on stdout.

Runs in the client's own environment, so nothing of ours is imported.
"""

import contextlib
import json
import sys

import wavespeed

given = json.load(sys.stdin)
client = wavespeed.Client(api_key=given["key"], base_url=given["base_url"], retry_interval=0.01)


def outcome(step):
    name, arguments = step
    if name == "run":
        arguments = {"poll_interval": 0.02, **arguments}
    try:
        return {"answer": getattr(client, name)(**arguments)}
    except Exception as error:
        return {"error": str(error), "kind": type(error).__name__}


with contextlib.redirect_stdout(sys.stderr):
    answers = [outcome(step) for step in given["steps"]]
json.dump({"version": wavespeed.__version__, "answers": answers}, sys.stdout)
