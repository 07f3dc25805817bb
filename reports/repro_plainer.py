"""Which two trainings show a divergence to somebody who has never heard of the other arms.

A finding is told of the two arms between which it was first seen, and these need not be the ones that show it with the
least to read: that fit is wrong on replicas alone is seen against a custom loop there, and shown by the same fit on one
device, without a loop. Such arms stand in where the verdict says that they differ for the same reason: it names the
wrong arm, the other one ran, and nothing else comes between them before.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from conformance.arm import Arm, Placement
from conformance.reports.repro_plan import Plan
from conformance.stage import Stage
from conformance.verdict import Divergence, Verdict

_BITS = 1e-7
"""What is allowed where the same bits were due and the arms that stand in are of two modes: a float32's rounding."""


def plainer(made: Plan, verdict: Verdict) -> Plan:
    """The plan with the plainest arms that show the same; as it is where there are none."""
    arms = _on_one_device(made, verdict) or _batch_by_batch(made, verdict)
    if arms is None:
        return made
    seen, wanted = arms
    raised = {str(seen): raised for raised in made.raised.values()}
    return replace(made, seen=seen, wanted=wanted, raised=raised, divergence=_between(made.divergence, made, seen))


def _between(found: Divergence, made: Plan, seen: Arm) -> Divergence:
    """The divergence as that of the arms that stand in, which are never due the same bits."""
    return msgspec.structs.replace(found, allowed=found.allowed or _BITS, expected=None)


def _on_one_device(made: Plan, verdict: Verdict) -> tuple[Arm, Arm] | None:
    """Fit on replicas and fit on one device, for what it does only on replicas."""
    found = made.divergence
    seen = made.seen
    fit, base = Arm("fit", seen.placement, seen.execution), Arm("fit", Placement(), seen.execution)
    if not seen.placement.mirrored or made.wanted == base or not _ran(verdict, base):
        return None
    if found.axis == "both" and (seen != fit or verdict.wrong_arm != str(seen)):
        return None
    if found.axis == "distribution" and made.wanted is not None and seen != fit:
        # A pair is told of the loop's arms because fit's differ in something of their own on top.
        return None
    if found.axis not in ("both", "distribution") or not (_ran(verdict, fit) or made.raised):
        return None
    return None if _earlier(made, verdict) else (fit, base)


def _batch_by_batch(made: Plan, verdict: Verdict) -> tuple[Arm, Arm] | None:
    """Fit and `train_on_batch`, for what fit alone does on one device with its batches."""
    found = made.divergence
    loop = Arm("loop", made.seen.placement, made.seen.execution)
    alone = found.axis == "trainer" and made.seen.trainer == "fit" and made.wanted == loop
    if not alone or made.seen.placement.mirrored or made.raised or found.stage is not Stage.BATCH:
        return None
    return made.seen, Arm("train_on_batch", made.seen.placement, made.seen.execution)


def _ran(verdict: Verdict, arm: Arm) -> bool:
    return any(report.arm == str(arm) and report.status == "ran" for report in verdict.arms)


def _earlier(made: Plan, verdict: Verdict) -> bool:
    """Whether arms may differ for another reason too, at the same stage or before: then these show that instead."""
    stage = made.divergence.stage
    others = [item.divergence.stage for item in verdict.observations[1:]]
    return not made.raised and any(other.order <= stage.order for other in others)
