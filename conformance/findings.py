"""From a confirmed verdict to a finding on disk: script, clean process, folder.

Several workers share one report; a signature belongs to the worker that first makes its claim, which is a directory,
for making a directory is the one thing that a file system lets only one succeed in.
"""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec

from conformance.case import Case
from conformance.environment import environment
from conformance.errors import UnsupportedError
from conformance.events import FindingMade
from conformance.finding import NOT_RUN, REPRODUCED, Finding, slug
from conformance.imports import folders_of, imported, own_parts
from conformance.reports.folder import write_finding
from conformance.reports.repro import scripts
from conformance.reports.verify import verify
from conformance.verdict import Verdict


def claim(report: Path, signature: str) -> bool:
    """Whether this signature is ours to minimize: true once for all workers of a report."""
    claims = report / ".claims"
    claims.mkdir(parents=True, exist_ok=True)
    try:
        (claims / slug(signature)).mkdir()
    except FileExistsError:
        return False
    return True


def write(report: Path, verdict: Verdict, original: Case | None, attempts: int, seconds: float) -> FindingMade:
    """Write a finding's folder, with its script run in a clean process, and say so.

    Args:
        report: the report's directory.
        verdict: the verdict on the minimal case, the finding first.
        original: the case it was found in; None where parts of a user's own were judged.
        attempts: how many smaller cases were tried.
        seconds: how long that took.
    """
    cases = [case for case in (verdict.case, original) if case is not None]
    imports = imported() if any(map(own_parts, cases)) else ()
    finding = Finding(verdict=verdict, original=original, environment=environment(), attempts=attempts, imports=imports)
    folders = () if verdict.case is None else folders_of(verdict.case)
    run = functools.partial(verify, folders=folders) if folders else verify
    text, status, output, repro = "", NOT_RUN, "", None
    try:
        # The shortest that reproduces is kept; of those that do not, the longest, which shows the most.
        for text in scripts(verdict):
            repro = write_finding(finding, text, report / "findings") / "repro.py"
            status, output = run(repro)
            if status == REPRODUCED:
                break
    except UnsupportedError as error:
        output = f"no script: {error}"
    finding = msgspec.structs.replace(
        finding,
        repro_status=status,
        repro_output=output,
        verdict=msgspec.structs.replace(verdict, repro=str(repro) if repro else None),
    )
    folder = write_finding(finding, text, report / "findings")
    item = finding.observation
    weighted = [node for node in verdict.case.model.nodes if node.shares is None] if verdict.case else []
    return FindingMade(
        signature=finding.signature,
        message=item.divergence.message,
        cause=item.cause.name,
        explanation=item.cause.explanation,
        advice=item.cause.advice,
        wrong_arm=item.wrong_arm,
        folder=str(folder),
        repro=str(folder / "repro.py") if text else "",
        repro_status=status,
        layers=len(weighted),
        attempts=attempts,
        seconds=seconds,
    )
