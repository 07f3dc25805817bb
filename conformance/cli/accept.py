"""`conformance accept`: take findings for known."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import click

from conformance.baseline import CORPUS, Baseline, Known, load_baseline, save_baseline
from conformance.cli import options
from conformance.cli.codes import OK
from conformance.errors import UsageError
from conformance.versions import parse_ranges


@click.command()
@click.argument("folders", nargs=-1, required=True, callback=options.named, metavar="FINDING_DIR ... | REPORT_DIR")
@click.option(
    "--baseline", required=True, callback=options.named, metavar="FILE", help="The baseline; made where there is none."
)
@click.option("--sentence", help="What happens, or why it is no news. [default: what its cause says]")
@click.option("--link", metavar="URL", help="Where it is told or discussed.")
@click.option("--by", metavar="NAME", help="Who accepts it. [default: the user's name in git, or of the system]")
@click.option(
    "--versions",
    metavar="RANGES",
    help="Which versions it concerns, as in 'keras>=3.5,<3.16; tensorflow==2.21.0'. [default: those it was found on and"
    " later ones]",
)
@click.option("--replace", is_flag=True, help="Replace an entry that says something else.")
@click.option("--even-if-not-reproduced", is_flag=True, help="Accept findings whose script does not show them, too.")
@options.imports
def accept(
    folders: tuple[str, ...],
    baseline: str,
    sentence: str | None,
    link: str | None,
    by: str | None,
    versions: str | None,
    replace: bool,
    even_if_not_reproduced: bool,
    imports: tuple[str, ...],
) -> int:
    """Put findings into a baseline: a folder of one, or a report with all of its findings."""
    from conformance.accept import Asked, accepted, refuse_not_reproduced
    from conformance.finding_folders import findings_below
    from conformance.imports import import_modules
    from conformance.reports.text import plain

    if baseline == CORPUS:
        raise UsageError(f"--baseline {CORPUS} is that of the package; name a file of your own (or ./{CORPUS})")
    ranges = None if versions is None else parse_ranges(versions)
    asked = Asked(sentence=sentence, link=link, by=by, versions=ranges, replace=replace)
    import_modules(imports)
    findings = findings_below(map(Path, folders))
    if not even_if_not_reproduced:
        refuse_not_reproduced(findings)
    # A link that leads nowhere is a file to be made, too.
    known = load_baseline(baseline) if Path(baseline).exists() else Baseline()
    me, today = by or _me(), datetime.now().astimezone().date()
    entries: dict[str, Known] = {}
    there: list[str] = []
    for _, finding in findings:
        if finding.signature in entries:
            continue
        entry = accepted(finding, known, asked, by=me, today=today)
        if entry is None:
            there.append(finding.signature)
        else:
            entries[finding.signature] = entry
    if entries:
        save_baseline(known.taking(entries.values()), baseline)
    for entry in entries.values():
        click.echo(f"accepted {plain(entry.signature)}: {plain(entry.sentence)}")
    for signature in dict.fromkeys(there):
        click.echo(f"there already: {plain(signature)}")
    return OK


def _me() -> str:
    """The user's name: as git has it, else as the system has it, else nothing."""
    git = shutil.which("git")
    if git is not None:
        asked = [git, "config", "user.name"]
        done = subprocess.run(asked, capture_output=True, check=False)  # noqa: S603 - a question of ours
        name = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0 and name:
            return name
    return os.environ.get("USER", "")
