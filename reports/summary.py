"""A run's own page as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.events import Event
from conformance.reports.campaign_page import campaign_page
from conformance.reports.markdown_table import listed, table
from conformance.reports.page import CampaignPage, Table
from conformance.reports.text import code, markdown, prose


def summary(events: Iterable[Event]) -> str:
    """A run as Markdown, from its events alone.

    Args:
        events: the run's events, in order; a run that was cut off may lack its last ones.

    Returns:
        Markdown, ending in a newline.
    """
    return written(campaign_page(events))


def written(page: CampaignPage) -> str:
    """The page of a run as Markdown, ending in a newline."""
    blocks = [
        "# Conformance run",
        f"**{prose(page.verdict)}**",
        *_part("What ran", page.ran),
        *_part("Outcomes", page.outcomes),
        *(_part("Findings", page.findings) or ["## Findings", "None."]),
        *_causes(page),
        *_part("Known", page.baseline),
        *_list("Workers that were lost", page.deaths),
        *_list("Problems", page.problems),
        *_part("Not judged", page.reasons),
        *_part("Seconds by arm", page.timing),
        *_margins(page),
        *_coverage(page),
        *_part("Environment", page.environment),
    ]
    return "\n\n".join(blocks) + "\n"


def _part(title: str, made: Table) -> list[str]:
    if not made.rows:
        return []
    return [f"## {title}", table(made), *([prose(made.about)] if made.about else [])]


def _list(title: str, sentences: tuple[str, ...]) -> list[str]:
    return [f"## {title}", listed(sentences)] if sentences else []


def _causes(page: CampaignPage) -> list[str]:
    if not page.causes:
        return []
    told = [
        "\n".join([f"- {code(name)}: {prose(sentence)}", *(f"  - {prose(line)}" for line in lines)])
        for name, sentence, lines in page.causes
    ]
    return ["## Causes", "\n".join(told), *([markdown(page.about)] if page.about else [])]


def _margins(page: CampaignPage) -> list[str]:
    told = _part("Seen against allowed", page.margins)
    return [*told, *([prose(page.exact)] if told and page.exact else [])]


def _coverage(page: CampaignPage) -> list[str]:
    told = []
    for title, made in page.coverage:
        if made.rows:
            told += [f"### {title}", table(made), *([prose(made.about)] if made.about else [])]
    if not told:
        return []
    body = "\n\n".join(told)
    return [
        "## What was drawn",
        f"<details><summary>Layers, losses, optimizers and more</summary>\n\n{body}\n\n</details>",
    ]
