"""`conformance info`: versions, devices, what can be drawn; and the calibration of the harness."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from conformance.baseline import CORPUS
from conformance.cli import options
from conformance.cli.codes import FAILED, INTERRUPTED, OK
from conformance.cli.inputs import fresh_report, known_findings
from conformance.cli.outcome import consume
from conformance.errors import UsageError
from conformance.events import Event
from conformance.job import Job

CALIBRATION_REPORT = "conformance-calibration"


@click.command()
@click.option(
    "--report",
    callback=options.named,
    default=None,
    help=f"Also count what this report's run has drawn. With --calibration, the directory of its report. [default then:"
    f" {CALIBRATION_REPORT}]",
)
@click.option(
    "--calibration",
    is_flag=True,
    help="Train drawn cases, hold every arm against itself and against the referee, and show how much of what is"
    " allowed was seen. The options below are for this.",
)
@click.option("--examples", type=click.IntRange(1), default=20, show_default=True, help="How many cases to draw.")
@options.seed
@options.arms("single")
@options.trainers
@options.workers
@options.imports
@options.as_json
@click.pass_context
def info(
    context: click.Context,
    report: str | None,
    calibration: bool,
    examples: int,
    seed: int,
    placements: tuple[str, ...],
    executions: tuple[str, ...],
    trainers: tuple[str, ...],
    workers: int | None,
    imports: tuple[str, ...],
    as_json: bool,
) -> int:
    """Versions, devices, what the generator can draw and has drawn; how the harness is calibrated."""
    from conformance import devices
    from conformance.imports import import_modules
    from conformance.info import gather

    if calibration:
        job = Job(
            report=report or CALIBRATION_REPORT,
            trainers=trainers,
            placements=placements,
            executions=executions,
            examples=examples,
            seed=seed,
            calibrate=True,
            imports=imports,
        )
        return _calibrate(job, options.at_most(workers, examples), as_json)
    for option in ("examples", "seed", "placements", "executions", "trainers", "workers"):
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{'-n' if option == 'workers' else f'--{option}'} needs --calibration")
    devices.set_up(2)
    import_modules(imports)
    data = gather(report)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return OK
    for name, value in data.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, item in value.items():
                click.echo(f"  {key}: {_told(item)}")
        else:
            click.echo(f"{name}: {_told(value)}")
    return OK


def _calibrate(job: Job, workers: int, as_json: bool) -> int:
    from conformance import devices
    from conformance.campaign import run as run_campaign
    from conformance.imports import import_modules
    from conformance.reports.calibration import calibrated, text, to_data

    devices.require_tensorflow()
    # The cases are drawn here, before there are workers.
    import_modules(job.imports)
    job = msgspec.structs.replace(job, known=known_findings(CORPUS, as_json).signatures)
    fresh_report(job.report)
    told: list[Event] = []

    def noted() -> Iterator[Event]:
        for event in run_campaign(job, workers):
            told.append(event)
            yield event

    outcome = consume(noted(), as_json)
    made = calibrated(told)
    if as_json:
        click.echo(json.dumps(to_data(made)))
    else:
        click.echo(text(made, sys.stdout.encoding or "utf-8"), nl=False)
    if outcome.code in (OK, INTERRUPTED) and not made.total.compared:
        # Nothing that was found in nothing is no good news.
        return outcome.code or FAILED
    return outcome.code


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
