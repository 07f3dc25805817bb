"""What is said of a training: what diverges, what does not repeat, what rounding explains, what is worth a remark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from conformance.arm import Arm
from conformance.attribution import Told, cause_of, divergence_of
from conformance.causes import CAUSES
from conformance.diagnose import signature
from conformance.square import Found
from conformance.verdict import Cause, Divergence, Observation

OWN_OBJECTIVE = (
    "Where the model's own `train_step` means to train by another loss than the one that is given, leave `loss=` out;"
    " or keep it, where the step calls `self.compute_loss`, and give `optimizer={'optimizer': optimizer}`. A loop is"
    " then held against that `train_step`, and without a loop it is held against itself, on other devices and in other"
    " executions: `conformance.check(model=build_model, optimizer=optimizer, data=(x, y), replicas=(1, 2))`. Where it"
    " means to train as fit does, read the evidence: the first wrong stage is where to look."
)
"""What to do where nothing explains what a `train_step` of the model's own does."""

UNSCALED = (
    "fit scales its loss, for compile() puts a LossScaleOptimizer around the optimizer of a model in float16, and the"
    " loop does not, whose smallest gradients may be 0 there: give `optimizer=lambda:"
    " keras.optimizers.LossScaleOptimizer(...)`, and differentiate `optimizer.scale_loss(loss)`"
)
"""What is worth a remark where a loop is given an optimizer without a loss scale."""


@dataclass
class Said:
    """What has been said so far.

    Attributes:
        observations: the divergences, with their causes.
        flaky: of what did not show again.
        rounding: of what rounding alone explains.
        remarks: of what is no divergence, and worth knowing.
    """

    observations: list[Observation] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    rounding: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def has(self, signature: str) -> bool:
        """Whether there is an observation of that signature."""
        return any(item.signature == signature for item in self.observations)

    def ordered(self, *, of_a_loop: bool) -> list[Observation]:
        """The observations, one a signature, in the order of their stages; beside a loop each fault of an arm once."""
        unique: dict[str, Observation] = {}
        for observation in self.observations:
            unique.setdefault(observation.signature, observation)
        told = once(unique.values()) if of_a_loop else list(unique.values())
        return sorted(told, key=lambda item: item.divergence.stage.order)


def not_called(told: Divergence, trial: Arm, found: Found, line: str, *, exact: bool) -> Observation:
    """That a loop does not do what the callbacks of `fit` do."""
    entry = CAUSES["callbacks_not_called"]
    return Observation(
        divergence=told,
        cause=Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, exact=exact, evidence=(line,)),
        signature=signature(found.axis, found.difference.stage, entry.name, ""),
        wrong_arm=str(trial),
    )


def adding(observation: Observation, lines: Sequence[str]) -> Observation:
    """An observation with more evidence."""
    evidence = (*observation.cause.evidence, *lines)
    return replace(observation, cause=replace(observation.cause, evidence=evidence))


def observation_of(item: Told) -> Observation:
    """What the referee says of one arm, as an observation."""
    return Observation(
        divergence=divergence_of(item),
        cause=cause_of(item),
        signature=item.signature,
        wrong_arm=str(item.suspect),
    )


def without_consequences(ordered: Sequence[Observation]) -> list[Observation]:
    """Of what a `train_step` of the model's own may mean to do otherwise, the first stage alone."""
    meant = [item for item in ordered if item.cause.advice == OWN_OBJECTIVE]
    return [item for item in ordered if item not in meant[1:]]


def once(observations: Iterable[Observation]) -> list[Observation]:
    """Every fault of an arm once: beside a loop that is right, one of `fit` differs from two arms, on two axes.

    Where there is a choice, the difference is told from the side of the arm that is wrong.
    """
    kept: dict[tuple[str, str], Observation] = {}
    for item in observations:
        _, _, fault = item.signature.partition("/")
        key = (fault, item.wrong_arm or item.divergence.axis)
        known = kept.setdefault(key, item)
        if known.divergence.arms[0] != item.wrong_arm == item.divergence.arms[0]:
            kept[key] = item
    return list(kept.values())
