"""What a step should have given at each stage, computed from what was recorded before that stage.

The key idea is that nothing is carried along. The outputs follow from the recorded weights and rows, the loss from the
recorded outputs, the reduced gradient from the recorded local ones, the new weights from the recorded gradient. So an
error in one stage leaves the judgement of every other stage as sharp as it was, chaos has no time to grow, and the
first wrong stage of the first wrong step is exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from conformance.build import perturbed
from conformance.data import Array, Arrays
from conformance.referee.apply_rules import of_value
from conformance.referee.base_rules import Slices
from conformance.referee.constraint_rules import Constraint
from conformance.referee.forward_clauses import FORWARD_RULES, Mode
from conformance.referee.gradient_clauses import GRADIENT_RULES, differentiated, scaled_to, slices_of
from conformance.referee.loss_clauses import LOSS_RULES, shares
from conformance.referee.reading import Reading
from conformance.referee.scene import LossOf, Part, Rules, Scene
from conformance.referee.step_rules import RULES as STEP_RULES
from conformance.referee.step_rules import StepState, called_once, final_variables, learning_rate_of
from conformance.referee.twin import Forward, Twin
from conformance.stage import Stage
from conformance.trace import PerReplica

Values = dict[str, PerReplica]
"""By name the arrays of every replica."""


def gathered(total: Array, batches: int, due: int) -> Array:
    """What a loop that accumulates by hand, and updates with an optimizer of its own, makes of its batches' gradients.

    Args:
        total: their sum.
        batches: how many there are.
        due: how many the optimizer it was given would accumulate, whose mean the clauses want.
    """
    return np.asarray(total / np.asarray(due, total.dtype))


ALL_RULES: Rules = {
    **FORWARD_RULES,
    **LOSS_RULES,
    **GRADIENT_RULES,
    **STEP_RULES,
    "called_once": called_once,
    "gathered": gathered,
}
"""Every clause that a deviation may replace."""


class Evaluator:
    """One trace's steps in one precision.

    Args:
        reading: the trace.
        twin: the model in that precision.
        losses: the losses of the outputs.
        rng: moves everything a stage starts from by one unit in the last place of the arm's precision; None does not.
    """

    def __init__(
        self, reading: Reading, twin: Twin, losses: Sequence[LossOf], rng: np.random.Generator | None = None
    ) -> None:
        self.reading, self.twin, self.losses, self._rng = reading, twin, list(losses), rng
        self._forwards: dict[tuple[int, Mode], list[Forward]] = {}
        self._updates: dict[tuple[int, int], tuple[Rules, tuple[Values, Values]]] = {}
        self._sliced: dict[tuple[Any, ...], dict[str, Slices]] = {}

    # What there is to deviate in.

    @cached_property
    def _first(self) -> list[Forward]:
        return self.forward(self.reading.steps[0])

    @property
    def regularizes_activity(self) -> bool:
        """Whether any layer's output is regularized."""
        return any(one.activities for one in self._first)

    @property
    def adds_losses(self) -> bool:
        """Whether any layer adds a loss of its own."""
        return any(float(one.added) != 0.0 for one in self._first)

    @property
    def sparse(self) -> bool:
        """Whether a weight is looked up by rows, so that its gradient comes in parts."""
        return any(v.name.endswith("embeddings") for v in self.twin.trainable.values())

    @property
    def masked(self) -> bool:
        """Whether any output carries a mask."""
        return any(mask is not None for one in self._first for mask in one.masks)

    @property
    def output_shapes(self) -> list[tuple[int | None, ...]]:
        """The outputs' shapes."""
        return [tuple(output.shape) for output in self._first[0].outputs]

    @property
    def weighted(self) -> bool:
        """Whether there are sample weights."""
        return self.reading.training.data.sample_weight is not None

    @property
    def uneven_rows(self) -> list[int]:
        """The rows of the replicas at the first step that splits unevenly; empty where none does."""
        rows = (self.reading.rows(step) for step in self.reading.steps)
        return next((counts for counts in rows if len(set(counts)) > 1), [])

    @property
    def uneven(self) -> bool:
        """Whether any batch splits unevenly."""
        return bool(self.uneven_rows)

    @property
    def leaves_out_a_replica(self) -> bool:
        """Whether any batch has fewer rows than there are replicas."""
        return any(0 in self.reading.rows(step) for step in self.reading.steps)

    @property
    def partial(self) -> bool:
        """Whether any batch has fewer rows than the nominal size."""
        return any(sum(self.reading.rows(step)) != self.reading.batch_size for step in self.reading.steps)

    def penalties_after(self, part: Part) -> list[Any]:
        """(regularizer, weight) of the regularized weights as the step left them."""
        import tensorflow as tf

        left, dtype = self.reading.trace.stage(part.step or 0, Stage.WEIGHTS), part.outputs[0].dtype
        return [(regularizer, tf.cast(left[name][0], dtype)) for name, regularizer in self.twin.penalized.items()]

    def unclassed(self, part: Part, output: int) -> Any:
        """The sample weights of a part without those of classes, which `fit` is given multiplied."""
        return part.sample_weights[output] if self.reading.trace.arm.trainer == "trial" else None

    def _moved(self, value: Array) -> Array:
        if self._rng is None or value.dtype.kind != "f":
            return value
        return perturbed(value, self._rng)

    def _computed(self, value: Array) -> Array:
        """A recorded array as a forward pass begins with it: moved by a unit of what layers compute in."""
        moved = value if self._rng is None else perturbed(value, self._rng, self.twin.precision)
        return moved.astype(self.dtype) if moved.dtype.kind == "f" else moved

    def _wide(self, value: Array) -> Array:
        """A recorded array in this evaluation's precision."""
        moved = self._moved(value)
        return moved.astype(self.dtype) if moved.dtype.kind == "f" else moved

    def _stepped(self, value: Array) -> Array:
        """A recorded array as an optimizer's step begins with it.

        Rounded steps are in float32 under any policy: Keras rounds an optimizer's hyperparameters to it, in float64 too
        (measured: Adam's 1 - beta_2 is off by a part in 80,000).
        """
        moved = self._moved(value)
        wanted = np.float64 if self._rng is None and self.dtype is np.float64 else np.float32
        return moved.astype(wanted) if moved.dtype.kind == "f" else moved

    @property
    def dtype(self) -> Any:
        """NumPy's dtype of this precision; half precisions keep their variables in float32."""
        return np.float64 if self.twin.dtype == "float64" else np.float32

    # The forward pass.

    def forward(self, step: int, rules: Rules = ALL_RULES) -> list[Forward]:
        """The forward pass of every replica; all rows on the first one where they go through it together."""
        mode = rules["called"](Mode())
        if (step, mode) not in self._forwards:
            if len(self._forwards) > 64:
                self._forwards.clear()
            self._forwards[step, mode] = self._forward(step, mode)
        return self._forwards[step, mode]

    def _forward(self, step: int, mode: Mode) -> list[Forward]:
        found = []
        rows = self.reading.rows(step)
        for replica in range(self.reading.replicas):
            before = self.reading.variables(step, mode, replica)
            states = self.reading.states(step, replica)
            # Statistics stay in float32 whatever the layers compute in.
            moved = {name: self._wide(v) if name in states else self._computed(v) for name, v in before.items()}
            self.twin.load(moved)
            inputs = self.reading.inputs(step, None if mode.together else replica)
            one = self.twin.forward(
                [self._computed(part) for part in inputs],
                training=mode.training,
                times=mode.times,
                xla=self.reading.trace.arm.execution == "xla",
                silent=mode.silent,
            )
            found.append(one.sliced(sum(rows[:replica]), rows[replica]) if mode.together else one)
        return found

    def outputs(self, step: int, rules: Rules = ALL_RULES) -> Values:
        """The outputs of every replica's rows."""
        passes = self.forward(step, rules)
        return {
            name: tuple(np.asarray(one.outputs[index]) for one in passes)
            for index, name in enumerate(self.reading.output_names)
        }

    def states(self, step: int, rules: Rules = ALL_RULES) -> Values:
        """Statistics and random states after the step."""
        found: dict[str, list[Array]] = {}
        for replica, one in enumerate(self.forward(step, rules)):
            before = self.reading.states(step, replica)
            left = rules["states_left"](before, one.states)
            if not one.rows:
                left = rules["statistics_of_no_rows"](before, left)
            for name, value in left.items():
                found.setdefault(name, []).append(np.asarray(value))
        return {name: tuple(values) for name, values in found.items()}

    # The loss and its gradient.

    def scene(self, step: int, passes: list[Forward], *, recorded: bool) -> Scene:
        """The step as the clauses of the loss see it, with the recorded outputs or with the forward pass's own."""
        parts = []
        for replica, one in enumerate(passes):
            outputs = [self._wide(v) for v in self.reading.outputs(step, replica)] if recorded else one.outputs
            weights = self.reading.sample_weights(step, replica)
            classes = self.reading.class_weights(step, replica)
            parts.append(self._part(one, self.reading.targets(step, replica), outputs, weights, classes, step))
        return Scene(parts, self.losses, self.reading.batch_size)

    def _part(
        self,
        one: Forward,
        targets: Sequence[Array],
        outputs: Sequence[Any],
        weights: Sequence[Array | None],
        classes: Array | None,
        step: int | None = None,
    ) -> Part:
        """One replica's part, in the precision of losses: of half precisions, float32; not so activity penalties."""
        import tensorflow as tf

        whole = self.twin.dtype == "float64"
        dtype = "float64" if whole else "float32"
        penalized = self.twin.penalized
        return Part(
            [tf.constant(y) for y in targets],
            [tf.cast(output, dtype) for output in outputs],
            [None if w is None else tf.cast(w, dtype) for w in weights],
            None if classes is None else tf.cast(classes, dtype),
            one.masks,
            [(i.regularizer, tf.cast(i.output, dtype) if whole else i.output) for i in one.activities],
            tf.cast(one.added, dtype),
            [(r, tf.cast(self.twin.trainable[name].value, dtype)) for name, r in penalized.items()],
            [tf.cast(variable.value, dtype) for variable in self.twin.trainable.values()],
            one.rows,
            step,
        )

    def loss(self, step: int, rules: Rules = ALL_RULES) -> Values:
        """Every replica's share of the loss, from the recorded outputs."""
        passes = self.forward(step, rules)
        self._load_for(step, rules)
        if rules["called"](Mode()).start == "after":
            return self.fresh_loss(step, rules)
        # Cross-entropies are of the logits behind an activation, which recorded outputs no longer show.
        hidden = any(hasattr(output, "_keras_logits") for one in passes for output in one.outputs)
        scene = self.scene(step, passes, recorded=self.reading.has(step, Stage.OUTPUTS) and not hidden)
        return {"loss": tuple(np.asarray(share) for share in shares(scene, rules))}

    def fresh_loss(self, step: int, rules: Rules = ALL_RULES) -> Values:
        """Every replica's share of the loss, from outputs computed anew."""
        passes = self.forward(step, rules)
        self._load_for(step, rules)
        return {"loss": tuple(np.asarray(share) for share in shares(self.scene(step, passes, recorded=False), rules))}

    def validation_losses(self, step: int, *, training: bool, rules: Rules = ALL_RULES) -> list[float]:
        """The loss of each batch of the validation data with what a step left, a mean over its rows, with penalties."""
        reading = self.reading
        left = {**reading.trace.stage(step, Stage.WEIGHTS), **reading.trace.stage(step, Stage.STATE)}
        # Callbacks may have put others into their place.
        left |= {name: value for (at, _, name), value in reading.trace.evaluated.items() if at == step}
        self.twin.load({name: self._wide(values[0]) for name, values in left.items()})
        found = []
        for batch in reading.validation:
            one = self.twin.forward(list(batch.x), training=training)
            scene = Scene(
                [self._part(one, list(batch.y), one.outputs, list(batch.sample_weight or [None] * len(batch.y)), None)],
                self.losses,
                reading.batch_size,
            )
            found.append(float(shares(scene, rules)[0]))
        return found

    def _load_for(self, step: int, rules: Rules) -> None:
        """The weights a step's penalties are of; a forward pass that was remembered left others in the twin."""
        mode = rules["called"](Mode())
        if self.twin.holds != (self, step, mode, 0):
            self.twin.load({name: self._wide(v) for name, v in self.reading.variables(step, mode, 0).items()})
            self.twin.holds = (self, step, mode, 0)

    def local_gradients(self, step: int, rules: Rules = ALL_RULES) -> Values:
        """Every replica's gradient of its share."""
        passes = self.forward(step, rules)
        self._load_for(step, rules)
        with contextlib.ExitStack() as tapes:
            for one in passes:
                tapes.enter_context(one.tape)
            scene = self.scene(step, passes, recorded=False)
            scale = rules["loss_scale"](self.reading.optimizer_config, self.reading.slots(step, 0))
            totals = [share * scale for share in shares(scene, rules)]
        found: dict[str, list[Array]] = {}
        for one, total in zip(passes, totals, strict=True):
            gradients = differentiated(one.tape, total, self.twin.trainable)
            if not one.rows:
                gradients = rules["gradient_of_no_rows"](gradients, self.twin.scales)
            for name, gradient in gradients.items():
                found.setdefault(name, []).append(gradient)
        return {name: tuple(values) for name, values in found.items() if len(values) == len(passes)}

    def summed_gradients(self, step: int, batches: Sequence[Arrays], rules: Rules = ALL_RULES) -> dict[str, Array]:
        """The sum of the gradients of batches that share the weights before a step, on one device."""
        before = self.reading.variables(step, rules["called"](Mode()), 0)
        self.twin.load({name: self._wide(value) for name, value in before.items()})
        total: dict[str, Array] = {}
        for batch in batches:
            one = self.twin.forward([self._moved(part) for part in batch.x])
            with one.tape:
                weights = list(batch.sample_weight or [None] * len(batch.y))
                part = self._part(one, batch.y, one.outputs, weights, None, step)
                share = shares(Scene([part], self.losses, self.reading.batch_size), rules)[0]
            for name, gradient in differentiated(one.tape, share, self.twin.trainable).items():
                total[name] = total[name] + gradient if name in total else gradient
        return total

    # The optimizer.

    def _state(
        self, step: int, gradients: Mapping[str, Array], replica: int, rules: Rules, *, received: bool = False
    ) -> StepState:
        reading = self.reading
        apart = rules["combined"] is not ALL_RULES["combined"]
        slots = rules["carried"](self._slots_before(step, replica, rules), reading.slots(0, replica), step)
        return StepState(
            class_name=reading.optimizer_class,
            config=reading.optimizer_config,
            gradients={name: self._stepped(value) for name, value in gradients.items()},
            variables={
                name: self._stepped(value)
                for name, value in reading.weights(step, replica).items()
                if name in self.twin.trainable
            },
            slots={name: self._stepped(value) for name, value in slots.items()},
            constraints={
                name: Constraint(type(item).__name__, item.get_config()) for name, item in self.twin.constraints.items()
            },
            decay_excluded=reading.decay_excluded,
            slices=self._scaled(self._slices(step, rules), gradients, received=received) if apart else {},
        )

    def _slices(self, step: int, rules: Rules) -> dict[str, Slices]:
        """The gradients that come in parts, those of all replicas.

        They are those of the loss that the arm had, deviations included: of two outputs one may have lost a factor.
        """
        key = (step, rules["called"], *(rules[name] for name in LOSS_RULES))
        if key not in self._sliced:
            self._sliced[key] = self._sliced_anew(step, rules)
        return self._sliced[key]

    def _sliced_anew(self, step: int, rules: Rules) -> dict[str, Slices]:
        passes = self.forward(step, rules)
        self._load_for(step, rules)
        with contextlib.ExitStack() as tapes:
            for one in passes:
                tapes.enter_context(one.tape)
            totals = shares(self.scene(step, passes, recorded=False), rules)
        parts: dict[str, list[Slices]] = {}
        for one, total in zip(passes, totals, strict=True):
            for name, found in slices_of(one.tape, total, self.twin.trainable).items():
                parts.setdefault(name, []).append(found)
        return {
            name: Slices(np.concatenate([p.values for p in found]), np.concatenate([p.rows for p in found]))
            for name, found in parts.items()
        }

    def _scaled(
        self, slices: Mapping[str, Slices], gradients: Mapping[str, Array], *, received: bool
    ) -> dict[str, Slices]:
        """Gradients in parts, scaled to what they add up to: before clipping, or as the update rule received them."""
        limit = self.reading.optimizer_config.get("clipvalue") if received else None
        parts = {name: item if limit is None else of_value(item, limit) for name, item in slices.items()}
        return {
            name: scaled_to(item, self._stepped(gradients[name])) for name, item in parts.items() if name in gradients
        }

    def _slots_before(self, step: int, replica: int, rules: Rules) -> dict[str, Array]:
        """The recorded slots; of a loop that has none, those that its steps would have left."""
        if not self.reading.by_hand or step == 0:
            return self.reading.slots(step, replica)
        left = {name: values[replica] for name, values in self.update(step - 1, rules)[0].items()}
        return left | self.reading.rate_set(step, replica)

    def gradients(self, step: int, rules: Rules = ALL_RULES, *, computed: bool = False) -> Values | None:
        """The gradients as the update rule receives them; None on a step that only accumulates.

        Args:
            step: the step.
            rules: the clauses.
            computed: from each replica's gradients as they should have been, not from the recorded ones.
        """
        given = self.local_gradients(step, rules) if computed else self.reading.local_gradients(step)
        found: dict[str, list[Array]] = {}
        for replica in range(self.reading.replicas):
            state = self._state(step, self._reduced(given, replica, rules), replica, rules)
            outcome = rules["called_once"](state, rules)
            if outcome.received is None:
                return None
            for name, value in rules["handed_over"](outcome.received, state.variables).items():
                found.setdefault(name, []).append(value)
        return _tuples(found)

    def _reduced(self, given: Values, replica: int, rules: Rules) -> dict[str, Array]:
        count = self.reading.replicas
        parts = [{name: self._stepped(values[i]) for name, values in given.items()} for i in range(count)]
        reduced: dict[str, Array] = rules["summed_over_replicas"](parts, replica)
        return reduced

    def update(self, step: int, rules: Rules = ALL_RULES) -> tuple[Values, Values]:
        """(slots, weights) after the step, from the gradients that the update rule received."""
        key = (step, id(rules))
        if key not in self._updates:
            # The rules are kept too, so that no other ones get their identity.
            self._updates[key] = (rules, self._update(step, rules))
        return self._updates[key][1]

    def _update(self, step: int, rules: Rules) -> tuple[Values, Values]:
        slots: dict[str, list[Array]] = {}
        weights: dict[str, list[Array]] = {}
        received = self.reading.received(step)
        local = self._local(step, rules)
        for replica in range(self.reading.replicas):
            if received:
                taken = {name: self._stepped(values[replica]) for name, values in received.items()}
                state = self._state(step, taken, replica, rules, received=True)
                outcome = rules["called_once"](state, rules, taken)
            else:
                state = self._state(step, self._reduced(local, replica, rules), replica, rules)
                outcome = rules["called_once"](state, rules)
            for name, value in outcome.slots.items():
                slots.setdefault(name, []).append(np.asarray(value))
            untrained = {
                name: self._stepped(value)
                for name, value in self.reading.weights(step, replica).items()
                if name not in self.twin.trainable
            }
            for name, value in {**outcome.variables, **untrained}.items():
                weights.setdefault(name, []).append(np.asarray(value))
        return _tuples(slots), _tuples(weights)

    def _local(self, step: int, rules: Rules) -> Values:
        """The gradients that a step was made with: as recorded, or, of a loop that shows none, as they should be."""
        if not self.reading.by_hand:
            return self.reading.local_gradients(step)
        if not self.reading.accumulated:
            return self.local_gradients(step, rules)
        start, size = self.reading.span(step)
        count = int(self.reading.given_config["gradient_accumulation_steps"])
        total = self.summed_gradients(step, self.reading.due[start : start + size], rules)
        return {name: (rules["gathered"](value, size, count),) for name, value in total.items()}

    def final(self, rules: Rules = ALL_RULES) -> Values:
        """The weights once training is over."""
        last = self.reading.steps[-1]
        trace, found = self.reading.trace, dict[str, list[Array]]()
        left = trace.stage(last, Stage.WEIGHTS)
        for replica in range(self.reading.replicas):
            state = self._state(last, {}, replica, rules)
            # Of a loop that has no slots, those that its last step would have left.
            slots_left = self.update(last, rules)[0] if self.reading.by_hand else trace.stage(last, Stage.UPDATE)
            after = dict(zip(state.slots, slots_left.values(), strict=False))
            variables = {name: self._stepped(left[name][replica]) for name in state.variables}
            slots = {name: self._stepped(values[replica]) for name, values in after.items()}
            # What no gradient reaches has no average, and stays what the last step left.
            others = {name: self._stepped(values[replica]) for name, values in left.items() if name not in variables}
            averaged = final_variables(replace(state, variables=variables, slots=slots), rules)
            for name, value in {**averaged, **others}.items():
                found.setdefault(name, []).append(np.asarray(value))
        return _tuples(found)

    def learning_rate(self, step: int, rules: Rules = ALL_RULES) -> float:
        """The learning rate of a step."""
        return learning_rate_of(self._state(step, {}, 0, rules), rules)


def _tuples(values: Mapping[str, list[Array]]) -> Values:
    return {name: tuple(parts) for name, parts in values.items()}
