"""What a repro script says of itself: who differs from what, what was expected, what was seen, why."""

from __future__ import annotations

import math

from conformance.arm import Arm
from conformance.reports.referee import clause_of
from conformance.reports.repro_allowance import allowed
from conformance.reports.repro_plan import Plan
from conformance.reports.words import TEXTBOOK, named, trainer, where
from conformance.stage import Stage
from conformance.verdict import Cause, Verdict

_TITLE = 97
"""So many characters has a line of a docstring behind its quotes."""

_EXITS = "Exits with 1 while that is so, with 0 once it is not, with 2 after any other error."


def told(show: Plan, verdict: Verdict) -> list[str]:
    """The paragraphs of a script's docstring."""
    cause = verdict.observations[0].cause
    why = [] if show.raises or cause.name == "unexplained" else [f"Why: {cause.explanation}"]
    if show.raises:
        said = _raises(show)
    elif show.wanted is None:
        said = _alone(show, cause)
    else:
        said = _pair(show)
    return [*said, *why, _EXITS]


def _raises(show: Plan) -> list[str]:
    ((arm, raised), *_) = show.raised.items()
    if show.raises_everywhere:
        return [
            f"Keras: {raised.kind} in {raised.named or 'the training'}.",
            "Expected: it trains.",
            f"Actual: {raised}",
        ]
    who, *others = sorted(show.arms, key=lambda item: str(item) != arm)
    other = named(others[0]) if others else TEXTBOOK
    return [
        f"Keras: {named(who)} raises {raised.kind}.",
        f"Expected: it trains, as {other} does.",
        f"Actual: {raised.kind}: {raised.message}",
    ]


def _pair(show: Plan) -> list[str]:
    found = show.divergence
    due = "the same bits" if found.allowed == 0 else f"equal within {found.allowed:.2g}"
    due = "the same rows" if found.stage is Stage.BATCH else due
    return [
        title(*show.arms),
        f"Expected: {_what(show)}: {due}.",
        f"Actual: {_amount(show, 'the other')}.",
    ]


def title(seen: Arm, wanted: Arm) -> str:
    """Who differs from whom, in a line: what both have in common is said once."""
    if seen.trainer == wanted.trainer or seen.placement != wanted.placement or seen.execution != wanted.execution:
        full = f"Keras: {named(seen)} differs from {named(wanted)}."
        if len(full) <= _TITLE or seen.trainer != wanted.trainer:
            return full
        return f"Keras: {trainer(seen)} {where(seen)} is not as {where(wanted)}."
    return f"Keras: {trainer(seen)} and {trainer(wanted)} differ {where(seen)}."


def _alone(show: Plan, cause: Cause) -> list[str]:
    clause = clause_of(cause.name, show.whole)
    by = f", by definition: {clause.sentence}" if clause else ", computed from the definition."
    return [
        f"Keras: {named(show.seen)} differs from {TEXTBOOK}.",
        f"Expected: {_what(show)}: within {allowed(show):.2g} of the numbers below{by}",
        *([f"Source: {clause.source}."] if clause else []),
        f"Actual: {_amount(show, 'what is expected')}.",
    ]


def _what(show: Plan) -> str:
    found = show.divergence
    when = f" of step {found.step}" if found.step is not None else ""
    when = f" of epoch {found.epoch}" if found.epoch is not None else when
    stage = found.stage.value.replace("_", " ")
    return f"{stage}{when}" if found.variable == stage else f"{stage}{when}, {found.variable}"


def _amount(show: Plan, other: str) -> str:
    found = show.divergence
    lost = "other rows" if found.stage is Stage.BATCH else "not comparable"
    amount = f"off by {found.magnitude:.4g}" if math.isfinite(found.magnitude) else lost
    return amount + (f", {found.ratio:.6g} times {other}" if found.ratio is not None else "")
