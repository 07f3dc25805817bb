"""`conformance replay`: run findings again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.codes import FAILED, NEWS, OK


@click.command()
@click.argument("folder", callback=options.named, metavar="DIR")
@options.imports
@options.as_json
def replay(folder: str, imports: tuple[str, ...], as_json: bool) -> int:
    """Run a finding again, or every finding of a report: FIXED, STILL DIVERGES, CHANGED or ERROR."""
    from conformance.imports import import_modules
    from conformance.replay import CHANGED, ERROR, FIXED, STATUSES, STILL, replay_folders
    from conformance.reports.text import plain

    import_modules(imports)
    codes = {FIXED: OK, STILL: NEWS, CHANGED: NEWS, ERROR: FAILED}
    counted: Counter[str] = Counter()
    for result in replay_folders(Path(folder)):
        counted[result.status] += 1
        if as_json:
            click.echo(json.dumps(result.data))
        else:
            click.echo("  ".join((result.status, plain(result.signature), plain(result.message))).rstrip())
    if not as_json and counted.total() > 1:
        click.echo(", ".join(f"{counted[status]} {status}" for status in STATUSES if counted[status]))
    return max(codes[status] for status in counted)
