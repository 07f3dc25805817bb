"""What a repro script has to show, decided once from the divergence: which arms, in which modes, compared how.

A script is short because it leaves out: a strategy where none is used, a parameter that both arms share, metrics where
no report is compared. Every such decision is here; the modules that write lines only ask.

Two arms are compared in everything that training leaves. An arm alone is held against numbers in the one quantity that
is known to be wrong, as it is when it first is: such a script trains no further than up to there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec

from conformance.arm import Arm
from conformance.case import Case
from conformance.layers import LAYERS
from conformance.raised import Raised
from conformance.stage import Stage
from conformance.verdict import EVERY_ARM, Divergence, Expected

BEFORE_UPDATE = Stage.UPDATE.order
"""Stages of a lower order come before the optimizer applies anything."""

PASSING = frozenset({Stage.OUTPUTS, Stage.LOSS, Stage.LOCAL_GRADIENT, Stage.GRADIENT})
"""Stages of what a step computes and does not leave behind."""

OF_REPLICAS = frozenset({Stage.OUTPUTS, Stage.LOSS, Stage.LOCAL_GRADIENT, Stage.STATE})
"""Stages at which every replica has a quantity of its own."""


@dataclass(frozen=True)
class Plan:
    """The decisions of one script.

    Attributes:
        whole: the case.
        divergence: what is to be shown.
        seen: the arm on trial.
        wanted: the arm it is held against; None where that is no arm, but what the referee expects.
        raised: by arm, what it raised.
        reported: whether a loss that is wrong may be read off what is reported: not where that is wrong by itself.
    """

    whole: Case
    divergence: Divergence
    seen: Arm
    wanted: Arm | None
    raised: dict[str, Raised]
    reported: bool = True

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that are trained, the one on trial first."""
        return (self.seen,) if self.wanted in (None, self.seen) else (self.seen, self.wanted)

    @property
    def expected(self) -> Expected | None:
        """What an arm alone is held against."""
        return None if self.wanted is not None else self.divergence.expected

    @cached_property
    def case(self) -> Case:
        """The case as it is trained: where one step's quantity is looked at, no further than that is needed."""
        whole, step = self.whole, self.divergence.step
        if self.expected is None or step is None:
            return whole
        epoch, place = divmod(step, whole.steps_per_epoch)
        # A generator is read ahead of the steps, and what is behind them may come to be trained on.
        whole_epoch = epoch > 0 or whole.data.feed == "generator"
        rows = whole.data.rows if whole_epoch else min(whole.data.rows, (place + 1) * whole.data.batch_size)
        return msgspec.structs.replace(
            whole,
            data=msgspec.structs.replace(whole.data, rows=rows),
            schedule=msgspec.structs.replace(whole.schedule, epochs=epoch + 1),
        )

    @property
    def between(self) -> int | None:
        """The step after which the quantity is read, -1 for the last one; None where it is still there at the end."""
        step = self.divergence.step
        if self.expected is None or step is None:
            return None
        if self.case.steps > step + 1:
            return step
        averaged = self.case.optimizer.config.get("use_ema", False)
        # At its end, fit writes the averages into the weights.
        return -1 if averaged and self.seen.trainer == "fit" and self.divergence.stage is Stage.WEIGHTS else None

    @property
    def tapped(self) -> Stage | None:
        """The stage of a quantity that has to be caught as it passes."""
        stage = self.divergence.stage
        return stage if self.expected is not None and stage in PASSING and self.log is None else None

    @property
    def raises(self) -> bool:
        """Whether the divergence is that one of the arms raises."""
        return bool(self.raised)

    @property
    def raises_everywhere(self) -> bool:
        """Whether both of them raise."""
        return self.divergence.axis == EVERY_ARM

    @cached_property
    def trainers(self) -> tuple[str, ...]:
        """The trainers, each once."""
        return tuple(dict.fromkeys(arm.trainer for arm in self.arms))

    @property
    def replicas(self) -> int:
        """The most replicas an arm has."""
        return max(arm.placement.replicas for arm in self.arms)

    @property
    def mirrored(self) -> bool:
        """Whether any arm runs on replicas."""
        return self.replicas > 1

    @property
    def parameters(self) -> tuple[str, ...]:
        """What `train` is given because the arms differ in it and one trainer's code has to serve both."""
        placed = len({arm.placement for arm in self.arms}) > 1
        executed = len(self.trainers) == 1 and len({arm.execution for arm in self.arms}) > 1
        return (*(["strategy"] if placed else []), *(["execution"] if executed else []))

    def executions(self, trainer: str) -> tuple[str, ...]:
        """The executions a trainer's code has to serve."""
        return tuple(sorted({arm.execution for arm in self.arms if arm.trainer == trainer}))

    @property
    def xla(self) -> bool:
        """Whether any arm is compiled by XLA, which excludes op determinism."""
        return any(arm.execution == "xla" for arm in self.arms)

    @property
    def copies(self) -> bool:
        """Whether every replica's copy of a variable is looked at: moving statistics are each replica's own."""
        layers = [node.layer for node in self.case.model.nodes if node.layer]
        own = any(name == "BatchNormalization" or LAYERS[name].make for name in layers)
        return self.mirrored and (own or self.divergence.allowed == 0)

    @property
    def arrays(self) -> bool:
        """Whether the divergence is that an arm writes into its caller's arrays."""
        return self.divergence.variable == "the caller's arrays"

    @property
    def ragged(self) -> bool:
        """Whether what has to be caught has another number of rows from step to step, or from replica to replica."""
        data = self.case.data
        uneven = self.mirrored or self.case.last_batch != data.batch_size
        return self.tapped is Stage.OUTPUTS and uneven and self.case.steps > 1

    @property
    def log(self) -> str | None:
        """The report that is compared, if any: `loss` or a metric as `fit` names it."""
        if self.raises or self.arrays or "train_on_batch" in self.trainers:
            return None
        if self.divergence.stage is Stage.LOGS:
            return self.divergence.variable
        return "loss" if self.divergence.stage is Stage.LOSS and self._reports_loss else None

    @property
    def _reports_loss(self) -> bool:
        """Whether the loss can be read off a report: of two arms at the end of an epoch, of one after its first step.

        On replicas what is reported is the global batch's loss, and not the share of it that each of them has.
        """
        if self.expected is None:
            return self.reported
        return not self.mirrored and (self.divergence.step or 0) % self.whole.steps_per_epoch == 0

    @property
    def only_log(self) -> bool:
        """Whether nothing but the report is compared."""
        return self.log is not None and (self.divergence.stage is Stage.LOGS or self.expected is not None)

    @property
    def log_steps(self) -> bool:
        """Whether the report of every step is looked at."""
        if self.expected is None:
            return self.only_log and self.divergence.step is not None
        # Under replicas, fit does not report the same after an epoch as after its last step.
        return self.only_log and (not self.log_epochs or (self.mirrored and self.seen.trainer == "fit"))

    @property
    def log_epochs(self) -> bool:
        """Whether the report of every epoch is looked at."""
        if self.expected is None:
            return self.log is not None and not self.log_steps
        step = self.divergence.step or 0
        ends = self.divergence.stage is Stage.LOSS or (step + 1) % self.whole.steps_per_epoch == 0
        return self.log is not None and ends and self.between is None

    @property
    def changes(self) -> bool:
        """Whether what training added to the weights is compared, for there a constant ratio of gradients shows."""
        early = self.divergence.stage.order < BEFORE_UPDATE
        return self.divergence.ratio is not None and early and not self.raises and self.expected is None
