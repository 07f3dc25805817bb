"""From a difference to its cause: the deviation that reproduces it, or `unexplained` with what is known."""

from __future__ import annotations

from conformance.causes import CAUSES, CauseEntry
from conformance.compare import Difference
from conformance.deviations import DEVIATIONS, Context
from conformance.stage import FINAL, Stage
from conformance.verdict import Cause


def diagnose(context: Context) -> tuple[Cause, str]:
    """The cause of a difference, and its signature.

    The signature says what makes two findings the same one: the axis, the stage where the fault enters, the cause and
    the feature involved. It holds no numbers, names or seeds.
    """
    for deviation in DEVIATIONS:
        replay = deviation.replay(context)
        if replay is None:
            continue
        entry = CAUSES[deviation.name]
        told = (deviation.told,) if deviation.told else ()
        cause = _cause(entry, (*told, *replay.evidence), exact=replay.exact)
        return cause, signature(context.axis, context.difference.stage, deviation.name, replay.feature)
    entry = CAUSES["unexplained"]
    cause = _cause(entry, evidence(context.difference), exact=False)
    return cause, signature(context.axis, context.difference.stage, entry.name, "")


def rounded_otherwise(axis: str, found: Difference) -> tuple[Cause, str]:
    """The cause and signature of a difference of some units in the last place, of two arms that are both right."""
    entry = CAUSES["numeric_precision"]
    told = f"{found.ulps} units in the last place apart, and both take every step as the referee does"
    return _cause(entry, (told,), exact=False), signature(axis, found.stage, entry.name, "")


def _cause(entry: CauseEntry, evidence: tuple[str, ...], *, exact: bool) -> Cause:
    return Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, exact=exact, evidence=evidence)


ANYWHERE = frozenset(
    {"raises_in_one_arm", "raises_in_every_arm", "numeric_precision", "rounding_amplified", "unexplained"}
)
"""Causes that enter at any stage, so that the stage at which one was seen says which of them it is."""


def signature(axis: str, stage: Stage, cause: str, feature: str) -> str:
    """A signature, as in `distribution/gradient/clip_order/clipnorm`.

    Args:
        axis: the axis of the difference.
        stage: the stage at which it was seen. Where a fault is seen first depends on the training (slots that are
            forgotten show in the slots, or in the weights of an optimizer without any), and one fault is one finding;
            so of a cause that has a stage of its own it is that.
        cause: the cause.
        feature: the option or layer involved; may be empty.
    """
    entry = CAUSES.get(cause)
    if entry is not None and cause not in ANYWHERE:
        stage = entry.stage
    return "/".join(part for part in (axis, stage.value, cause, feature) if part)


def evidence(found: Difference) -> tuple[str, ...]:
    """What a difference itself shows, a line each."""
    if found.step == FINAL:
        when = "after training"
    elif found.step is not None:
        when = f"step {found.step}"
    else:
        when = f"epoch {found.epoch}" if found.epoch is not None else "the whole run"
    lines = [f"first wrong stage: {found.stage.value} ({found.name}), {when}"]
    if found.ratio is not None:
        lines.append(f"the quantity is {found.ratio:.6g} times the other's")
    if found.ulps is not None:
        lines.append(f"{found.ulps} units in the last place apart")
    if found.note:
        lines.append(found.note)
    return tuple(lines)
