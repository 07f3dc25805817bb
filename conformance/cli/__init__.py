"""The command line, a command a module: `conformance run`, `check`, `replay`, `accept`, `report`, `bisect`, `info`.

Exit codes: 0 everything conforms, or diverges only as the baseline says; 1 a divergence that is news; 2 bad usage or
bad input, one line on standard error, or a case that is unsupported; 3 the run itself failed.
"""

from __future__ import annotations

import os
import sys

import click

from conformance.cli.accept import accept as accept_command
from conformance.cli.bisect import bisect as bisect_command
from conformance.cli.check import check as check_command
from conformance.cli.codes import FAILED, INTERRUPTED, NEWS, OK, USAGE
from conformance.cli.info import info as info_command
from conformance.cli.replay import replay as replay_command
from conformance.cli.report import report as report_command
from conformance.cli.run import run as run_command
from conformance.errors import ConformanceError, UsageError

__all__ = ["FAILED", "INTERRUPTED", "NEWS", "OK", "USAGE", "commands", "main"]


def main(arguments: list[str] | None = None) -> None:
    """The console script: run the command and exit with the contract's code."""
    from conformance.reports.text import plain

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if not (sys.argv[1:] if arguments is None else arguments):
            raise UsageError(f"no command; name one of {', '.join(commands.commands)}, or --help")
        code = commands.main(args=arguments, prog_name="conformance", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"conformance: {' '.join(error.format_message().split())}", err=True)
        code = USAGE
    except UsageError as error:
        click.echo(f"conformance: {plain(error)}", err=True)
        code = USAGE
    except ConformanceError as error:
        click.echo(f"conformance: {plain(error)}", err=True)
        code = FAILED
    except click.Abort:
        code = INTERRUPTED
    sys.exit(code or OK)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keras-conformance", prog_name="conformance")
def commands() -> None:
    """Find out where two trainings that should agree do not: model.fit and a custom loop, one device and many."""


for _command in (
    run_command,
    check_command,
    replay_command,
    accept_command,
    report_command,
    bisect_command,
    info_command,
):
    commands.add_command(_command)
