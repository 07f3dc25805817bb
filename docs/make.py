"""Writes the pages of this folder that are made from the code: `python docs/make.py`."""
# ruff: noqa: INP001 - a script beside the pages, not a package

from __future__ import annotations

from pathlib import Path

from questions import questions_page

from conformance.referee.semantics import causes_page, semantics_page

DOCS = Path(__file__).resolve().parent

if __name__ == "__main__":
    pages = {"semantics.md": semantics_page(), "causes.md": causes_page(), "questions.md": questions_page()}
    for name, page in pages.items():
        (DOCS / name).write_text(page, encoding="utf-8")
