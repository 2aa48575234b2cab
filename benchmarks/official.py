"""Makes one edit after another with a provider's official Python client, unmodified, and tells how long each took.

    python official.py ark|runware|wavespeed API_ROOT KEY

Runs in the client's own environment, so nothing of ours is imported. Each line in is the JSON of a request as it goes
out; each line out is `{"known_s": …, "urls": […]}`: the seconds from the call until its result URLs are known.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

Edit = Callable[[Any], "list[str]"]


def ark(root: str, key: str) -> Edit:
    from volcenginesdkarkruntime import Ark
    from volcenginesdkarkruntime.types.images import SequentialImageGenerationOptions

    client = Ark(base_url=f"{root}/api/v3", api_key=key)

    def edit(body: Any) -> list[str]:
        options = SequentialImageGenerationOptions(**body["sequential_image_generation_options"])
        body = {**body, "sequential_image_generation_options": options, "stream": False}
        return [image.url for image in client.images.generate(**body).data]

    return edit


def runware(root: str, key: str) -> Edit:
    from runware import Runware

    loop = asyncio.new_event_loop()
    client = Runware(api_key=key, transport="rest", http_base_url=f"{root}/v1")
    loop.run_until_complete(client.__aenter__())
    atexit.register(lambda: loop.run_until_complete(client.__aexit__(None, None, None)))

    def edit(body: Any) -> list[str]:
        task = {name: value for name, value in body[0].items() if name != "taskUUID"}
        return [item["imageURL"] for item in loop.run_until_complete(client.run(task))]

    return edit


def wavespeed(root: str, key: str) -> Edit:
    import wavespeed as official

    client = official.Client(api_key=key, base_url=root)
    return lambda asked: client.run(asked["model"], asked["input"])["outputs"]


def main(name: str, root: str, key: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        edit: Edit = {"ark": ark, "runware": runware, "wavespeed": wavespeed}[name](root, key)
    for line in sys.stdin:
        body = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            began = time.perf_counter()
            urls = edit(body)
            known_s = time.perf_counter() - began
        print(json.dumps({"known_s": known_s, "urls": urls}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
