"""`triptych objects`: the images in the object store of TRIPTYCH_OBJECTS_URL."""

from __future__ import annotations

from contextlib import closing

import click

from triptych.cli.formatting import Exit
from triptych.cli.output import Screen, command, read_config
from triptych.core import errors
from triptych.core.clock import SystemClock
from triptych.core.text import counted, first_ones


@click.group()
def objects() -> None:
    """Images in an object store."""


@objects.command("copy")
@command
def copy_objects(screen: Screen) -> Exit:
    """Copy the image files of this directory into the object store; the files stay."""
    from triptych.images.objects import Objects
    from triptych.jobs.object_copying import copy_files

    config = read_config()
    if not config.objects:
        raise errors.BadRequest(
            "TRIPTYCH_OBJECTS_URL is not set: it names the object store, such as s3://bucket/prefix."
        )
    with closing(config.open_database()) as database:
        result = copy_files(database, config.home, Objects(config.objects, SystemClock()))
    text = f"Copied {counted(result.copied, 'image')}, {result.bytes / 1e6:.1f} MB, to {config.objects.url}."
    if result.lost:
        text += f" Lost or damaged, and not copied: {first_ones(result.lost, 12)}."
    screen.show(result, text)
    return Exit.DONE
