"""A finding as a folder that can be mailed, committed or replayed.

`finding.json` carries a format version of its own and is refused when it is newer. A folder appears whole: it is
written beside its place and renamed, so a reader or a killed run never meets half of one.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from conformance.case import load_case, to_json
from conformance.errors import CaseError, UsageError
from conformance.finding import NOT_RUN, Environment, Finding
from conformance.history import History
from conformance.reports.finding_page import finding_page
from conformance.reports.html import finding_html
from conformance.reports.markdown import written
from conformance.reports.page import FindingPage
from conformance.reports.text import markdown, plain
from conformance.verdict import json_safe, verdict_from_data, verdict_to_data

FORMAT = 1
"""The version of `finding.json` this package writes; it refuses newer ones."""

_ORIGINAL = "original.case.json"

PAGES: Mapping[str, Callable[[FindingPage], str]] = {"report.md": written, "report.html": finding_html}
"""The pages of a finding's folder, and who writes each."""


def write_finding(finding: Finding, script: str, directory: Path) -> Path:
    """Write a finding to `<directory>/<finding.slug>/`; a folder that is there is replaced whole.

    Args:
        finding: the finding; what its script printed is in it already.
        script: the repro script; empty where none can be written.
        directory: where findings are kept; made where it does not exist.

    Returns:
        The folder, with `repro.py`, `case.json`, `original.case.json`, `finding.json`, and the `PAGES`.
    """
    files = {"finding.json": _text(to_data(finding)), **pages(finding, script)}
    files |= {"repro.py": script} if script else {}
    files |= {"case.json": to_json(finding.verdict.case)} if finding.verdict.case else {}
    files |= {_ORIGINAL: to_json(finding.original)} if finding.original else {}
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / finding.slug
    with tempfile.TemporaryDirectory(prefix=f".{finding.slug[:40]}-", dir=directory) as partial:
        made = Path(partial, "new")
        made.mkdir()
        for name, text in files.items():
            write_file(made / name, text)
        if place.exists():
            place.rename(Path(partial, "old"))
        made.rename(place)
    return place


def pages(finding: Finding, script: str, histories: Sequence[History] = ()) -> dict[str, str]:
    """The pages of a finding by their names; `histories` are what its folder holds of other versions.

    A page that cannot be written says so, and takes nothing with it: what was found is in `finding.json`.
    """
    try:
        page = finding_page(finding, script, histories)
        return {name: write(page) for name, write in PAGES.items()}
    except Exception as error:  # noqa: BLE001 - whatever a page stumbles over, the finding must not be lost
        return {"report.md": f"The pages of this finding could not be written: {markdown(error)}\n"}


def write_file(path: Path, text: str) -> None:
    """Write a text file; one that is there is replaced whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    # An exception's message may hold half a surrogate pair, which no encoding takes.
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def to_data(finding: Finding) -> dict[str, Any]:
    """A finding as the plain data of `finding.json`; the original case has a file of its own."""
    return {
        "format": FORMAT,
        **verdict_to_data(finding.verdict),
        "environment": json_safe(msgspec.to_builtins(finding.environment)),
        "attempts": finding.attempts,
        "repro_status": finding.repro_status,
        "repro_output": finding.repro_output,
        "imports": list(finding.imports),
    }


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"


def load_finding(folder: Path) -> Finding:
    """The finding in a folder.

    Raises:
        UsageError: when it is not there, malformed or of a newer format; one line that begins with the path.
    """
    path = folder / "finding.json"
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    version = data.get("format") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UsageError(f"{path}: format {version!r} is not that of a finding, a whole number of at least 1")
    if version > FORMAT:
        raise UsageError(
            f"{path}: format {version} is from a newer release, this one reads up to {FORMAT}; upgrade"
            " keras-conformance"
        )
    original = folder / _ORIGINAL
    imports = _imports(data)
    try:
        finding = Finding(
            verdict=verdict_from_data(data),
            original=load_case(original) if original.exists() else None,
            environment=msgspec.convert(data["environment"], Environment),
            attempts=msgspec.convert(data.get("attempts", 0), int),
            repro_status=msgspec.convert(data.get("repro_status", NOT_RUN), str),
            repro_output=msgspec.convert(data.get("repro_output", ""), str),
            imports=imports,
        )
    except KeyError as error:
        raise UsageError(f"{path}: {error} is missing") from error
    except CaseError as error:
        needs = f"needs --import {plain(' --import '.join(imports))}" if imports else "malformed"
        raise UsageError(f"{path}: {needs}: {' '.join(str(error).split())}") from error
    except (msgspec.ValidationError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: malformed: {' '.join(str(error).split())}") from error
    if not finding.verdict.observations:
        raise UsageError(f"{path}: holds no divergence")
    return finding


def _imports(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules that its cases need; data of a stranger, and only ever shown."""
    try:
        return msgspec.convert(data.get("imports", []), tuple[str, ...])
    except msgspec.ValidationError:
        return ()
