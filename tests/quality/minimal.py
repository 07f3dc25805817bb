"""Minimizing planted faults from several starts: where each of them ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from faults import Fault
from hunt import Planted, drawn, own, plan_of

from conformance.case import Case
from conformance.judge import Plan
from conformance.minimize import Shrinking, confirmed
from conformance.verdict import Observation


@dataclass(frozen=True)
class Ending:
    """Where a minimization ended.

    Attributes:
        signature: the finding's.
        start: the case it began with.
        smallest: the minimal case, confirmed.
        attempts: how many smaller cases were tried.
        seconds: how long it took, confirmation included.
        busy: the processor's seconds of these, which do not depend on what else the machine does.
    """

    signature: str
    start: Case
    smallest: Case
    attempts: int
    seconds: float
    busy: float


def endings(fault: Fault, seconds: float, *, starts: int, most: float = float("inf")) -> list[Ending]:
    """Where the finding of a fault ends, from the first drawn cases that show it.

    Args:
        fault: the fault.
        seconds: for one minimization.
        starts: from how many cases; they show a finding of the same signature.
        most: how many smaller cases are tried from each.
    """
    plan, found = plan_of(fault), list[Ending]()
    with Planted(fault) as planted:
        for case, seen in _starts(plan, planted):
            if found and seen.signature != found[0].signature:
                continue
            began, idle = time.monotonic(), time.process_time()
            shrinking = Shrinking(case, seen, plan, seconds, most=most)
            verdict = confirmed(shrinking, shrinking.simplified(case), plan)
            assert verdict.case is not None
            spent = time.monotonic() - began, time.process_time() - idle
            found.append(Ending(seen.signature, case, verdict.case, shrinking.attempts, *spent))
            if len(found) == starts:
                break
    return found


def _starts(plan: Plan, planted: Planted) -> Iterator[tuple[Case, Observation]]:
    for case in drawn(plan.replicas):
        seen = own(case, plan, planted)
        if seen is not None:
            yield case, seen
