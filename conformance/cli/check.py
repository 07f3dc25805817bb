"""`conformance check`: judge given cases."""

from __future__ import annotations

import tempfile

import click

from conformance.case import load_case
from conformance.cli import options
from conformance.cli.inputs import case_files, fresh_report, known_findings
from conformance.cli.outcome import consume
from conformance.cli.writers import writers
from conformance.errors import UsageError
from conformance.job import Job
from conformance.worker import loop_name


@click.command()
@click.argument("paths", nargs=-1, required=True, callback=options.named, metavar="FILE.json ... | DIR")
@click.option("--loop", metavar="PACKAGE.MODULE:FUNCTION", help="A training step of yours, put on trial against fit.")
@click.option(
    "-n",
    "workers",
    type=click.IntRange(1, options.MOST_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@options.arms("single,mirrored:2")
@options.imports
@options.baseline
@click.option("--report", default=None, help="Write findings with their repro to this directory.")
@click.option(
    "--sarif",
    metavar="FILE",
    callback=options.named,
    help="Write the findings as SARIF 2.1.0, at the lines of the loop on trial.",
)
@options.summary
@options.as_json
def check(
    paths: tuple[str, ...],
    loop: str | None,
    workers: int,
    placements: tuple[str, ...],
    executions: tuple[str, ...],
    imports: tuple[str, ...],
    baseline: str | None,
    report: str | None,
    sarif: str | None,
    summary: str | None,
    as_json: bool,
) -> int:
    """Judge given cases: files, or every *.case.json and case.json below a directory."""
    from conformance import devices
    from conformance.campaign import run as run_campaign
    from conformance.imports import import_modules
    from conformance.occurrence import closing

    devices.require_tensorflow()
    if sarif is not None and loop is None:
        raise UsageError("--sarif needs a --loop, whose lines the findings point at")
    if loop is not None:
        loop_name(loop)
    files = case_files(paths)
    import_modules(imports)
    for file in files:
        load_case(file)
    known = known_findings(baseline, as_json)
    written = writers(summary, sarif)
    if report is not None:
        fresh_report(report)
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        job = Job(
            report=report or scratch,
            trainers=("trial", "fit") if loop else ("fit", "loop"),
            placements=placements,
            executions=executions,
            paths=tuple(str(file) for file in files),
            known=known.signatures,
            imports=imports,
            loop=loop,
            write=report is not None,
        )
        last = closing(known, baseline or "", job, partial=True)
        events = run_campaign(job, min(workers, len(files)), last)
        return consume(events, as_json, show_report=report is not None, known=known, writers=written).code
