"""Log lines on stderr, as text or as JSON, without secrets. stdout belongs to the protocol.

A line of `TRIPTYCH_LOG_FORMAT=json` is one object: `time` (UTC), `level`, `logger`, `message`, and where they are known
`job_id`, `prediction_id`, `provider`, `owner` (a hash), `tool`, `trace_id`, `error` (a traceback).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import unquote, urlsplit

from triptych.core import telemetry
from triptych.core.text import block, line, redact

LogFormat = Literal["text", "json"]

SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "PASSWORD")
"""Endings of the names of variables whose values are removed from log lines."""

FIELDS = ("job_id", "prediction_id", "provider", "owner", "tool")
"""The fields of the surrounding spans that a JSON line repeats."""

_PATTERNS = (
    (re.compile(r"(/files/[^\s?'\"<>]*\?)[^\s'\"<>\\]+"), r"\1…"),  # the signature in the URL of a file
    (
        re.compile(
            r"((?:[?&][\w.-]*(?:signature|credential|token|secret|password|key|sig)"
            r"|\bX-(?:Amz|Goog)-(?:Signature|Credential|Security-Token))=)[^&\s'\"<>\\]+",
            re.I,
        ),
        r"\1…",
    ),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]*:[^\s'\"]*@(?=[^\s/@])", re.I), r"\1…@"),
    (re.compile(r"(\bpassword\s*=\s*)('[^']*'|[^\s'\"&]+)", re.I), r"\1…"),
    (re.compile(r"(\bbearer\s+)[\w.~+/=-]{8,}", re.I), r"\1…"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), "…"),  # a JSON web token
)
"""Secrets that no variable holds, by their shape."""


def configure(level: str, shape: LogFormat = "text", environ: Mapping[str, str] = os.environ) -> None:
    """Send log lines to stderr, without any secret of the environment."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(environ) if shape == "json" else SafeLines(environ))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # These log whole URLs, and URLs can carry signatures.
    for noisy in ("httpx2", "httpcore2", "PIL", "opentelemetry", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if shape == "json" and not telemetry.listeners:
        telemetry.listeners.append(telemetry.Listener())  # so that spans note what is around a line


class SafeLines(logging.Formatter):
    """Removes keys, tokens and passwords from every record, tracebacks included.

    Known are those of the environment, and those in URLs and headers by their shape: the SDK logs whole messages at
    DEBUG. A message stays on one line, without invisible characters.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = sorted(_secrets(environ), key=len, reverse=True)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return line(self.without_secrets(super().formatMessage(record)))

    def format(self, record: logging.LogRecord) -> str:
        return block(self.without_secrets(super().format(record)))

    def without_secrets(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            text = redact(secret, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text


class JsonLines(SafeLines):
    """Writes each record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        around = telemetry.around.get()
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": line(self.without_secrets(record.getMessage())),
            **{name: around[name] for name in FIELDS if name in around},
        }
        if trace_id := _trace_id():
            fields["trace_id"] = trace_id
        if record.exc_info:
            fields["error"] = block(self.without_secrets(self.formatException(record.exc_info)))
        return json.dumps(fields, ensure_ascii=False)


def _trace_id() -> str | None:
    """Return the id of the trace around the running code; only `server.tracing` makes one."""
    if (trace := sys.modules.get("opentelemetry.trace")) is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _secrets(environ: Mapping[str, str]) -> Iterable[str]:
    """Return the secrets of the environment, by the names of variables, so that no provider has to be loaded."""
    found = set()
    for name, value in environ.items():
        if name.upper().endswith(SECRET_ENDINGS):
            found |= {value.strip(), *re.split(r"[\s,]+", value.strip())}  # also each token of a list
        if password := _password(value):
            found |= {password, unquote(password)}
    return found - {""}


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password if "@" in url else None
    except ValueError:
        return None
