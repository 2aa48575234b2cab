"""The assistant behind a client that has no model: asks for the next call, hands over whole results."""

import json
import sys
import urllib.request
from typing import Any


class Script:
    """Asks the stand-in for calls, one after the other."""

    def __init__(self, api: str, tools: list[dict[str, Any]]) -> None:
        self._url = f"{api}/raw"
        self._tools = tools
        self._turns = 0
        self._content: list[Any] = ["Begin."]

    def next(self) -> dict[str, Any] | None:
        """Return the next call; None when there is none."""
        body = {"tools": self._tools, "turns": self._turns, "content": self._content}
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
        self._turns += 1
        return told if "tool" in told else None

    def saw(self, result: dict[str, Any]) -> None:
        """Take a result as JSON, in the protocol's own words."""
        result.pop("_meta", None)
        blocks = result.pop("content", [])
        self._content = [block["text"] if block.get("type") == "text" else block for block in blocks]
        if result.get("structuredContent") is not None:
            self._content.append(json.dumps(result["structuredContent"], ensure_ascii=False, separators=(",", ":")))

    def failed(self, error: BaseException) -> None:
        """Take the exception of a call."""
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        self._content = [f"{type(error).__name__}: {error}"]
