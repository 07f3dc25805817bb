"""What an arm reported, held against chapter 9.

Reports follow from what was recorded of each step: its losses, outputs and rows. A report that departs is replayed
with the ways in which people, and Keras, put reports together otherwise.
"""

from __future__ import annotations

import numpy as np

from conformance.referee.departure import Departure, Named
from conformance.referee.evaluate import ALL_RULES, Evaluator
from conformance.referee.report_replays import replays
from conformance.referee.report_values import Reports
from conformance.referee.scene import Rules
from conformance.stage import Stage


def judge_reports(evaluator: Evaluator, rules: Rules = ALL_RULES) -> tuple[list[Departure], dict[str, int]]:
    """The departures of what was reported, one a name, and how many reports of each name were compared."""
    reports = Reports(evaluator, rules)
    if not reports.reports or not reports.reading.steps:
        return [], {}
    found, compared = [], dict[str, int]()
    of_clauses = Reports(evaluator, {**ALL_RULES, "called": rules["called"]}, computed=True)
    for name, wanted in reports.wanted.items():
        count = sum(report.name == name for report in reports.judged())
        compared |= {name: count} if count else {}
        off = reports.off(name, wanted) if count else []
        # A report may be right where the loss that was trained on is not.
        if not off or (name in of_clauses.wanted and not of_clauses.off(name, of_clauses.wanted[name])):
            continue
        causes: tuple[Named, ...] = ()
        for cause, told, replay in replays(reports, name):
            if not reports.off(name, replay):
                feature = "output_loss" if name.endswith("_loss") and name != "val_loss" else ""
                causes = (Named(cause, True, (f"{told}: gives {count} of {count} reports of {name}",), feature),)
                break
        first = off[0]
        seen, due = np.array(first.report.seen), np.array(first.wanted)
        allowed = reports.allowed(first.report, first.wanted)
        step = reports.reading.steps[first.report.step]
        found.append(Departure(Stage.LOGS, step, name, seen, due, float(abs(seen - due)), allowed, causes))
    return found, compared
