"""Running a finding again: is it still there on what is installed now?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.arm import parse_arm
from conformance.errors import UsageError
from conformance.finding import Finding
from conformance.reports.folder import load_finding
from conformance.verdict import CONFORMS, DIVERGES, Verdict, verdict_to_data

FIXED, STILL, ERROR = "FIXED", "STILL DIVERGES", "ERROR"


@dataclass(frozen=True)
class Replayed:
    """What became of a finding: its status, a message, and the JSON object of the contract with the status in it."""

    status: str
    signature: str
    message: str
    data: dict[str, Any]


def replay_folders(path: Path) -> Iterator[Replayed]:
    """Replay the finding in a folder, or every finding of a report.

    Raises:
        UsageError: when there is no finding, or it is malformed or from a newer format; before anything is run.
    """
    folders = [path] if (path / "finding.json").exists() else sorted(p.parent for p in path.rglob("finding.json"))
    if not folders:
        raise UsageError(f"{path} holds no finding; give a folder with a finding.json, or a report")
    loaded = [(folder, load_finding(folder)) for folder in folders]
    for _, finding in loaded:
        yield _replayed(finding)


def _replayed(finding: Finding) -> Replayed:
    from conformance import devices
    from conformance.judge import Plan, judge_case

    arms = [parse_arm(report.arm) for report in finding.verdict.arms]
    plan = Plan(
        tuple(dict.fromkeys(arm.trainer for arm in arms)),
        tuple(dict.fromkeys(arm.placement for arm in arms)),
        tuple(dict.fromkeys(arm.execution for arm in arms)),
    )
    devices.set_up(plan.replicas, one_thread=True)
    if finding.verdict.case is None:
        raise UsageError("the finding has no case")
    verdict = judge_case(finding.verdict.case, plan)
    status, message = _status(finding, verdict)
    data = {"status": status, **verdict_to_data(verdict)}
    return Replayed(status, finding.signature, message, data)


def _status(finding: Finding, verdict: Verdict) -> tuple[str, str]:
    found = [item.signature for item in verdict.observations]
    if verdict.verdict == CONFORMS:
        return FIXED, ""
    if verdict.verdict != DIVERGES:
        return ERROR, verdict.reason or ""
    if finding.signature in found:
        index = found.index(finding.signature)
        return STILL, verdict.observations[index].divergence.message
    return STILL, f"as another finding: {found[0]}"
