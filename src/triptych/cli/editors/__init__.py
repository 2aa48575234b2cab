"""One editor for each format of configuration file: get, put or drop one value; the rest of the text stays as it was.

Each checks its own result, and refuses a file that it cannot edit safely with a `ValueError`. Text in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from triptych.cli.editors import json_text, toml_text, yaml_text

Format = Literal["json", "toml", "yaml"]


class Editor(Protocol):
    """A module of this package. Each function raises `ValueError` for a file that is not of its format."""

    def get(self, text: str, path: Sequence[str], /) -> Any:
        """Return the value at `path`; None if there is none."""

    def put(self, text: str, path: Sequence[str], value: Mapping[str, Any], /) -> str:
        """Return the text with `value` at `path`: changed in its place, or added last."""

    def drop(self, text: str, path: Sequence[str], /) -> str:
        """Return the text without the value at `path`, and without what becomes empty by that."""


def of(format: Format) -> Editor:
    """Return the editor of a format."""
    found: dict[Format, Editor] = {"json": json_text, "toml": toml_text, "yaml": yaml_text}
    return found[format]
