"""Pages as HTML, one file each that needs nothing else: no network, no font, no script but the few lines in it.

The page forbids itself everything, with a policy that names its own script by its hash: were a stranger's text ever to
get past the escaping, a browser would still not run it. Escaping is jinja2's, of every expression; before it, every
expression goes through `conformance.reports.text`, which drops what escapes a terminal, hides or turns text around.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from conformance.reports.chart import MEANINGS
from conformance.reports.page import CampaignPage, FindingPage
from conformance.reports.text import lines, pieces, shortened

_ADDRESS = re.compile(r"https://[^\s,;]+")
_LONGEST_TITLE = 300


def finding_html(page: FindingPage) -> str:
    """The page of a finding as one HTML file."""
    return _rendered("finding", page)


def campaign_html(page: CampaignPage) -> str:
    """The page of a run as one HTML file, `index.html` of its report."""
    return _rendered("campaign", page)


def _rendered(kind: str, page: object) -> str:
    template = _environment().get_template(f"{kind}.html.j2")
    return template.render(page=page, kind=kind, meanings=MEANINGS, policy=_policy()) + "\n"


def prose(text: object) -> Markup:
    """A sentence in which pieces in backticks are code."""
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if is_code else escape(piece) for is_code, piece in pieces(text)
    )


def source(text: str) -> Markup:
    """A clause's source, its address as a link."""
    parts, start = [], 0
    for found in _ADDRESS.finditer(text):
        parts += [
            escape(text[start : found.start()]),
            Markup('<a rel="noreferrer" href="{0}">{0}</a>').format(found[0]),
        ]
        start = found.end()
    return Markup().join([*parts, escape(text[start:])])


def _harmless(value: Any) -> Any:
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("conformance.reports", "templates"),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "prose": prose,
        "source": source,
        "short": lambda text: shortened(text, _LONGEST_TITLE),
    }
    return environment


def _policy() -> str:
    """What a page may do: show its own styles and run its own script."""
    loader = _environment().loader
    assert loader is not None
    script = loader.get_source(_environment(), "page.js.j2")[0]
    digest = base64.b64encode(hashlib.sha256(script.rstrip("\n").encode()).digest()).decode()
    own = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
