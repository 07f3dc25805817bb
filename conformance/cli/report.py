"""`conformance report`: render a report again."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from conformance.cli.codes import OK
from conformance.errors import UsageError


@click.command()
@click.argument("directory", metavar="DIR")
def report(directory: str) -> int:
    """Render a report directory again, from what its run has left in it; prints the files that were written."""
    from conformance.reports.text import plain

    render: Callable[[Path], list[Path]] = import_module("conformance.reports.render").render
    path = Path(directory)
    if not path.is_dir():
        raise UsageError(f"{path} is no directory; give that of a report")
    for written in render(path):
        click.echo(plain(written))
    return OK
