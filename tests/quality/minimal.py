"""Minimizing planted faults from several starts: where each of them ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faults import Fault
from hunt import Planted, drawn, own, plan_of

from conformance.case import Case
from conformance.minimize import Shrinking, confirmed
from conformance.plan import Plan
from conformance.verdict import Observation


def _has(option: str) -> Callable[[Case], bool]:
    return lambda case: option in case.optimizer.config


def _calls(*layers: str) -> Callable[[Case], bool]:
    return lambda case: any(node.layer in layers for node in case.model.nodes)


def _is_penalized(case: Case) -> bool:
    options = {name for node in case.model.nodes for name, value in node.config.items() if value is not None}
    return any(name.endswith("_regularizer") for name in options)


def _ends_partial(case: Case) -> bool:
    return case.data.feed == "arrays" and case.data.rows > case.data.batch_size > case.last_batch


SHOWS: dict[str, Callable[[Case], bool]] = {
    "regularization_omitted": _is_penalized,
    "sample_weight_ignored": lambda case: case.data.sample_weight is not None,
    "training_flag_false": _calls("Dropout", "SpatialDropout1D", "GaussianNoise", "BatchNormalization"),
    "gradient_slightly_off": lambda case: True,
    "partial_batch_dropped": _ends_partial,
    "data_order_differs": lambda case: case.data.feed == "arrays" and case.data.pattern != "ones",
    "loss_summed": lambda case: True,
    "loss_weights_ignored": lambda case: any(loss.weight is not None for loss in case.losses),
    "accumulation_not_averaged": _has("gradient_accumulation_steps"),
    "batchnorm_statistics_not_updated": _calls("BatchNormalization"),
}
"""Ten faults, and whether a drawn case is likely to show each, so that few are judged in vain."""


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
