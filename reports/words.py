"""Arms, axes, stages and amounts in words, for readers who have never seen their spelling."""

from __future__ import annotations

import math

from conformance.arm import Arm, parse_arm
from conformance.errors import UsageError
from conformance.stage import Stage
from conformance.verdict import EVERY_ARM

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


AXES = {
    "trainer": "The two trainers differ although all else is the same: the difference follows the trainer.",
    "distribution": "It is so on several replicas and not on one device, whichever trainer runs: the difference follows"
    " the distribution.",
    "both": "The trainers agree on one device and not on several replicas: the difference takes one trainer and the"
    " distribution together.",
    "execution": "One trainer does not agree with itself when its step is run in another way (as a graph, eagerly,"
    " compiled by XLA): the difference follows the execution.",
    EVERY_ARM: "It is so in every arm that was run: it follows neither the trainer, nor the distribution, nor the"
    " execution.",
    REFEREE: "Every trainer that was judged there does the same, so holding them against one another shows nothing.",
}
"""By axis, what a difference follows."""

STAGES = {
    Stage.BATCH: "the rows that a step trains on",
    Stage.OUTPUTS: "what the model makes of them",
    Stage.LOSS: "the loss of the step, regularization included",
    Stage.LOCAL_GRADIENT: "the gradients of each replica",
    Stage.GRADIENT: "the gradients as the optimizer gets them, added over the replicas",
    Stage.UPDATE: "the optimizer's own variables after the step: momenta, iterations",
    Stage.WEIGHTS: "the trainable weights after the step",
    Stage.STATE: "everything else a model keeps: moving statistics, random states",
    Stage.LOGS: "what is reported: the loss and metrics of a step or an epoch",
}
"""By stage, what it holds."""


QUANTITIES = {
    Stage.BATCH: "the {} of a batch",
    Stage.OUTPUTS: "the output {}",
    Stage.LOSS: "the {} of a step",
    Stage.LOCAL_GRADIENT: "a replica's gradient of {}",
    Stage.GRADIENT: "the gradient of {}",
    Stage.UPDATE: "the optimizer's {}",
    Stage.WEIGHTS: "the weight {}",
    Stage.STATE: "the state {}",
    Stage.LOGS: "the reported {}",
}
"""By stage, how one of its quantities is called."""


def amount(value: float) -> str:
    """An amount as people read it, `not comparable` where there is none."""
    return f"{value:.4g}" if math.isfinite(value) else "not comparable"


def times(ratio: float) -> str:
    """Seen / allowed as people read it."""
    if not math.isfinite(ratio):
        return "infinite"
    if ratio >= 1_000_000:
        return f"{ratio:.2g}"
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def counted(count: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def when(step: int | None, epoch: int | None) -> str:
    """At which moment of a training, both counted from 0."""
    if step is not None:
        return f"step {step}"
    return f"epoch {epoch}" if epoch is not None else "after training"
