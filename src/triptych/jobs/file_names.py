"""Names of the files that images are saved as: from the caller's own file names, a table's columns, or handles.

Pure. A name here has no suffix; `safe_name` has made it safe for every file system.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from triptych.core.errors import OutOfLimits, quoted
from triptych.core.models import Job
from triptych.core.requests import BRACES
from triptych.images.naming import safe_name

PLACEHOLDERS = ("source", "job", "n", "lane", "step", "size", "handle")
"""The placeholders of a name, in addition to a table's columns. `n` counts the images of the call."""


@dataclass(frozen=True, slots=True)
class Named:
    """The parts of one image's name: the name without a template, and the values of the placeholders."""

    stem: str
    values: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    """The values of its row in a table; a column comes before the placeholder of that name."""


def of_output(job: Job, n: int) -> Named:
    """Return the parts of the name of output `n` of a job."""
    request, handle = job.request, f"{job.id}-{n}"
    lane, step = divmod(n - 1, request.steps) if request.is_chain else (0, 0)
    source = job.sources[lane] if job.sources and lane < len(job.sources) else ""
    values = {
        "source": source_stem(source) or safe_name(source or handle),
        "job": job.id,
        "lane": str(lane + 1),
        "step": str(step + 1),
        "handle": handle,
    }
    columns = request.rows[lane].values if request.rows is not None and request.is_chain else {}
    return Named(_stem_in_chain(job, n) or handle, values, columns)


def of_item(item: str, handle: str) -> Named:
    """Return the same for an image that belongs to no job: a caller's file keeps its name, another has its handle."""
    safe_handle = handle.replace("/", "-")
    stem = source_stem(item) or safe_handle
    return Named(stem, {"source": stem, "job": "", "lane": "", "step": "", "handle": safe_handle})


def of_copy(job: Job, n: int) -> str:
    """Return the name of output `n` in the directory of `save_to`."""
    return _stem_in_chain(job, n) or f"{job.id}-{n:02d}"


def _stem_in_chain(job: Job, n: int) -> str:
    """Return the name of the file that a lane began with, and the step unless it is the last; "" without a file."""
    if not job.request.is_chain or not job.sources:
        return ""
    lane, step = divmod(n - 1, job.request.steps)
    stem = _stems(job.sources)[lane] if lane < len(job.sources) else ""
    return f"{stem}-step{step + 1}" if stem and step + 1 < job.request.steps else stem


@functools.lru_cache(maxsize=8)
def _stems(sources: tuple[str, ...]) -> tuple[str, ...]:
    """Return a different stem for each source that is a file; two files of one name in two directories get `-2`."""
    taken: set[str] = set()
    found = []
    for source in sources:
        stem = source_stem(source)
        found.append(unique(stem, taken) if stem else "")
    return tuple(found)


def unique(stem: str, taken: set[str]) -> str:
    """Return the stem, or with `-2`, `-3` … if it is taken, and take it; names that differ in case alone are equal."""
    n, name = 1, stem
    while name.casefold() in taken:
        n += 1
        name = f"{stem}-{n}"
    taken.add(name.casefold())
    return name


def source_stem(item: str) -> str:
    """Return the file name without suffix of a path or URL; "" for a handle, a data URI or nothing."""
    text = item.strip()
    if not text or text.lower().startswith(("data:", "triptych:", "img_", "job_")):
        return ""
    if re.match(r"(https?|file)://", text, re.IGNORECASE):
        try:
            text = unquote(urlsplit(text).path)
        except ValueError:
            return ""
    name = PurePath(PureWindowsPath(text).name).stem
    return safe_name(name) if name.strip(" .-") else ""


def check(name: str | None, columns: Collection[str]) -> None:
    """Refuse a name with a placeholder that no image has.

    Raises: `OutOfLimits`, with those that there are.
    """
    for found in BRACES.findall(name or ""):
        if found.strip() not in PLACEHOLDERS and found.strip() not in columns:
            known = [*(one for one in columns if one not in PLACEHOLDERS), *PLACEHOLDERS]
            listed = ", ".join(f"{{{one}}}" for one in known)
            raise OutOfLimits(f"{{{quoted(found, 40)[1:-1]}}} in name is unknown; there are {listed}.")


def stem(name: str | None, named: Named, n: int, count: int, size: str, *, several: bool) -> str:
    """Return the name of image `n` of `count` (from 1) in a size; one of `several` sizes is part of the name."""
    digits = max(2, len(str(count)))
    has_size = False
    if name and BRACES.search(name):
        values = {**named.values, "n": f"{n:0{digits}}", "size": size, **named.columns}
        text = BRACES.sub(lambda found: values.get(found[1].strip(), ""), name)
        text = text if text.strip(" .-") else named.stem
        has_size = "size" not in named.columns and any(one.strip() == "size" for one in BRACES.findall(name))
    elif name:
        text = name if count == 1 else f"{name}-{n:0{digits}}"
    else:
        text = named.stem
    return safe_name(text, f"-{size}" if several and not has_size else "")
