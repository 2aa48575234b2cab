"""Run the official ModelArk client, unmodified, in its own environment: `python ark_client.py BASE_URL KEY < calls`.

Each line in is `{"call": "generate" | "stream", "arguments": {…}}`; each line out is what the client made of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from volcenginesdkarkruntime import Ark
from volcenginesdkarkruntime.types.images import SequentialImageGenerationOptions


def main(base_url: str, key: str) -> None:
    client = Ark(base_url=base_url, api_key=key)
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.write(json.dumps(called(client, asked["call"], asked["arguments"])) + "\n")


def called(client: Ark, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if most := arguments.pop("max_images", None):
        arguments["sequential_image_generation"] = "auto"
        arguments["sequential_image_generation_options"] = SequentialImageGenerationOptions(max_images=most)
    events: list[dict[str, Any]] = []
    try:
        if call == "stream":
            for event in client.images.generate(**arguments, stream=True):
                events.append(event.model_dump(mode="json"))
            return {"events": events}
        return {"answer": client.images.generate(**arguments).model_dump(mode="json")}
    except Exception as error:
        body = getattr(error, "body", None)
        told = {name: getattr(error, name, None) for name in ("status_code", "code", "message", "request_id")}
        return {"error": type(error).__name__, "events": events, "body": body, **told}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
