"""Drives the official Runware client (PyPI runware-sdk) in its own environment: one JSON request a line in, one out.

    {"do": "run", "params": {…}}  {"do": "media_storage", "params": {…}}  …

The client is unmodified; its REST address is a setting of its own. An answer is `{"items": […]}`, or `{"error": {…}}`
with what the client made of a failure.
"""

from __future__ import annotations

import asyncio
import json
import sys

from runware import Runware
from runware.errors import RunwareError


async def main(base_url: str, key: str) -> None:
    settings = {"transport": "rest", "http_base_url": f"{base_url}/v1", "max_retries": 1, "retry_delay": 1}
    async with Runware(api_key=key, **settings) as client:
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                told = {"items": await getattr(client, asked["do"])(asked["params"])}
            except RunwareError as error:
                kept = ("code", "message", "retryable", "parameter", "task_type", "task_uuid", "status_code")
                told = {"error": {name: getattr(error, name) for name in kept}}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
