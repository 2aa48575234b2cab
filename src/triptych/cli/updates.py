"""Ask the package index for a newer version: `triptych doctor --check-updates`, and nothing else, does so.

Rules: one GET without a cookie, with the version in its User-Agent. A missing answer is not a fault: the machine may be
offline, and the index may have no such package. A package of the same name that is not this project's is never
recommended.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from triptych import __version__
from triptych.core import errors
from triptych.providers.operator_urls import OperatorUrls

INDEX_URL = "https://pypi.org/pypi/triptych/json"
OURS = "mcp-name: io.github.triptych-mcp/triptych"
"""A line of README, which is the description of the package at the index. No other package has it."""
UPGRADE = (
    "upgrade with what installed it: uv tool upgrade triptych, pipx upgrade triptych, "
    "python -m pip install --upgrade triptych, or git pull in a checkout"
)


async def newer_version() -> tuple[str, str | None]:
    """Return what the index says in a few words, and how to upgrade if it has a newer version."""
    host = urlsplit(INDEX_URL).netloc
    try:
        status, answer = await OperatorUrls().read_json(INDEX_URL)
    except errors.TriptychError as error:
        return f"{__version__} is installed; {host} could not be asked: {error.message}", None
    info = answer.get("info") if isinstance(answer, dict) else None
    newest = info.get("version") if isinstance(info, dict) else None
    if status != 200 or not isinstance(info, dict) or not isinstance(newest, str):
        found = "has no such package" if status == 404 else f"gave no usable answer (HTTP {status})"
    elif OURS not in str(info.get("description")):
        found = "has another project's package of this name"
    elif not (numbers := _release(newest)) or not (installed := _release(__version__)):
        found = f"has {errors.quoted(newest, 40)} as its newest"
    elif numbers > installed:
        return f"{__version__} is installed; {host} has {newest}", UPGRADE
    else:
        found = "has none newer"
    return f"{__version__} is installed; {host} {found}", None


def _release(version: str) -> tuple[int, ...] | None:
    """Return a final release as numbers that compare (1.2 equals 1.2.0); None for any other version."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}", version):
        return None
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
