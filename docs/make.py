"""Writes the pages of this folder that are made from the code: `python docs/make.py`."""
# ruff: noqa: INP001 - a script beside the pages, not a package

from __future__ import annotations

from pathlib import Path

from conformance.referee.semantics import causes_page, semantics_page

DOCS = Path(__file__).resolve().parent

if __name__ == "__main__":
    for name, page in {"semantics.md": semantics_page(), "causes.md": causes_page()}.items():
        (DOCS / name).write_text(page, encoding="utf-8")
