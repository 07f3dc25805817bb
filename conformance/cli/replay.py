"""`conformance replay`: run findings again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.codes import FAILED, NEWS, OK


@click.command()
@click.argument("folder", metavar="DIR")
@options.as_json
def replay(folder: str, as_json: bool) -> int:
    """Run a finding again, or every finding of a report: FIXED, STILL DIVERGES or ERROR."""
    from conformance.replay import ERROR, FIXED, replay_folders

    codes = []
    for result in replay_folders(Path(folder)):
        if as_json:
            click.echo(json.dumps(result.data))
        else:
            click.echo(f"{result.status}  {result.signature}  {result.message}".rstrip())
        codes.append({FIXED: OK, ERROR: FAILED}.get(result.status, NEWS))
    return max(codes)
