"""Taking findings for known: what an entry of the baseline says of a finding, and when there is one already.

What somebody asked for is never dropped without a word, and what is only a default never overwrites what a person
wrote: an entry that is there stays as it is unless something else was asked for, which needs `replace`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from conformance.baseline import Baseline, Known, is_link
from conformance.errors import UsageError
from conformance.finding import REPRODUCED, Finding
from conformance.reports.text import plain
from conformance.versions import Range, concerned


@dataclass(frozen=True)
class Asked:
    """What was asked for, None where nothing was.

    Attributes:
        sentence: what the entries say; by default what the cause of each finding says.
        link: where it is told.
        by: who accepts it.
        versions: the versions concerned; by default those the finding was made on and all later ones.
        replace: whether an entry that is there gives way.
    """

    sentence: str | None = None
    link: str | None = None
    by: str | None = None
    versions: tuple[Range, ...] | None = None
    replace: bool = False

    def __post_init__(self) -> None:
        if self.link is not None and not is_link(self.link):
            raise UsageError(f"--link {self.link!r} should be an http or https address")
        if self.sentence is not None and not plain(self.sentence):
            raise UsageError("--sentence is empty; say what happens, or leave it out for what the cause says")


def refuse_not_reproduced(findings: Iterable[tuple[Path, Finding]]) -> None:
    """Refuse findings whose script did not show them in a clean process.

    Raises:
        UsageError: naming the first of them and how many there are.
    """
    bad = [(path, finding) for path, finding in findings if finding.repro_status != REPRODUCED]
    if bad:
        path, finding = bad[0]
        others = f", and {len(bad) - 1} more like it" if len(bad) > 1 else ""
        raise UsageError(
            f"{path}: its script is {plain(finding.repro_status)!r}{others}; look into it, or accept it with"
            " --even-if-not-reproduced"
        )


def accepted(finding: Finding, baseline: Baseline, asked: Asked, *, by: str, today: date) -> Known | None:
    """The entry that takes a finding for known; None where the baseline has it already.

    Args:
        finding: the finding.
        baseline: what is known so far.
        asked: what was asked for.
        by: who accepts it where nobody was named.
        today: the day.

    Raises:
        UsageError: when there is an entry that says something else, and `asked` does not replace it.
    """
    there = baseline.entry(finding.signature)
    if there is not None and not asked.replace:
        _refuse_other(there, finding, asked)
        return None
    return Known(
        signature=finding.signature,
        sentence=plain(asked.sentence or finding.observation.cause.explanation),
        link=asked.link or "",
        versions=_versions(finding, asked),
        accepted_by=plain(by if asked.by is None else asked.by),
        accepted_on=today.isoformat(),
    )


def _versions(finding: Finding, asked: Asked) -> tuple[str, ...]:
    if asked.versions is not None:
        return tuple(map(str, asked.versions))
    # An upgrade does not make a known finding news; where it makes it vanish, the run says so.
    return tuple(f"{name}>={version}" for name, version in _made_on(finding).items() if version[:1].isdigit())


def _made_on(finding: Finding) -> dict[str, str]:
    return {"keras": finding.environment.keras, "tensorflow": finding.environment.tensorflow}


def _refuse_other(there: Known, finding: Finding, asked: Asked) -> None:
    """Refuse to keep an entry that says something else than was asked for."""
    versions = None if asked.versions is None else "; ".join(map(str, asked.versions))
    wanted = {
        "sentence": (asked.sentence, there.sentence),
        "link": (asked.link, there.link),
        "accepted_by": (asked.by, there.accepted_by),
        "versions": (versions, "; ".join(there.versions)),
    }
    for name, (given, kept) in wanted.items():
        if given is not None and plain(given) != kept:
            raise UsageError(f"{there.signature} is there already, with {name} {kept!r}; --replace takes {given!r}")
    made_on = _made_on(finding)
    if not concerned(there.versions, made_on):
        named = ", ".join(f"{name} {version}" for name, version in made_on.items())
        raise UsageError(
            f"{there.signature} is there already, for {'; '.join(there.versions)} and not for {named}; --replace"
            " --versions takes others"
        )
