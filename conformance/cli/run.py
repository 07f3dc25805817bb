"""`conformance run`: search for divergences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import click

from conformance.baseline import CORPUS
from conformance.cli import options
from conformance.cli.inputs import fresh_report, known_findings
from conformance.cli.outcome import consume
from conformance.cli.writers import writers
from conformance.errors import UsageError
from conformance.job import Job


class Profile(NamedTuple):
    """How thoroughly a run searches where nothing else is said: for how long, and how long it shrinks a finding."""

    shrink_seconds: float
    examples: int | None = None
    seconds: float | None = None


PROFILES = {"gate": Profile(9.0, examples=40), "nightly": Profile(120.0, seconds=3600.0)}


@click.command()
@click.option("--examples", type=click.IntRange(1), help="How many cases to draw.")
@click.option("--time", "duration", metavar="DURATION", help="How long to search, as in 90s, 10m or 2h.")
@options.workers
@options.arms("single,mirrored:2")
@options.trainers
@options.seed
@options.imports
@options.baseline
@click.option("--strict-baseline", is_flag=True, help="Fail when a known finding no longer occurs.")
@click.option("--report", default="conformance-report", show_default=True, help="Directory of the report.")
@click.option(
    "--profile", type=click.Choice(sorted(PROFILES)), default="gate", show_default=True, help="How thoroughly."
)
@options.summary
@options.as_json
def run(
    examples: int | None,
    duration: str | None,
    workers: int | None,
    placements: tuple[str, ...],
    executions: tuple[str, ...],
    trainers: tuple[str, ...],
    seed: int,
    imports: tuple[str, ...],
    baseline: str | None,
    strict_baseline: bool,
    report: str,
    profile: str,
    summary: str | None,
    as_json: bool,
) -> int:
    """Search for divergences: draw cases, train each in several arms, minimize what diverges."""
    from conformance import devices
    from conformance.campaign import run as run_campaign
    from conformance.imports import import_modules
    from conformance.occurrence import closing

    devices.require_tensorflow()
    seconds = None if duration is None else options.parse_duration(duration)
    chosen = PROFILES[profile]
    if examples is None and seconds is None:
        examples, seconds = chosen.examples, chosen.seconds
    if strict_baseline and not baseline:
        raise UsageError("--strict-baseline needs a --baseline")
    known = known_findings(baseline, as_json)
    written = writers(summary)
    # Here too, for what is wrong is said before anything is started, and the pages of the run show the cases.
    import_modules(imports)
    fresh_report(report)
    job = Job(
        report=report,
        trainers=trainers,
        placements=placements,
        executions=executions,
        examples=examples,
        seconds=seconds,
        seed=seed,
        shrink_seconds=chosen.shrink_seconds,
        known=known.signatures,
        imports=imports,
    )
    processes = options.at_most(workers, examples)
    last = closing(known, baseline or "", job, strict=strict_baseline, workers=options.at_most(workers, None))
    events = run_campaign(job, processes, last)
    outcome = consume(events, as_json, known=known, strict=strict_baseline, writers=written)
    if baseline is None:
        hint(outcome.seen, as_json)
    return outcome.code


def hint(seen: Iterable[str], as_json: bool) -> None:
    """Say which of the signatures that were seen the corpus has."""
    from conformance import cases
    from conformance.environment import installed

    here = tuple(installed().values())
    if cases.recorded_versions(*here) != here:
        return
    recorded = cases.baseline(*here)
    for known in (entry for signature in sorted(seen) if (entry := recorded.entry(signature)) is not None):
        click.echo(
            f"known in Keras {here[0]}: {known.signature}: {known.sentence}; --baseline {CORPUS} leaves it out",
            err=as_json,
        )
