"""What a repro script has to show, decided once from the divergence: which arms, in which modes, compared how.

A script is short because it leaves out: a strategy where none is used, a parameter that both arms share, metrics where
no report is compared. Every such decision is here; the modules that write lines only ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from conformance.arm import Arm, parse_arm
from conformance.case import Case
from conformance.errors import UnsupportedError
from conformance.layers import LAYERS
from conformance.raised import Raised
from conformance.stage import Stage
from conformance.verdict import Divergence, Verdict

BEFORE_UPDATE = Stage.UPDATE.order
"""Stages of a lower order come before the optimizer applies anything."""


@dataclass(frozen=True)
class Plan:
    """The decisions of one script.

    Attributes:
        case: the case.
        divergence: what is to be shown.
        seen: the arm on trial.
        wanted: the arm it is held against.
        raised: by arm, what it raised.
    """

    case: Case
    divergence: Divergence
    seen: Arm
    wanted: Arm
    raised: dict[str, Raised]

    @property
    def arms(self) -> tuple[Arm, Arm]:
        """Both arms, the one on trial first."""
        return self.seen, self.wanted

    @property
    def raises(self) -> bool:
        """Whether the divergence is that one of the arms raises."""
        return bool(self.raised)

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
    def log(self) -> str | None:
        """The report that is compared, if any: `loss` or a metric as `fit` names it."""
        if self.raises or self.arrays or "train_on_batch" in self.trainers:
            return None
        if self.divergence.stage is Stage.LOGS:
            return self.divergence.variable
        return "loss" if self.divergence.stage is Stage.LOSS else None

    @property
    def only_log(self) -> bool:
        """Whether nothing but the report is compared."""
        return self.divergence.stage is Stage.LOGS and self.log is not None

    @property
    def log_steps(self) -> bool:
        """Whether the report is one of every step, not of every epoch."""
        return self.only_log and self.divergence.step is not None

    @property
    def changes(self) -> bool:
        """Whether what training added to the weights is compared, for there a constant ratio of gradients shows."""
        early = self.divergence.stage.order < BEFORE_UPDATE
        return self.divergence.ratio is not None and early and not self.raises


def plan(verdict: Verdict) -> Plan:
    """The plan for a verdict's first divergence.

    Raises:
        UnsupportedError: when there is nothing to reproduce, or parts of the user's own that no script can spell.
    """
    if verdict.case is None or verdict.divergence is None:
        missing = "divergence" if verdict.case else "case"
        raise UnsupportedError(
            f"a verdict without a {missing} has no repro script; only drawn or loaded cases have one"
        )
    seen, wanted = (parse_arm(arm) for arm in verdict.divergence.arms)
    if "trial" in (seen.trainer, wanted.trainer):
        raise UnsupportedError(f"{seen} against {wanted}: a loop of one's own is not copied into a repro script")
    raised = {
        report.arm: report.raised
        for report in verdict.arms
        if report.raised is not None and report.arm in verdict.divergence.arms
    }
    return Plan(verdict.case, verdict.divergence, seen, wanted, raised)
