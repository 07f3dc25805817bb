"""Which script a verdict gets: the arms of its first divergence, or why there is none."""

from __future__ import annotations

import math

from conformance.arm import parse_arm
from conformance.errors import UnsupportedError
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.reports.referee import against_referee
from conformance.reports.repro_plan import Plan
from conformance.stage import Stage
from conformance.verdict import EVERY_ARM, Verdict


def plan(verdict: Verdict, *, alone: bool = True) -> Plan:
    """The plan for a verdict's first divergence.

    Args:
        verdict: the verdict.
        alone: whether an arm that is held against the referee has to be shown alone.

    Raises:
        UnsupportedError: when there is nothing to reproduce, parts of the user's own that no script can spell, a
            precision other than float32, or a quantity that cannot be held against numbers.
    """
    if verdict.case is None or verdict.divergence is None:
        missing = "divergence" if verdict.case else "case"
        raise UnsupportedError(
            f"a verdict without a {missing} has no repro script; only drawn or loaded cases have one"
        )
    if verdict.case.precision != "float32":
        raise UnsupportedError(f"precision={verdict.case.precision}: repro scripts are written for float32 alone")
    own = [loss.name for loss in verdict.case.losses if LOSSES[loss.name].make]
    own += [verdict.case.optimizer.name] if OPTIMIZERS[verdict.case.optimizer.name].make else []
    if own:
        raise UnsupportedError(f"{', '.join(own)}: a loss or optimizer of one's own is not copied into a repro script")
    found = verdict.divergence
    referee = against_referee(found)
    # Of what every arm raises one arm is enough.
    arms = found.arms[:1] * 2 if found.axis == EVERY_ARM else found.arms
    seen, wanted = parse_arm(arms[0]), None if referee else parse_arm(arms[1])
    if any(arm is not None and arm.trainer == "trial" for arm in (seen, wanted)):
        raise UnsupportedError(f"{seen} against {found.arms[1]}: a loop of one's own is not copied into a repro script")
    raised = {report.arm: report.raised for report in verdict.arms if report.raised is not None and report.arm in arms}
    reported = all(item.divergence.stage is not Stage.LOGS for item in verdict.observations[1:])
    made = Plan(verdict.case, found, seen, wanted, raised, reported)
    if referee and alone:
        _check_alone(made)
    return made


def _check_alone(made: Plan) -> None:
    """Refuse what no script can hold against numbers."""
    found = made.divergence
    where = f"{found.stage.value} {found.variable}"
    if made.expected is None:
        raise UnsupportedError(f"{where}: no script spells out what it should have been: it is too large, or no number")
    together = made.case.schedule.steps_per_execution if made.seen.trainer == "fit" else 1
    if together > 1 and made.between is not None and made.between >= 0:
        raise UnsupportedError(f"{where} of step {found.step}: nothing can be read between the steps of one execution")
    if found.stage is Stage.LOGS and made.log is None:
        raise UnsupportedError(f"{where}: train_on_batch reports a batch at a time, which no script compares")
    if found.stage is Stage.GRADIENT and found.step and not math.isfinite(found.magnitude):
        raise UnsupportedError(f"{where}: whether step {found.step} updates is not shown by what an earlier one left")
    if made.ragged and made.xla:
        raise UnsupportedError(f"{where}: XLA keeps nothing whose size is not the same in every step")
