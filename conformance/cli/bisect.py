"""`conformance bisect`: in which version a finding began or ended."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from conformance.cli import options
from conformance.cli.codes import INTERRUPTED, OK
from conformance.errors import ConformanceError, UsageError

if TYPE_CHECKING:
    from conformance.bisection import Trying
    from conformance.history import Change, History, Trial


@click.command()
@click.argument("path", callback=options.named, metavar="FINDING_DIR | repro.py")
@click.option(
    "--package",
    type=click.Choice(("keras", "tensorflow", "tensorflow-cpu")),
    default="keras",
    show_default=True,
    help="Whose versions are tried. With keras, TensorFlow is the one that is installed; with the others, Keras is.",
)
@click.option("--versions", metavar="V,V,...", help="The versions. [default: the releases that pip offers]")
@click.option("--good", metavar="V", help="A version that conforms: the search begins with it.")
@click.option("--bad", metavar="V", help="One that diverges: the search ends with it, or lies between it and --good.")
@click.option("--all", "every", is_flag=True, help="Try every version, oldest first, and not only as many as it takes.")
@click.option("--pre", is_flag=True, help="Among what pip offers, also what is no release yet.")
@click.option(
    "--with",
    "beside",
    multiple=True,
    metavar="REQUIREMENT",
    help="What to install with each version, as in 'tensorflow==2.18.1'; several times for several.",
)
@click.option(
    "--envs",
    metavar="DIR",
    help="Where the installations are kept. Nothing is lost but time when it is deleted. [default: conformance in the"
    " user's cache]",
)
@options.imports
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def bisect(
    path: str,
    package: str,
    versions: str | None,
    good: str | None,
    bad: str | None,
    every: bool,
    pre: bool,
    beside: tuple[str, ...],
    envs: str | None,
    imports: tuple[str, ...],
    as_json: bool,
) -> int:
    """In which Keras or TensorFlow version did a finding begin or end?

    Runs the finding's script in one version after the other, each in an installation of its own that pip makes; look
    into a script that comes from somebody else first. What is found is kept in the finding's folder, and its report
    tells it.
    """
    from conformance.bisect import Search, subject, trace
    from conformance.bisection import Trying
    from conformance.history import UNKNOWN, History
    from conformance.imports import import_modules
    from conformance.installation import Installations, cache
    from conformance.releases import given, requirement

    import_modules(imports)
    about = subject(Path(path))
    search = Search(
        package=package,
        versions=None if versions is None else given(versions),
        good=good,
        bad=bad,
        every=every,
        pre=pre,
        beside=tuple(map(requirement, beside)),
    )
    if pre and versions is not None:
        raise UsageError("--pre is about what pip offers; with --versions, name what you mean")
    known, code = History(package=package, versions=search.versions or ()), OK
    installations = Installations(cache() if envs is None else Path(envs))
    try:
        # Closed, and not left to whoever clears up: the report is written at its end.
        with closing(trace(about, search, installations)) as events:
            for told in events:
                if isinstance(told, History):
                    known = told
                elif isinstance(told, Trying):
                    _trying(told)
                elif not as_json:
                    click.echo(line(told))
    except KeyboardInterrupt:
        code = INTERRUPTED
    if as_json:
        click.echo(json.dumps(_object(known, str(about.script), about.signature)))
    elif known.trials:
        click.echo(_answer(known, broken_off=code == INTERRUPTED))
    if code == OK and known.status == UNKNOWN:
        last = known.trials[-1]
        raise ConformanceError(f"{known}; {last.version}: {last.said}")
    return code


def _trying(told: Trying) -> None:
    if sys.stderr.isatty():
        click.echo(f"trying {told.version} ({told.number} of about {told.of})", err=True)


def line(trial: Trial) -> str:
    """What is shown of one version."""
    from conformance.reports.text import plain

    beside = ", ".join(f"{name} {version}" for name, version in trial.beside.items() if name != "python")
    told = plain(f"{trial.said}{f' [{beside}]' if beside else ''}")
    return f"{plain(trial.version):8}  {trial.outcome:8}  {told}".rstrip()


def _answer(known: History, *, broken_off: bool) -> str:
    from conformance.history import ABSENT, THERE
    from conformance.reports.text import plain

    told = plain(known)
    if broken_off:
        return f"{told}; broken off"
    if known.status in (THERE, ABSENT) and not known.shifts and known.untried:
        return f"{told}. Both ends say the same, so there is nothing to halve; --all tries every version"
    return told


def _change(change: Change) -> dict[str, Any]:
    return {
        "version": change.after.version,
        "before": change.before.version,
        "next_to": change.next_to,
        "failed": list(change.failed),
        "untried": list(change.untried),
    }


def _object(known: History, script: str, signature: str) -> dict[str, Any]:
    """The JSON object: what it comes to, and each version with what its script did there."""
    return {
        "script": script,
        "signature": signature or None,
        "package": known.package,
        "status": known.status,
        "answer": str(known),
        "changes": [{"began": change.began, **_change(change)} for change in known.changes],
        "other_numbers": [_change(change) for change in known.shifts],
        "versions": msgspec.to_builtins(known.trials),
        "untried": list(known.untried),
    }
