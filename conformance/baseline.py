"""The list of known findings: signatures that are no news, each with who took it for known, why, and on what.

A baseline is read in reviews, so it is written in one way only: sorted by signature, a field a line, what is not said
left out. It has no wildcards: an entry is one signature, and one that hides two faults would hide a third.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from conformance.errors import UsageError
from conformance.versions import concerned, parse_range

FORMAT = 2
"""The format that is written. Format 1 has signatures, sentences and links alone."""

CORPUS = "corpus"
"""In the place of a file: what the corpus records for the versions that are installed. A file of that name is
`./corpus`."""


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A known finding.

    Attributes:
        signature: its signature.
        sentence: what happens, or why it is no news.
        link: where it is told or discussed; an address of the web, or nothing.
        versions: the versions it concerns, a range each as `conformance.versions` reads it, all of which have to hold;
            none for all versions. On others it is not known.
        accepted_by: who took it for known.
        accepted_on: when, as in 2026-01-31.
    """

    signature: str
    sentence: str
    link: str = ""
    versions: tuple[str, ...] = ()
    accepted_by: str = ""
    accepted_on: str = ""

    def concerns(self, installed: Mapping[str, str]) -> bool:
        """Whether it is known on these versions, one a name of `conformance.versions.DISTRIBUTIONS`."""
        return concerned(self.versions, installed)


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The known findings of a project."""

    findings: tuple[Known, ...] = ()
    format: int = FORMAT

    @property
    def signatures(self) -> tuple[str, ...]:
        """The known signatures."""
        return tuple(known.signature for known in self.findings)

    def concerning(self, installed: Mapping[str, str]) -> Baseline:
        """The part of it that concerns these versions."""
        return Baseline(tuple(known for known in self.findings if known.concerns(installed)))

    def entry(self, signature: str) -> Known | None:
        """The entry of a signature, or None."""
        return next((known for known in self.findings if known.signature == signature), None)

    def taking(self, entries: Iterable[Known]) -> Baseline:
        """The baseline with these entries, in the place of those of the same signatures."""
        taken = {known.signature: known for known in (*self.findings, *entries)}
        return Baseline(tuple(taken[signature] for signature in sorted(taken)))


def load_baseline(path: str | Path) -> Baseline:
    """The baseline in a file.

    Raises:
        UsageError: when it cannot be read, is malformed or from a newer format; one line that begins with the path.
    """
    try:
        baseline = msgspec.json.decode(Path(path).read_bytes(), type=Baseline)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not a baseline: {_newer(path) or error}") from error
    if baseline.format > FORMAT:
        raise UsageError(f"{path}: {_too_new(baseline.format)}")
    if baseline.format < 1:
        raise UsageError(f"{path}: format {baseline.format} should be a whole number of at least 1")
    try:
        check(baseline)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return baseline


def save_baseline(baseline: Baseline, path: str | Path) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        UsageError: when it cannot be written, or is none that could be read again.
    """
    check(baseline)
    data = {"format": FORMAT, "findings": msgspec.to_builtins(baseline.taking(())).get("findings", ())}
    text = msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"
    # A link is followed, not replaced.
    place = Path(path).resolve()
    partial = place.with_name(place.name + ".partial")
    try:
        partial.write_bytes(text)
        partial.replace(place)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def check(baseline: Baseline) -> None:
    """Refuse entries that say something else than they should.

    Raises:
        UsageError: naming the entry, the value and what it should be.
    """
    seen: set[str] = set()
    for index, known in enumerate(baseline.findings):
        wrong = _wrong(known) or ("is there twice" if known.signature in seen else "")
        if wrong:
            raise UsageError(f"findings[{index}] {known.signature!r}: {wrong}")
        seen.add(known.signature)


def _wrong(known: Known) -> str:
    if not known.signature.strip():
        return "the signature is empty"
    if set(known.signature) & set("*?"):
        return "a signature has no wildcards; an entry is one finding"
    if known.link and not is_link(known.link):
        return f"link {known.link!r} should be an http or https address"
    for text in known.versions:
        try:
            parse_range(text)
        except UsageError as error:
            return f"versions: {error}"
    if known.accepted_on and not _is_date(known.accepted_on):
        return f"accepted_on {known.accepted_on!r} should be a date, as 2026-01-31 is"
    return ""


def is_link(text: str) -> bool:
    """Whether this is an address of the web, the only kind that is written into a report as a link."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    clean = text.isprintable() and not set(text) & set(' <>"`\\')
    return clean and parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_date(text: str) -> bool:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _newer(path: str | Path) -> str:
    """What a baseline of a newer format, whose fields are not known here, is refused with."""

    class _Format(msgspec.Struct):
        format: int = FORMAT

    try:
        told = msgspec.json.decode(Path(path).read_bytes(), type=_Format)
    except (OSError, msgspec.DecodeError, RecursionError):
        return ""
    return _too_new(told.format) if told.format > FORMAT else ""


def _too_new(number: int) -> str:
    return f"format {number} is from a newer release; this one reads up to {FORMAT}"
