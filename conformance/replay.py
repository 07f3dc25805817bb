"""Running a finding again: is it still there on what is installed now?

Nothing of a finding's folder is executed. Its script is left alone; its case is data, built and trained in the arms
that its verdict names, and a case that names what is not known is refused before anything is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.arm import parse_arm
from conformance.errors import ConformanceError, UsageError
from conformance.finding import Finding
from conformance.finding_folders import findings_below
from conformance.verdict import CONFORMS, DIVERGES, Verdict, verdict_to_data

FIXED, STILL, CHANGED, ERROR = "FIXED", "STILL DIVERGES", "CHANGED", "ERROR"
STATUSES = (STILL, CHANGED, FIXED, ERROR)
"""What can become of a finding: it is there, another one is there in its place, it is gone, it cannot be run."""


@dataclass(frozen=True)
class Replayed:
    """What became of a finding.

    Attributes:
        folder: the finding's.
        status: one of `STATUSES`.
        signature: the finding's.
        found: the signatures that were seen, in their order.
        message: what there is to say.
        data: the JSON object of the contract, with `status`, `folder`, `message` and `replayed`, the signature that was
            looked for.
    """

    folder: Path
    status: str
    signature: str
    found: tuple[str, ...]
    message: str
    data: dict[str, Any]


def replay_folders(path: Path) -> Iterator[Replayed]:
    """Replay the finding in a folder, or every finding of a report.

    Raises:
        UsageError: when there is no finding, or it is malformed or from a newer format; before anything is run.
    """
    loaded = findings_below([path])
    # A process has the devices it starts with: those of the finding that needs the most.
    most = max(_replicas(finding) for _, finding in loaded)
    for folder, finding in loaded:
        yield _replayed(folder, finding, most)


def _replayed(folder: Path, finding: Finding, replicas: int) -> Replayed:
    verdict: Verdict | None = None
    try:
        verdict = _judged(finding, replicas)
        status, message = _status(finding, verdict)
    except ConformanceError as error:
        status, message = ERROR, str(error)
    except Exception as error:  # noqa: BLE001 - what ends one finding's training does not end those of the others
        status, message = ERROR, f"{type(error).__name__}: {error}"
    data = {"status": status, "folder": str(folder), "replayed": finding.signature, "message": message}
    contract = ("case", "verdict", "arms", "divergence", "wrong_arm", "cause", "signature", "repro", "reason")
    # What was not run is told with what the finding's case is, and with nothing that was seen.
    blank = {**dict.fromkeys(contract), "arms": [], "case": verdict_to_data(finding.verdict)["case"], "reason": message}
    found = () if verdict is None else tuple(item.signature for item in verdict.observations)
    told = blank if verdict is None else verdict_to_data(verdict)
    return Replayed(folder, status, finding.signature, found, message, {**data, **told})


def _judged(finding: Finding, replicas: int) -> Verdict:
    from conformance import devices
    from conformance.judge import judge_case
    from conformance.plan import Plan

    if finding.verdict.case is None:
        raise UsageError("it has no case: what was judged were parts of a user's own")
    arms = [parse_arm(report.arm) for report in finding.verdict.arms]
    if not arms:
        raise UsageError("it names no arms")
    if any(arm.trainer == "trial" for arm in arms):
        raise UsageError(
            "it is about a user's own loop, which is not in its folder; conformance check --loop runs that"
        )
    plan = Plan(
        tuple(dict.fromkeys(arm.trainer for arm in arms)),
        tuple(dict.fromkeys(arm.placement for arm in arms)),
        tuple(dict.fromkeys(arm.execution for arm in arms)),
    )
    devices.set_up(replicas, one_thread=True)
    return judge_case(finding.verdict.case, plan)


def _replicas(finding: Finding) -> int:
    """The most replicas that its arms need, as far as its arms can be read."""
    counts = [1]
    for report in finding.verdict.arms:
        try:
            counts.append(parse_arm(report.arm).placement.replicas)
        except UsageError:
            continue
    return max(counts)


def _status(finding: Finding, verdict: Verdict) -> tuple[str, str]:
    found = {item.signature: item.divergence.message for item in verdict.observations}
    if verdict.verdict == CONFORMS:
        return FIXED, f"flaky: {verdict.flaky[0]}" if verdict.flaky else ""
    if verdict.verdict != DIVERGES:
        return ERROR, f"{verdict.verdict}: {verdict.reason or 'no reason is known'}"
    if finding.signature in found:
        return STILL, found[finding.signature]
    return CHANGED, f"now {', '.join(found)}: {next(iter(found.values()))}"
