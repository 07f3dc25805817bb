"""A finding as the issue one would file, written from its page.

What a case or an exception says is escaped by `conformance.reports.text`: a message cannot break a table, open a tag,
mention a person or close a fence.
"""

from __future__ import annotations

from conformance.finding import Finding
from conformance.reports.chart import Heat, Square
from conformance.reports.finding_page import finding_page
from conformance.reports.markdown_table import listed, table
from conformance.reports.page import Cell, FindingPage, Table
from conformance.reports.summary import summary
from conformance.reports.text import code, fence, markdown, prose


def report(finding: Finding, script: str) -> str:
    """A finding as Markdown.

    Args:
        finding: the finding.
        script: its repro script; empty where none can be written.

    Returns:
        Markdown, ending in a newline.
    """
    return written(finding_page(finding, script))


def written(page: FindingPage) -> str:
    """The page of a finding as Markdown, ending in a newline."""
    blocks = [
        f"# {prose(page.title)}",
        f"**{prose(page.verdict)}**",
        "## What happened",
        *map(prose, page.happened),
        table(page.numbers),
        *_traceback(page),
        "## Expected",
        *map(prose, page.expected),
        *_definition(page),
        *_script(page),
        "## Since which version",
        prose(page.recorded.since),
        *_cause(page),
        *_source(page),
        *_charts(page.heats, page.alone),
        "## Arms",
        table(page.arms),
        *_rounding(page),
        *_cases(page),
        "## Environment",
        table(page.environment),
        f"<details><summary>Words</summary>\n\n{table(page.words)}\n\n</details>",
        f"Signature: {code(page.signature)}",
    ]
    return "\n\n".join(blocks) + "\n"


def _traceback(page: FindingPage) -> list[str]:
    if not page.traceback:
        return []
    return [f"<details><summary>Traceback</summary>\n\n{fence(page.traceback, 'text')}\n\n</details>"]


def _definition(page: FindingPage) -> list[str]:
    if page.definition is None:
        return []
    from conformance.referee.semantics import escaped

    where = f"clause {page.definition.number} of {code('docs/semantics.md')}"
    told = f"By definition ({where}): {escaped(page.definition.sentence)}"
    return [told, f"Source: {'; '.join(source for source, _ in page.definition.sources)}"]


def _script(page: FindingPage) -> list[str]:
    made = page.script
    if not made.source:
        return ["## Script", prose(made.said)]
    status = f"**{markdown(made.status)}**: {prose(made.said)}"
    return ["## Script", fence(made.source, "python"), status, *([fence(made.output, "text")] if made.output else [])]


def _cause(page: FindingPage) -> list[str]:
    reason = page.reason
    told = [f"## Cause: {code(reason.name)}", prose(reason.explanation), prose(reason.certainty)]
    cures = [f"For the case in the corpus: {prose(page.recorded.cure)}"] if page.recorded.cure else []
    return [*(line for line in told if line), *_list(reason.evidence), f"**Cure:** {prose(reason.advice)}", *cures]


def _source(page: FindingPage) -> list[str]:
    if not page.recorded.notes:
        return ["## Where in the source of Keras", "Nothing is recorded."]
    named = ", ".join(code(name) for name in page.recorded.where) or "No function is named."
    return ["## Where in the source of Keras", named, *map(prose, page.recorded.notes)]


def _charts(heats: tuple[Heat, ...], alone: str) -> list[str]:
    """The maps as tables: how many times what is allowed was seen. The first is the finding's own."""
    if not heats:
        return []
    first, *others = [_chart(made) for made in heats]
    about = (
        "Seen / allowed, by stage (in the order of a step) and by step. 0 is no difference, up to 1 is within what"
        " rounding explains, more is marked with an exclamation mark, and a \N{NOT EQUAL TO} is a difference where the"
        " same bits are due."
    )
    rest = "\n\n".join(others)
    more = [f"<details><summary>The other comparisons</summary>\n\n{rest}\n\n</details>"] if others else []
    return ["## Seen against allowed", markdown(about), *([prose(alone)] if alone else []), first, *more]


def _chart(made: Heat) -> str:
    rows = tuple((Cell(stage), *map(_square, row)) for stage, row in made.rows)
    numbers = frozenset(range(1, len(made.steps) + 1))
    blocks = [f"### {prose(made.title)}", prose(made.says), table(Table(("stage", *made.steps), rows, numbers))]
    if made.left_out:
        blocks.append(f"Of {made.left_out} more steps, none of them further off, nothing is shown.")
    return "\n\n".join(blocks)


def _square(square: Square) -> Cell:
    return Cell(f"!{square.text}" if square.level in ("beyond", "far") else square.text)


def _rounding(page: FindingPage) -> list[str]:
    """The differences that are no divergences."""
    if not page.rounding:
        return []
    why = (
        f"These differences are no divergences ({code('rounding_amplified')}): both arms took every step as the referee"
        " does, and rounding alone has grown between them."
    )
    return ["## Rounding", why, *_list(page.rounding)]


def _cases(page: FindingPage) -> list[str]:
    told = [f"<details><summary>{name}</summary>\n\n{fence(text, 'json')}\n\n</details>" for name, text in page.cases]
    return ["## Case", *told, *([prose(page.tried)] if page.tried else [])]


def _list(sentences: tuple[str, ...]) -> list[str]:
    return [listed(sentences)] if sentences else []


__all__ = ["report", "summary", "written"]
