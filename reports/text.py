"""Text of strangers, made harmless for whoever shows it.

A message of an exception may hold anything: escape sequences that recolour or retitle a terminal, Markdown, HTML, the
end of a docstring. Each reader has one function here, and no writer interpolates such text without it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

# CSI and OSC sequences whole, so that no `[31m` is left of them; then the two-character ones.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?", re.DOTALL)
_MARKDOWN = re.compile(r"[\\`*_{}\[\]|~!$]")
LONGEST = 2_000
"""The characters of a sentence that are shown; all of it is in the JSON beside the page."""

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


def quoted(text: object) -> str:
    """`text` as a piece of code within a sentence that `prose` shows."""
    return "`" + plain(text).replace("`", "'") + "`"


def pieces(text: object) -> Iterator[tuple[bool, str]]:
    """A sentence in pieces, each with whether it is code: what stands between two backticks is.

    Of one longer than `LONGEST` the rest is left out, and how much that is is said.
    """
    line = plain(text)
    rest = len(line) - LONGEST
    if rest > 0:
        line = f"{line[:LONGEST]} [{rest:,} more characters]"
    for number, piece in enumerate(re.split(r"`([^`]*)`", line)):
        if piece:
            yield number % 2 == 1, piece


def prose(text: object) -> str:
    """A sentence as Markdown in which pieces in backticks are code, and everything else does nothing."""
    return "".join(code(piece) if is_code else _inline(piece) for is_code, piece in pieces(text))


def _inline(piece: str) -> str:
    """`markdown` of a piece, with the blanks that separate it from its neighbours."""
    lead, trail = (" " if piece[:1] == " " else ""), (" " if piece[-1:] == " " and piece.strip() else "")
    return f"{lead}{markdown(piece)}{trail}"


def shortened(text: object, most: int) -> str:
    """One line of at most `most` characters, the last one an ellipsis where something is left out."""
    line = plain(text)
    return line if len(line) <= most else line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


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


def shown(value: object) -> str:
    """A value in one short line, whatever it is."""
    try:
        return shortened(repr(value), _SHOWN)
    except Exception:  # noqa: BLE001 - a class of a user's may say anything of itself
        return f"a {type(value).__name__}"


_SHOWN = 100
