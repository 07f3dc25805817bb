"""What a test has found, on its way from the process that ran it to the one that tells it.

A worker of pytest-xdist that dies sends nothing, neither a report nor its `workeroutput`. So every process appends what
it finds to a file of its own, at once, in a directory that the controlling process made, and that one reads them all
when the session ends.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.plugin.found import Record


class Spool:
    """The records of a session.

    Args:
        folder: where they are kept, shared by all processes of a session; None where there is only this one.
        worker: this process's name in it.
    """

    def __init__(self, folder: Path | None, worker: str) -> None:
        self.folder, self.worker = folder, worker
        self._own: list[Record] = []

    def add(self, record: Record) -> None:
        """Keep a record."""
        self._own.append(record)
        if self.folder is not None:
            from dataclasses import asdict

            with (self.folder / f"{self.worker}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record)) + "\n")

    def records(self) -> list[Record]:
        """The records of all processes, sorted by test, whoever ran it; a line that was cut off is left out."""
        if self.folder is None:
            return self._own
        lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
        records = [record for line in lines if (record := _read(line)) is not None]
        return sorted(records, key=lambda record: record.test)


def _read(line: str) -> Record | None:
    try:
        data = json.loads(line)
    except ValueError:
        # The process died while it wrote.
        return None
    from conformance.plugin.found import Found, Record

    found = tuple(Found(**item) for item in data["found"])
    return Record(data.pop("test"), **{name: tuple(value) for name, value in data.items()} | {"found": found})
