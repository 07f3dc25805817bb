"""From a difference to its cause: the deviation that reproduces it, or `unexplained` with what is known."""

from __future__ import annotations

from conformance.causes import CAUSES, CauseEntry
from conformance.compare import Difference
from conformance.deviations import DEVIATIONS, Context
from conformance.stage import Stage
from conformance.trace import FINAL
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
        # An exception is not of the stage where its kind enters first, but of the one that it ended.
        stage = context.difference.stage if deviation.name == "raises_in_one_arm" else entry.stage
        cause = _cause(entry, (*told, *replay.evidence), exact=replay.exact)
        return cause, signature(context.axis, stage, deviation.name, replay.feature)
    entry = CAUSES["unexplained"]
    cause = _cause(entry, evidence(context.difference), exact=False)
    return cause, signature(context.axis, context.difference.stage, entry.name, "")


def _cause(entry: CauseEntry, evidence: tuple[str, ...], *, exact: bool) -> Cause:
    return Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, exact=exact, evidence=evidence)


def signature(axis: str, stage: Stage, cause: str, feature: str) -> str:
    """A signature, as in `distribution/gradient/clip_order/clipnorm`."""
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
