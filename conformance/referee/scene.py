"""A step as the clauses of the loss see it: every replica's rows, outputs and penalties, in one precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.referee.loss_rules import Identified

Rules = Mapping[str, Callable[..., Any]]
"""The clauses by name; a deviation puts another function in the place of one."""


@dataclass(frozen=True)
class LossOf:
    """The loss of one output.

    Attributes:
        given: what `compile` was given.
        known: Keras's loss it is, or None for a function or class of the user's.
        reduction: `sum_over_batch_size`, `sum`, `mean_with_sample_weight` or None.
        weight: its factor in the total.
    """

    given: Any
    known: Identified | None
    reduction: str | None
    weight: float = 1.0


@dataclass(frozen=True)
class Part:
    """One replica's part of a step.

    Attributes:
        targets: tensors (rows, ...), an output each.
        outputs: tensors (rows, ...).
        sample_weights: tensors (rows,) or None, an output each.
        class_weights: the weight of each row's class, (rows,), or None.
        masks: Keras's mask of each output, or None.
        activities: (regularizer, output) of what is regularized.
        added: what layers added by `add_loss`.
        penalties: (regularizer, weight) of the weights that are regularized.
        weights: the trainable weights.
        rows: the rows.
        step: the step; None of validation data.
    """

    targets: list[Any]
    outputs: list[Any]
    sample_weights: list[Any]
    class_weights: Any
    masks: list[Any]
    activities: list[Any]
    added: Any
    penalties: list[Any]
    weights: list[Any]
    rows: int
    step: int | None = None


@dataclass(frozen=True)
class Scene:
    """One step on all replicas.

    Attributes:
        parts: the replicas' parts.
        losses: the losses of the outputs.
        batch_size: the nominal global batch size, which a partial batch does not have.
    """

    parts: list[Part]
    losses: list[LossOf]
    batch_size: int

    @property
    def replicas(self) -> int:
        """How many replicas there are."""
        return len(self.parts)

    @property
    def rows(self) -> int:
        """Rows of the global batch."""
        return sum(part.rows for part in self.parts)
