"""`triptych look`: list, show and remove the looks that `triptych upload --look` stores."""

from __future__ import annotations

import click

from triptych.cli.formatting import Exit, looks_text
from triptych.cli.output import Screen, caller_for, command, run


@click.group()
def look() -> None:
    """List, show and remove looks: reference images and words under a name."""


@look.command("list")
@command
def list_looks(screen: Screen) -> Exit:
    """List the looks, each in its newest version."""
    result = run(lambda service: service.looks.listed(caller_for(())))
    screen.show(result, looks_text(result))
    return Exit.DONE


@look.command()
@click.argument("name")
@command
def show(screen: Screen, name: str) -> Exit:
    """Show every version of a look."""
    result = run(lambda service: service.looks.versions(name, caller_for(())))
    screen.show(result, looks_text(result))
    return Exit.DONE


@look.command()
@click.argument("name")
@command
def remove(screen: Screen, name: str) -> Exit:
    """Remove a look; the jobs made with it stay as they are."""
    result = run(lambda service: service.looks.remove(name, caller_for(())))
    screen.show(result, f"Removed look:{result.name}; the jobs made with it stay as they are.")
    return Exit.DONE
