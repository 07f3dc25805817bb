"""Writes the scripts of this folder, which are made from its cases: `python -m conformance.cases.make [NAME ...]`.

Every case that diverges is judged as the index says, its script is written beside it and run in a clean process. It
ends with an error when a script does not show what it should, and the script is left there to be looked at.
"""

from __future__ import annotations

import sys

from conformance import cases, devices
from conformance.arm import parse_placement
from conformance.errors import UnsupportedError
from conformance.finding import REPRODUCED
from conformance.judge import judge_case
from conformance.plan import Plan
from conformance.reports.folder import write_file
from conformance.reports.repro import script
from conformance.reports.verify import verify
from conformance.verdict import Verdict


def plan_of(entry: cases.Entry) -> Plan:
    """The arms that a case is recorded in."""
    return Plan(placements=tuple(map(parse_placement, entry.placements)), executions=entry.executions)


def script_of(verdict: Verdict) -> str | None:
    """The script of a case, by its verdict; None where nothing diverges or no script can show it."""
    if not verdict.observations:
        return None
    try:
        return script(verdict)
    except UnsupportedError:
        return None


def make(entry: cases.Entry) -> str:
    """Write the script of a case, or remove one that is none of it any more; what is wrong with it, or nothing."""
    place = cases.repro(entry.name)
    text = script_of(judge_case(cases.load(entry.name), plan_of(entry)))
    if text is None:
        place.unlink(missing_ok=True)
        return ""
    write_file(place, text)
    status, output = verify(place)
    return "" if status == REPRODUCED else f"{place}: {status}\n{output}"


def main(names: list[str]) -> None:
    """Make the scripts of these cases, or of all."""
    devices.set_up(2, one_thread=True)
    chosen = [entry for entry in cases.entries() if not names or entry.name in names]
    wrong = [told for entry in chosen if (told := make(entry))]
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
