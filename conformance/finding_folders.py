"""The findings in folders that somebody names: that of a finding, or a report with several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from conformance.errors import UsageError
from conformance.finding import Finding
from conformance.reports.folder import load_finding


def findings_below(paths: Iterable[Path]) -> list[tuple[Path, Finding]]:
    """The findings in these folders, each once, sorted within a report.

    Raises:
        UsageError: when one holds none, or one of them cannot be read.
    """
    found: dict[Path, Finding] = {}
    for path in paths:
        # A folder that is still being written lies in one whose name begins with a dot.
        below = sorted(
            file.parent
            for file in path.rglob("finding.json")
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        folders = [path] if (path / "finding.json").exists() else below
        if not folders:
            raise UsageError(f"{path} holds no finding; give a folder with a finding.json, or a report")
        found |= {folder: load_finding(folder) for folder in folders}
    return list(found.items())
