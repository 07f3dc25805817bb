"""In which version of Keras or TensorFlow did a finding begin, or end?

The script of a finding needs nothing of this package, so it can be asked: it is run in one version after the other,
each in an installation of its own, as isolated as when it was verified. What it says is what counts. An exit code of 1
without a word of the script's is that of an import that failed, and tells nothing.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.bisection import Trying, limited, searched
from conformance.environment import TENSORFLOWS, distribution, version
from conformance.errors import UsageError
from conformance.finding_folders import findings_below
from conformance.history import ERROR, History, Outcome, Trial, numbers
from conformance.installation import Installations, InstallError
from conformance.releases import PACKAGES, beside, concerning, offered
from conformance.reports.history_file import write_history
from conformance.reports.render import render_finding
from conformance.reports.text import shortened
from conformance.reports.verify import SAYS, run
from conformance.verdict import CONFORMS, DIVERGES

_SAID = 300
_PATIENCE = 300.0
"""Seconds after which a script is killed."""


@dataclass(frozen=True)
class Subject:
    """What is asked about.

    Attributes:
        script: the script.
        folder: the finding's folder; None of a script alone.
        signature: the finding's; empty of a script alone.
    """

    script: Path
    folder: Path | None = None
    signature: str = ""


@dataclass(frozen=True)
class Search:
    """How it is asked.

    Attributes:
        package: a name of `conformance.releases.PACKAGES`.
        versions: the versions, oldest first; None for those that pip offers.
        good: one that conforms, where the search is to begin.
        bad: one that diverges, where it is to end.
        every: whether all are tried.
        pre: whether pip is to offer what is no release yet.
        beside: requirements to install with, in the place of what the table says.
    """

    package: str = "keras"
    versions: tuple[str, ...] | None = None
    good: str | None = None
    bad: str | None = None
    every: bool = False
    pre: bool = False
    beside: tuple[str, ...] = ()


def subject(path: Path) -> Subject:
    """The script at a path, or that of the finding in a folder.

    Raises:
        UsageError: when there is none, or there are several.
    """
    if path.is_file():
        if path.suffix != ".py":
            raise UsageError(f"{path} is no script; give a repro.py, or the folder of a finding")
        folder = path.parent
        if path.name != "repro.py" or not (folder / "finding.json").exists():
            return Subject(path)
    elif path.is_dir():
        folder = path
    else:
        raise UsageError(f"{path} does not exist; give a repro.py, or the folder of a finding")
    found = findings_below([folder])
    if len(found) > 1:
        raise UsageError(f"{path} holds {len(found)} findings; give the folder of one, such as {found[0][0]}")
    folder, finding = found[0]
    script = folder / "repro.py"
    if not script.exists():
        raise UsageError(f"{folder} has no repro.py that could be run")
    return Subject(script, folder, finding.signature)


def trace(about: Subject, search: Search, installations: Installations) -> Generator[Trying | Trial | History]:
    """Try the script in version after version.

    What is known is put into the finding's folder after each trial, and into its report at the end.

    Yields:
        A `Trying` before each trial, the `Trial`, and, after each, the `History` up to then.

    Raises:
        UsageError: when a version that was named is not there, or is not what it was said to be.
        ConformanceError: when pip cannot say which versions there are.
    """
    versions = search.versions
    if versions is None:
        versions = concerning(
            search.package, offered(installations.offered(search.package, pre=search.pre)), pre=search.pre
        )
        if not versions:
            raise UsageError(
                f"pip offers no version of {search.package} that could be tried; name some with --versions"
            )
    history = History(package=search.package, versions=versions, whole=search.versions is None)
    versions = limited(versions, search.good, search.bad)

    def ask(of: str) -> Trial:
        return tried(about.script, search.package, of, installations, search.beside)

    try:
        for told in searched(versions, ask, every=search.every):
            yield told
            if isinstance(told, Trial):
                history = history.taking([told])
                if about.folder is not None:
                    write_history(about.folder, history)
                yield history
                _refuse_other(told, search)
    finally:
        # The report tells it however the search ends.
        if about.folder is not None and history.trials:
            render_finding(about.folder)


def tried(script: Path, package: str, of: str, installations: Installations, given: Sequence[str] = ()) -> Trial:
    """The script in one version."""
    begun = time.monotonic()
    needed = given or beside(package, of, tensorflow=distribution(*TENSORFLOWS), keras=_keras())
    requirement = f"{package}=={of}"
    try:
        there = (
            installations.overlay(requirement, needed)
            if PACKAGES[package].pure
            else installations.whole((requirement, *needed))
        )
    except InstallError as error:
        return Trial(version=of, outcome=ERROR, said=str(error), seconds=_since(begun))
    code, output = run(there.command(script), _PATIENCE)
    outcome = outcome_of(code, output)
    shown = [line for line in output.splitlines() if line.strip()] or [""]
    # An exception that a script quotes may go on for lines.
    at = max((place for place, line in enumerate(shown) if outcome == DIVERGES and SAYS in line), default=-1)
    before, last = shown[:at], shown[at]
    said = last if outcome != ERROR or code is None else f"exit code {code}: {last}"
    return Trial(
        version=of,
        outcome=outcome,
        beside={name: found for name, found in there.versions.items() if name != PACKAGES[package].holds},
        said=shortened(said, _SAID),
        numbers=numbers("\n".join(before)) if outcome == DIVERGES else (),
        seconds=_since(begun),
    )


def outcome_of(code: int | None, output: str) -> Outcome:
    """What a script says by its exit code, None where it was killed, and by what it printed."""
    if code == 1 and SAYS in output:
        return "diverges"
    return "conforms" if code == 0 else "error"


def _keras() -> str | None:
    return None if distribution("keras") is None else version("keras")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 1)


def _refuse_other(trial: Trial, search: Search) -> None:
    """Refuse to go on from an end that is not what it was said to be."""
    for option, said, other in (("--good", search.good, DIVERGES), ("--bad", search.bad, CONFORMS)):
        if trial.version == said and trial.outcome == other:
            raise UsageError(f"{option} {said} {other}: {trial.said}")
