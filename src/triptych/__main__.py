"""Where `triptych` and `python -m triptych` begin.

With no arguments and no terminal this is the stdio server, which is how MCP clients start it: nothing else is imported
then. Everything else is the command line's.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from triptych.config import Settings


def main() -> None:
    """Run the stdio server, or the command line."""
    if len(sys.argv) > 1 or sys.stdin is None or sys.stdin.isatty():
        from triptych import cli

        cli.main()
        return
    forget_unexpanded(os.environ)
    # Importing the SDK builds thousands of objects that live for good: collecting among them is wasted time.
    gc.disable()
    from triptych.server import transports

    gc.freeze()
    gc.enable()
    transports.serve(_settings)


def forget_unexpanded(environ: MutableMapping[str, str]) -> None:
    """Remove each variable that a host hands over as a reference, such as `${env:HTTPS_PROXY}`: it is not set there."""
    for name, value in list(environ.items()):
        if value.startswith("${") and value.endswith("}"):
            del environ[name]


def _settings() -> Settings:
    from triptych import config

    return config.read(os.environ)


if __name__ == "__main__":
    main()
