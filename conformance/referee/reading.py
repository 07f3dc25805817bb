"""A trace as the referee reads it: what each step started from and was given, replica by replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from conformance.data import Array, Arrays
from conformance.optimizer_config import config_of
from conformance.referee.base_rules import distinct
from conformance.referee.batch_clauses import class_weight_of
from conformance.referee.forward_clauses import Mode
from conformance.stage import FINAL, Stage
from conformance.trace import PerReplica, Trace
from conformance.trainers.forms import STEP, loop_of
from conformance.training import Training


class Reading:
    """One trace of one training.

    Args:
        training: what was trained.
        trace: what the arm did.
        connected: the trainable weights that the loss depends on; a weight without a gradient is recorded as zeros.
    """

    def __init__(self, training: Training, trace: Trace, connected: frozenset[str] | None = None) -> None:
        self.training, self.trace, self.connected = training, trace, connected
        self.replicas = trace.replicas
        self.batch_size = training.batch_size

    # What was fed.

    @cached_property
    def steps(self) -> list[int]:
        """The steps of which anything was recorded, in order; not the place that all steps too many share."""
        training = self.training
        most = training.steps + training.epochs * (training.steps_per_execution - 1)
        return sorted({key[0] for key in self.trace.values if key[0] != FINAL and key[0] < most})

    @cached_property
    def output_names(self) -> list[str]:
        """The outputs' names."""
        return list(self.training.names.get("outputs", ()))

    def has(self, step: int, stage: Stage) -> bool:
        """Whether anything was recorded at that stage of that step."""
        return any(key[:2] == (step, stage) for key in self.trace.values)

    def fed(self, step: int, part: str) -> list[PerReplica]:
        """What was recorded of a part of a batch, `x`, `y` or `sample_weight`."""
        found = self.trace.stage(step, Stage.BATCH)
        return [value for name, value in found.items() if name == part or name.startswith(f"{part}[")]

    def rows(self, step: int) -> list[int]:
        """Rows of every replica."""
        batch = self.trace.stage(step, Stage.BATCH)
        return [len(part) for part in next(iter(batch.values()))] if batch else [0] * self.replicas

    def inputs(self, step: int, replica: int | None) -> list[Array]:
        """The inputs of one replica, (rows, ...) each; of all of them together for None."""
        parts = self.fed(step, "x")
        return [np.concatenate(values) if replica is None else values[replica] for values in parts]

    def targets(self, step: int, replica: int) -> list[Array]:
        """The targets of one replica, an output each: as recorded, or those of the same inputs in the data."""
        recorded = self.fed(step, "y")
        if recorded:
            return [values[replica] for values in recorded]
        return [array[self._places(step, replica)] for array in self.training.data.y]

    @cached_property
    def _rows_of_data(self) -> dict[bytes, int]:
        rows = range(self.training.data.rows)
        return {_key([array[row] for array in self.training.data.x]): row for row in reversed(rows)}

    def _places(self, step: int, replica: int) -> list[int]:
        """Where in the data the rows of a replica stand, by their inputs; a loop's own loss hides the rest."""
        inputs = self.inputs(step, replica)
        count = len(inputs[0]) if inputs else 0
        return [self._rows_of_data.get(_key([array[row] for array in inputs]), 0) for row in range(count)]

    def sample_weights(self, step: int, replica: int) -> list[Array | None]:
        """The sample weights of one replica, an output each; one for all of them is each one's."""
        given = self.fed(step, "sample_weight")
        count = len(self.output_names)
        due = self.training.data.sample_weight
        if not given and (due is None or self.trace.arm.trainer != "trial"):
            return [None] * count
        weights: list[Array | None] = (
            [values[replica] for values in given]
            if given
            else [array[self._places(step, replica)] for array in due or ()]
        )
        return weights * count if len(weights) == 1 else weights

    def class_weights(self, step: int, replica: int) -> Array | None:
        """The weight of each row's class, where the trainer was not given them as sample weights."""
        weights = self.training.class_weight
        if not weights or self.trace.arm.trainer != "trial":
            return None
        return class_weight_of(self.targets(step, replica)[0], weights)

    def outputs(self, step: int, replica: int) -> list[Array]:
        """The recorded outputs of one replica."""
        found = self.trace.stage(step, Stage.OUTPUTS)
        return [found[name][replica] for name in self.output_names]

    # What a step started from.

    def _before(self, step: int, stage: Stage) -> Mapping[str, PerReplica]:
        if step == 0 and self.trace.first and stage is not Stage.UPDATE:
            return {name: value for (at, name), value in self.trace.first.items() if at is stage}
        return self.trace.before(step, stage)

    def weights(self, step: int, replica: int) -> dict[str, Array]:
        """The weights before a step."""
        return {name: values[replica] for name, values in self._before(step, Stage.WEIGHTS).items()}

    def states(self, step: int, replica: int) -> dict[str, Array]:
        """Statistics and random states before a step."""
        before = {name: values[replica] for name, values in self._before(step, Stage.STATE).items()}
        carried = ((name, values[replica]) for (at, name), values in self.trace.carried.items() if at == step)
        return {**before, **dict(carried)}

    def variables(self, step: int, mode: Mode, replica: int) -> dict[str, Array]:
        """Weights and states that a forward pass in that mode runs with."""
        if mode.start == "after":
            weights = {n: v[replica] for n, v in self.trace.stage(step, Stage.WEIGHTS).items()}
        else:
            weights = self.weights(step, replica)
        states = self.states(step, replica)
        if mode.anew_every and step % mode.anew_every == 0:
            given = {n: v[replica] for (at, n), v in self.trace.start.items() if at is Stage.STATE}
            states |= {name: value for name, value in given.items() if mode.anew in name}
        return {**weights, **states}

    def slots(self, step: int, replica: int) -> dict[str, Array]:
        """The optimizer's variables before a step, called as the update rules call them."""
        slots = {name: values[replica] for name, values in slots_of(self.trace.before(step, Stage.UPDATE)).items()}
        if self._sets_rates and step in self.trace.rates and "learning_rate" in slots:
            slots["learning_rate"] = np.asarray(self.trace.rates[step], slots["learning_rate"].dtype)
        return slots

    @property
    def _sets_rates(self) -> bool:
        """Whether a whole loop may do by hand what callbacks do in `fit`: set the rate between its steps.

        Nobody sees it do so; whether it is the rate that `fit` had, a comparison of the two says.
        """
        return self.training.callbacks is not None and not self.whole_losses and not self.trace.begun

    def rate_set(self, step: int, replica: int) -> dict[str, Array]:
        """The learning rate that callbacks left before a step, where there are callbacks."""
        values = self.trace.begun.get((step, Stage.UPDATE, "learning_rate"))
        return {} if values is None else {"learning_rate": values[replica]}

    def slots_left(self, step: int) -> dict[str, PerReplica]:
        """The optimizer's variables after a step."""
        return slots_of(self.trace.stage(step, Stage.UPDATE))

    # The gradients.

    def _gradients(self, step: int, stage: Stage) -> dict[str, PerReplica]:
        found = self.trace.stage(step, stage)
        return {name: value for name, value in found.items() if self.connected is None or name in self.connected}

    def local_gradients(self, step: int) -> dict[str, PerReplica]:
        """Every replica's gradients as `apply` was given them."""
        return self._gradients(step, Stage.LOCAL_GRADIENT)

    def received(self, step: int) -> dict[str, PerReplica]:
        """The gradients as the update rule received them; empty on a step without an update."""
        return self._gradients(step, Stage.GRADIENT)

    # The optimizer.

    @cached_property
    def _optimizer(self) -> Any:
        return self.training.parts.optimizer()

    @property
    def optimizer_class(self) -> str:
        """The optimizer's class in `keras.optimizers`; a user's own class is none of Keras's."""
        import keras

        kind = type(self._optimizer)
        return kind.__name__ if getattr(keras.optimizers, kind.__name__, None) is kind else f"{kind.__name__} (own)"

    @cached_property
    def given_config(self) -> dict[str, Any]:
        """Its config, as it was given."""
        return config_of(self._optimizer)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Its config; without accumulation, where the loop accumulates by hand."""
        return {**self.given_config, "gradient_accumulation_steps": None} if self.accumulated else self.given_config

    accumulated = False

    def span(self, step: int) -> tuple[int, int]:
        """Of a loop that accumulates by hand, the first of the batches of an update, and how many they are."""
        sizes = [max(self.trace.calls.get(at, (1,))) for at in self.steps]
        index = self.steps.index(step)
        return sum(sizes[:index]), sizes[index]

    @cached_property
    def by_hand(self) -> bool:
        """Whether the weights move without the optimizer, so that no gradient and no slot is known."""
        return not any(key[1] is Stage.LOCAL_GRADIENT for key in self.trace.values)

    @property
    def decay_excluded(self) -> frozenset[str]:
        """The weights whose names `exclude_from_weight_decay` was given a part of."""
        pattern = getattr(self._optimizer, "_exclude_from_weight_decay_pattern", None)
        names = self.training.names["variables"]
        return frozenset(name for name in names if pattern is not None and pattern.search(name.rpartition("/")[2]))

    @property
    def whole_losses(self) -> bool:
        """Whether the recorded loss is all that was trained on; a loop called whole shows its data loss only."""
        return self.trace.arm.trainer != "trial" or loop_of(self.training.trial).form == STEP

    @cached_property
    def validation(self) -> list[Arrays]:
        """The batches of the validation data."""
        validation = self.training.validation
        return [] if validation is None else list(validation.batches())

    # The data that was due.

    @cached_property
    def due(self) -> list[Arrays]:
        """The global batches that the steps should have been given, in order."""
        from conformance.referee.batch_clauses import batches

        due = batches(self.training)
        # A training that a callback has stopped owes no more than it took.
        return due[: len(self.steps)] if self.trace.stopped else due


def _key(row: Sequence[Array]) -> bytes:
    return b"|".join(np.ascontiguousarray(part).tobytes() for part in row)


def slots_of(recorded: Mapping[str, PerReplica]) -> dict[str, PerReplica]:
    """An optimizer's variables, called as the update rules call them.

    A replica accumulates its own gradients and they are summed over the replicas with the update, so what is held of
    the global gradient is the sum of what the replicas hold.
    """
    named = dict(zip(distinct(recorded), recorded.values(), strict=True))
    return {
        name: (np.sum(np.stack(values), axis=0, dtype=values[0].dtype),) * len(values)
        if name.endswith("gradient_accumulator")
        else values
        for name, values in named.items()
    }
