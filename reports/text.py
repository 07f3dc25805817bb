"""Text of strangers, made harmless for whoever shows it.

A message of an exception may hold anything: escape sequences that recolour or retitle a terminal, Markdown, HTML, the
end of a docstring. Each reader has one function here, and no writer interpolates such text without it.
"""

from __future__ import annotations

import re
import textwrap

# CSI and OSC sequences whole, so that no `[31m` is left of them; then the two-character ones.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?", re.DOTALL)
_MARKDOWN = re.compile(r"[\\`*_{}\[\]|~!$]")
_HARMLESS = str.maketrans({"\\": "/", '"': "'"})
_MOST = 3
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "#": "&#35;"}


def plain(text: object) -> str:
    """One line without escape sequences, control characters or characters that turn the direction of writing."""
    return " ".join(lines(text).split())


def lines(text: object) -> str:
    """The same with its line ends and indentation kept."""
    kept = _ESCAPES.sub("", str(text)).replace("\r\n", "\n").replace("\t", "    ")
    return "".join(char if char == "\n" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in kept)


def markdown(text: object) -> str:
    """One line of Markdown that shows `text` and does nothing: no markup, HTML, mentions or table cells."""
    escaped = "".join(_ENTITIES.get(char, char) for char in plain(text))
    # A double slash is split so that no address becomes a link that the project did not write.
    return _MARKDOWN.sub(r"\\\g<0>", escaped).replace("://", ":&#47;&#47;")


def code(text: object) -> str:
    """`text` as inline code, safe in a table cell too."""
    return "`" + plain(text).replace("`", "'").replace("|", "\N{BROKEN BAR}") + "`"


def fence(text: object, language: str = "") -> str:
    """`text` as a fenced block whose fence is longer than any within."""
    body = lines(text).rstrip("\n")
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{body}\n{marks}"


def docstring(paragraphs: list[str], width: int) -> list[str]:
    """The lines of a docstring with these paragraphs, opening and closing quotes included.

    The first is its title and has one line, the others have three at the most; what is longer is cut and ends in dots.
    """
    title, *others = [plain(text).translate(_HARMLESS) for text in paragraphs] or ["A training."]
    (head,) = _wrapped(title, width - 3, 1) or ["A training."]
    rest = [line for text in others for line in _wrapped(text, width, _MOST)]
    return [f'"""{head}', "", *rest, '"""'] if rest else [f'"""{head}"""']


def _wrapped(text: str, width: int, most: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, max_lines=most, placeholder=" ...")
