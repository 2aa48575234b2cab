"""The entry point of `triptych` and `python -m triptych`.

Without arguments and without a terminal it is the stdio server, as MCP clients start it, and imports nothing else. In
all other cases it is the command line.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from triptych.settings import Settings


SECRETS = ("_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")
"""Besides those of Triptych itself: the endings of variables that may stand in a file."""


def main() -> None:
    """Run the stdio server, or the command line."""
    read_secret_files(os.environ)
    if len(sys.argv) > 1 or sys.stdin is None or sys.stdin.isatty():
        from triptych import cli

        cli.main()
        return
    forget_unexpanded(os.environ)
    from triptych import thin

    handed = thin.run(os.environ)
    # Importing the SDK builds thousands of permanent objects: garbage collection among them is wasted time.
    gc.disable()
    try:
        from triptych.server import taking_over, transports

        if handed:
            taking_over.import_for_a_call()
    except ImportError as error:
        from triptych import sdk

        raise sdk.refusal(error) from error
    gc.freeze()
    gc.enable()
    transports.serve(_settings, handed=handed)


def forget_unexpanded(environ: MutableMapping[str, str]) -> None:
    """Remove each variable whose value is an unexpanded reference, such as `${env:HTTPS_PROXY}`."""
    for name, value in list(environ.items()):
        if value.startswith(("${", "{env:")) and value.endswith("}"):
            del environ[name]


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set each secret whose variable, with `_FILE` behind its name, names a file: as containers get their secrets.

    Raises: `SystemExit` (2) naming the variable whose file cannot be read.
    """
    for name, path in list(environ.items()):
        secret = name.removesuffix("_FILE")
        if secret == name or not path or not (secret.startswith("TRIPTYCH_") or secret.endswith(SECRETS)):
            continue
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 (a start imports as little as possible)
                environ.setdefault(secret, file.read().strip())
        except (OSError, UnicodeError) as error:
            sys.stderr.write(f"triptych: {name} must name a readable text file ({type(error).__name__}).\n")
            raise SystemExit(2) from error


def _settings() -> Settings:
    from triptych import settings

    return settings.read(os.environ)


if __name__ == "__main__":
    main()
