"""The entry point of `triptych` and `python -m triptych`.

Without arguments and without a terminal it is the stdio server, as MCP clients start it, and imports nothing else. In
all other cases it is the command line.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from triptych.settings import Settings


def main() -> None:
    """Run the stdio server, or the command line."""
    if len(sys.argv) > 1 or sys.stdin is None or sys.stdin.isatty():
        from triptych import cli

        cli.main()
        return
    forget_unexpanded(os.environ)
    # Importing the SDK builds thousands of permanent objects: garbage collection among them is wasted time.
    gc.disable()
    from triptych.server import transports

    gc.freeze()
    gc.enable()
    transports.serve(_settings)


def forget_unexpanded(environ: MutableMapping[str, str]) -> None:
    """Remove each variable whose value is an unexpanded reference, such as `${env:HTTPS_PROXY}`."""
    for name, value in list(environ.items()):
        if value.startswith("${") and value.endswith("}"):
            del environ[name]


def _settings() -> Settings:
    from triptych import settings

    return settings.read(os.environ)


if __name__ == "__main__":
    main()
