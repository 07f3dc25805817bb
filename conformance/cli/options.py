"""The options that several commands have, and what they are read into."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import click

from conformance.arm import parse_execution, parse_placement, parse_trainer
from conformance.baseline import CORPUS
from conformance.errors import UsageError
from conformance.reports.text import shortened

MOST_WORKERS = 256
"""More processes than that are a slip of the hand, and would bring the machine down."""


def _list(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    def parsed(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        if not names:
            raise UsageError(f"--{parameter.name} {value!r} names nothing")
        return tuple(str(parse(name)) for name in names)

    return parsed


def arms(placements: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options `--placements`, with this default, and `--executions`."""

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


def _trainer(name: str) -> str:
    if name == "trial":
        raise UsageError("'trial' is a loop of yours, and cases of one are judged by conformance check --loop")
    return parse_trainer(name)


def named(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """What names a file or a directory, and so is not empty: that would be the current directory.

    Raises:
        UsageError: when it is.
    """
    if any(isinstance(item, str) and not item.strip() for item in (value if isinstance(value, tuple) else (value,))):
        option = parameter.opts[0] if parameter.param_type_name == "option" else str(parameter.metavar)
        raise UsageError(f"{option} is empty; name a file or a directory")
    return value


trainers = click.option(
    "--trainers",
    default="fit,loop",
    show_default=True,
    callback=_list(_trainer),
    help="Among fit, loop, train_on_batch; the last is the one the others are held against.",
)
workers = click.option(
    "-n", "workers", type=click.IntRange(1, MOST_WORKERS), default=None, help="Worker processes. [default: at most 2]"
)
seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draws.")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a case on standard output.")
baseline = click.option(
    "--baseline",
    callback=named,
    metavar=f"FILE|{CORPUS}",
    help=f"Known findings, by signature; they do not fail the run. {CORPUS}: those that the corpus of this package"
    " records for the versions that are installed.",
)
summary = click.option(
    "--summary",
    callback=named,
    metavar="FILE",
    help="Write a summary as Markdown. A job of GitHub Actions has one appended to its own summary without asking.",
)


def _import(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value))


imports = click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    callback=_import,
    help="Import a module of yours first, which registers layers, losses or optimizers; it is looked for in the current"
    " directory too. Several times for several.",
)


def at_most(workers: int | None, examples: int | None) -> int:
    """The number of workers, by default two, and no more than there are cases."""
    workers = workers or min(2, os.cpu_count() or 1)
    return workers if examples is None else min(workers, examples)


LONGEST = 10 * 365 * 24 * 3600.0
"""The seconds of ten years."""


def parse_duration(text: str) -> float:
    """Seconds from 90s, 10m, 2h or a plain number of seconds.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--time {text!r} is not a duration; write 90s, 10m or 2h")
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds > LONGEST:
        raise UsageError(f"--time {shortened(text, 40)!r} is longer than ten years; write 90s, 10m or 2h")
    return seconds
