"""Arms in words, for readers who have never seen their spelling."""

from __future__ import annotations

from conformance.arm import Arm, parse_arm
from conformance.errors import UsageError

REFEREE = "referee"
"""What stands in the place of the second arm, as `conformance.attribution` writes it, which is not cheap to import."""

TEXTBOOK = "textbook training in float64"

_EXECUTIONS = {"graph": "", "eager": ", eagerly", "xla": ", compiled by XLA"}
_TRAINERS = {"fit": "fit", "loop": "a custom loop", "train_on_batch": "train_on_batch"}


def named(arm: Arm) -> str:
    """An arm in words, as in `fit under MirroredStrategy with 2 replicas`."""
    return f"{trainer(arm)} {where(arm)}"


def trainer(arm: Arm) -> str:
    """An arm's trainer in words."""
    return _TRAINERS[arm.trainer]


def where(arm: Arm) -> str:
    """An arm's placement and execution in words, as in `on one device, eagerly`."""
    replicas = arm.placement.replicas
    placed = f"under MirroredStrategy with {replicas} replicas" if replicas > 1 else "on one device"
    return f"{placed}{_EXECUTIONS[arm.execution]}"


def in_words(arm: str) -> str:
    """`named` of an arm's spelling or of the referee; the spelling itself where no script can train such an arm."""
    if arm == REFEREE:
        return f"the referee, {TEXTBOOK}"
    try:
        return named(parse_arm(arm))
    except (UsageError, KeyError):
        return arm
