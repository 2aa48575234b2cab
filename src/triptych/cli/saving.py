"""`triptych save`: images and whole jobs into a directory or archive, with a progress bar."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from triptych.cli.formatting import Exit, save_text
from triptych.cli.output import Screen, caller_for, command, resolved, run
from triptych.cli.progress import PATIENCE_S


@click.command()
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("-d", "--directory", required=True, help="Created if missing; NAME.zip makes an archive.")
@click.option("--name", help="The file name, numbered if several; {source}, {n}, {size}, a table's {column}.")
@click.option("--size", help='"1080x1080" crops, "contain 800x600 white", "1600"; several by commas.')
@click.option("--format", type=click.Choice(["png", "jpeg", "webp"]), help="The file format.")
@command
def save(
    screen: Screen, images: tuple[str, ...], directory: str, name: str | None, size: str | None, format: str | None
) -> Exit:
    """Save images, or a job's final ones, at full size or resized; overwrites nothing."""
    path = resolved(directory)
    target = path.parent if path.suffix.lower() == ".zip" and not path.is_dir() else path
    with _Progress(screen) as progress:
        caller = replace(caller_for(images, str(target)), report=progress.report)
        result = run(lambda service: service.save_images(images, str(path), name, caller, size=size, format=format))
    screen.show(result, save_text(result))
    return Exit.DONE


class _Progress:
    """A bar on a terminal's stderr, after the first two seconds; elsewhere a line every ten."""

    LINE_EVERY_S = 10.0

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._shown_at_s = time.monotonic() - self.LINE_EVERY_S + PATIENCE_S
        self._bar: Any = None
        self._open = ExitStack()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    async def report(self, done: float, total: float, message: str) -> None:
        """Show how many images are read, or files saved."""
        if self._bar is None and time.monotonic() - self._shown_at_s < self.LINE_EVERY_S:
            return
        if not sys.stderr.isatty():
            self._shown_at_s = time.monotonic()
            self._screen.note(message)
            return
        if self._bar is None:
            bar: Any = click.progressbar(length=int(total), file=sys.stderr, show_pos=True, show_percent=False)
            self._bar = self._open.enter_context(bar)
        if total != self._bar.length:  # reading is over, saving begins
            self._bar.length, self._bar.pos = int(total), 0
        self._bar.update(int(done) - self._bar.pos)
