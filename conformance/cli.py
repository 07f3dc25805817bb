"""The command line: `conformance run`, `check`, `replay`, `info`.

Exit codes: 0 everything conforms, or diverges only as the baseline says; 1 a divergence that is news; 2 bad usage or
bad input, one line on standard error, or a case that is unsupported; 3 the run itself failed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from click.core import ParameterSource

from conformance.arm import parse_execution, parse_placement, parse_trainer
from conformance.baseline import CORPUS, load_baseline
from conformance.case import load_case
from conformance.errors import ConformanceError, UsageError
from conformance.events import CaseCalibrated, CaseJudged, Event, RunEnded, WorkerDied
from conformance.job import Job
from conformance.verdict import DIVERGES, RAISES, UNSUPPORTED

OK, NEWS, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


class Profile(NamedTuple):
    """How thoroughly a run searches where nothing else is said: for how long, and how long it shrinks a finding."""

    shrink_seconds: float
    examples: int | None = None
    seconds: float | None = None


CALIBRATION_REPORT = "conformance-calibration"

PROFILES = {"gate": Profile(7.0, examples=40), "nightly": Profile(120.0, seconds=3600.0)}


def main(arguments: list[str] | None = None) -> None:
    """The console script: run the command and exit with the contract's code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        code = commands.main(args=arguments, prog_name="conformance", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"conformance: {' '.join(error.format_message().split())}", err=True)
        code = USAGE
    except UsageError as error:
        click.echo(f"conformance: {error}", err=True)
        code = USAGE
    except ConformanceError as error:
        click.echo(f"conformance: {error}", err=True)
        code = FAILED
    except click.Abort:
        code = INTERRUPTED
    sys.exit(code or OK)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keras-conformance", prog_name="conformance")
def commands() -> None:
    """Find out where two trainings that should agree do not: model.fit and a custom loop, one device and many."""


def _list(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    def parsed(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        if not names:
            raise UsageError(f"--{parameter.name} {value!r} names nothing")
        return tuple(str(parse(name)) for name in names)

    return parsed


def _arms(placements: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--executions",
                default="graph",
                show_default=True,
                callback=_list(parse_execution),
                help="Among graph, eager, xla; the first is the one the others are held against.",
            ),
            click.option(
                "--placements",
                default=placements,
                show_default=True,
                callback=_list(parse_placement),
                help="single and mirrored:N; the first is the one the others are held against.",
            ),
        ):
            command = option(command)
        return command

    return decorate


_trainers = click.option(
    "--trainers",
    default="fit,loop",
    show_default=True,
    callback=_list(parse_trainer),
    help="Among fit, loop, train_on_batch; the last is the one the others are held against.",
)
_workers = click.option(
    "-n", "workers", type=click.IntRange(1), default=None, help="Worker processes. [default: at most 2]"
)
_seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draws.")
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a case on standard output.")
_baseline = click.option(
    "--baseline",
    metavar=f"FILE|{CORPUS}",
    help=f"Known findings, by signature; they do not fail the run. {CORPUS}: those that the corpus of this package"
    " records for the versions that are installed.",
)


@commands.command()
@click.option("--examples", type=click.IntRange(1), help="How many cases to draw.")
@click.option("--time", "duration", metavar="DURATION", help="How long to search, as in 90s, 10m or 2h.")
@_workers
@_arms("single,mirrored:2")
@_trainers
@_seed
@_baseline
@click.option("--strict-baseline", is_flag=True, help="Fail when a known finding no longer occurs.")
@click.option("--report", default="conformance-report", show_default=True, help="Directory of the report.")
@click.option(
    "--profile", type=click.Choice(sorted(PROFILES)), default="gate", show_default=True, help="How thoroughly."
)
@_as_json
def run(
    examples: int | None,
    duration: str | None,
    workers: int | None,
    placements: tuple[str, ...],
    executions: tuple[str, ...],
    trainers: tuple[str, ...],
    seed: int,
    baseline: str | None,
    strict_baseline: bool,
    report: str,
    profile: str,
    as_json: bool,
) -> int:
    """Search for divergences: draw cases, train each in several arms, minimize what diverges."""
    from conformance import devices
    from conformance.campaign import run as run_campaign

    devices.require_tensorflow()
    seconds = None if duration is None else parse_duration(duration)
    chosen = PROFILES[profile]
    if examples is None and seconds is None:
        examples, seconds = chosen.examples, chosen.seconds
    known = _known(baseline, as_json)
    if strict_baseline and not baseline:
        raise UsageError("--strict-baseline needs a --baseline")
    _fresh_report(Path(report))
    job = Job(
        report=report,
        trainers=trainers,
        placements=placements,
        executions=executions,
        examples=examples,
        seconds=seconds,
        seed=seed,
        shrink_seconds=chosen.shrink_seconds,
        known=known,
    )
    outcome = _consume(run_campaign(job, _at_most(workers, examples)), as_json)
    if strict_baseline:
        gone = sorted(set(known) - set(outcome.seen))
        for signature in gone:
            click.echo(f"no longer occurs: {signature}", err=as_json)
        if gone:
            return outcome.code or NEWS
    return outcome.code


@commands.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE.json ... | DIR")
@click.option("--loop", metavar="PACKAGE.MODULE:FUNCTION", help="A training step of yours, put on trial against fit.")
@click.option("-n", "workers", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@_arms("single,mirrored:2")
@_baseline
@click.option("--report", default=None, help="Write findings with their repro to this directory.")
@_as_json
def check(
    paths: tuple[str, ...],
    loop: str | None,
    workers: int,
    placements: tuple[str, ...],
    executions: tuple[str, ...],
    baseline: str | None,
    report: str | None,
    as_json: bool,
) -> int:
    """Judge given cases: files, or every *.case.json and case.json below a directory."""
    from conformance import devices
    from conformance.campaign import run as run_campaign

    devices.require_tensorflow()
    files = case_files(paths)
    for file in files:
        load_case(file)
    known = _known(baseline, as_json)
    if report is not None:
        _fresh_report(Path(report))
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        job = Job(
            report=report or scratch,
            trainers=("trial", "fit") if loop else ("fit", "loop"),
            placements=placements,
            executions=executions,
            paths=tuple(str(file) for file in files),
            known=known,
            loop=loop,
            write=report is not None,
        )
        return _consume(run_campaign(job, min(workers, len(files))), as_json, show_report=report is not None).code


@commands.command()
@click.argument("folder", metavar="DIR")
@_as_json
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


@commands.command()
@click.option(
    "--report",
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
@_seed
@_arms("single")
@_trainers
@_workers
@_as_json
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
    as_json: bool,
) -> int:
    """Versions, devices, what the generator can draw and has drawn; how the harness is calibrated."""
    from conformance import devices
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
        )
        return _calibrate(job, _at_most(workers, examples), as_json)
    for option in ("examples", "seed", "placements", "executions", "trainers", "workers"):
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{'-n' if option == 'workers' else f'--{option}'} needs --calibration")
    devices.set_up(2)
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
    from conformance.reports.calibration import calibrated, text, to_data

    devices.require_tensorflow()
    job = msgspec.structs.replace(job, known=_known(CORPUS, as_json))
    _fresh_report(Path(job.report))
    told: list[Event] = []

    def noted() -> Iterator[Event]:
        for event in run_campaign(job, workers):
            told.append(event)
            yield event

    outcome = _consume(noted(), as_json)
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


def _at_most(workers: int | None, examples: int | None) -> int:
    """The number of workers, by default two, and no more than there are cases."""
    workers = workers or min(2, os.cpu_count() or 1)
    return workers if examples is None else min(workers, examples)


def _known(baseline: str | None, as_json: bool) -> tuple[str, ...]:
    """The signatures that are no news."""
    if baseline != CORPUS:
        return load_baseline(baseline).signatures if baseline else ()
    from conformance import cases, devices
    from conformance.environment import TENSORFLOWS, version

    devices.require_tensorflow()
    installed = version("keras", "keras-nightly"), version(*TENSORFLOWS)
    taken = cases.recorded_versions(*installed)
    if taken != installed:
        named = [f"Keras {keras} with TensorFlow {tensorflow}" for keras, tensorflow in (installed, taken)]
        click.echo(f"the corpus records nothing for {named[0]}; known is what it records for {named[1]}", err=as_json)
    return tuple(sorted(cases.known_signatures(*installed)))


def parse_duration(text: str) -> float:
    """Seconds from 90s, 10m, 2h or a plain number of seconds.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--time {text!r} is not a duration; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def case_files(paths: Iterable[str]) -> list[Path]:
    """The case files that are named, and those below directories that are.

    Raises:
        UsageError: when a path is missing or a directory holds no case.
    """
    files: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found = sorted({*path.rglob("*.case.json"), *path.rglob("case.json")})
            found = [file for file in found if not file.name.startswith("original")]
            if not found:
                raise UsageError(f"{path} holds no *.case.json and no case.json")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"{path} does not exist; give a case file or a directory of them")
    return list(dict.fromkeys(files))


def _fresh_report(path: Path) -> None:
    """Refuse to mix two runs: a report's claims and findings belong to one."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--report {str(path)!r} is a file; name a directory")
    if (path / "events.jsonl").exists():
        number = next(n for n in range(1, 10_000) if not (path.parent / f"{path.name}.{n}").exists())
        path.rename(path.parent / f"{path.name}.{number}")


class _Outcome:
    def __init__(self) -> None:
        self.code, self.seen = OK, set[str]()

    def __call__(self, event: Event) -> None:
        if isinstance(event, CaseJudged):
            self.seen.update(event.signatures)
            if event.outcome in (DIVERGES, RAISES):
                self.code = NEWS
            elif event.outcome == UNSUPPORTED and self.code == OK:
                # What could not be run or watched is never passed as conforming.
                self.code = USAGE
        elif isinstance(event, CaseCalibrated):
            self.seen.update(event.calibration.signatures)
            if event.calibration.news:
                self.code = NEWS
            elif event.calibration.failures and self.code == OK:
                self.code = FAILED
        elif isinstance(event, WorkerDied) and self.code == OK:
            self.code = FAILED
        elif isinstance(event, RunEnded) and event.interrupted and self.code == OK:
            self.code = INTERRUPTED


def _consume(events: Iterable[Event], as_json: bool, *, show_report: bool = True) -> _Outcome:
    from conformance.reports.terminal import Terminal

    outcome = _Outcome()
    show: Callable[[Event], None] = _print_json if as_json else Terminal(sys.stdout, live=sys.stdout.isatty())
    for event in events:
        outcome(event)
        if isinstance(event, RunEnded) and not show_report:
            event = msgspec.structs.replace(event, report="")  # noqa: PLW2901 - there is none to be shown
        show(event)
    return outcome


def _print_json(event: Event) -> None:
    if isinstance(event, CaseJudged) and event.verdict is not None:
        click.echo(json.dumps({"path": event.path, **event.verdict}))
