"""`conformance report`: render a report again."""

from __future__ import annotations

from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.codes import OK
from conformance.errors import UsageError


@click.command()
@click.argument("directory", callback=options.named, metavar="DIR")
@options.imports
def report(directory: str, imports: tuple[str, ...]) -> int:
    """Render a report directory again, from what its run has left in it; prints the files that were written."""
    from conformance.imports import import_modules
    from conformance.reports.render import render
    from conformance.reports.text import plain

    path = Path(directory)
    if not path.is_dir():
        raise UsageError(f"{path} is no directory; give that of a report")
    import_modules(imports)
    for written in render(path):
        click.echo(plain(written))
    return OK
