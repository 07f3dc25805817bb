"""A deviation is named where it was planted, and not where what happened is a little off it.

The traces are made here, by a training of a few lines in float64: linear least squares with an L2 penalty and SGD.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from conformance.arm import Arm, parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.causes import CAUSES
from conformance.compare import compare
from conformance.deviations import DEVIATIONS, Context
from conformance.deviations.gradients import clipped
from conformance.diagnose import diagnose
from conformance.frozen import FrozenMap
from conformance.raised import Raised
from conformance.stage import Stage
from conformance.tolerance import Allowance
from conformance.trace import Trace
from conformance.verdict import Cause

FIT, LOOP, SPLIT, BESIDE = map(
    parse_arm, ("fit/single/graph", "loop/single/graph", "fit/mirrored:2/graph", "loop/mirrored:2/graph")
)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 2)), RNG.normal(size=(12, 1))
EVEN, UNEVEN, EMPTY = ((0, 4), (4, 8)), ((0, 4), (4, 7)), ((0, 4), (4, 5))
"""Batches as (first row, row after the last): even ones, one of 2 + 1 rows, one of 1 + 0."""

Gradients = dict[str, Any]


def added(parts: Sequence[Gradients], replica: int) -> Gradients:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


@dataclass(frozen=True)
class Training:
    """A training with one thing to replace each.

    Attributes:
        batches: what is trained on.
        scale: (rows of the replica, of the batch, replicas) to the factor of the sum of the rows' losses.
        penalty: strength of the penalty.
        local: what is done to each replica's gradients.
        reduce: (every replica's gradients, a replica) to what its update receives.
        after: what is done to the reduced gradients.
        split: the parts of a batch.
        reported: (the epoch's losses so far, their rows) to the loss that is reported.
        frozen: what a step adds to a weight that is not trained.
        rates: the learning rates, the last one for all steps that follow.
    """

    arm: Arm
    batches: tuple[tuple[int, int], ...] = EVEN
    scale: Callable[[int, int, int], float] = lambda count, total, replicas: 1 / total
    penalty: float = 0.0
    local: Callable[[Gradients], Gradients] = dict
    reduce: Callable[[Sequence[Gradients], int], Gradients] = added
    after: Callable[[Gradients], Gradients] = dict
    split: Callable[[Any, int], list[Any]] = np.array_split
    reported: Callable[[Any, Any], float] = lambda losses, rows: float(np.average(losses, weights=rows))
    frozen: float = 0.0
    rates: tuple[float, ...] = (0.1,)
    epochs: int = 1
    rows: Any = field(default_factory=lambda: np.arange(12))

    def run(self) -> Trace:
        replicas = self.arm.placement.replicas
        trace = Trace(self.arm, replicas, steps=len(self.batches) * self.epochs)
        weights = [{"w": np.array([[0.5], [-1.0]]), "b": np.array([0.25])} for _ in range(replicas)]
        losses: list[float] = []
        frozen = 1.0

        def put(step: int, stage: Stage, name: str, values: Sequence[Any]) -> None:
            trace.values[step, stage, name] = tuple(np.asarray(value, np.float32) for value in values)

        for name in ("w", "b"):
            trace.start[Stage.WEIGHTS, name] = tuple(np.asarray(held[name], np.float32) for held in weights)
        for step in range(trace.steps):
            begin, end = self.batches[step % len(self.batches)]
            parts = self.split(self.rows[begin:end], replicas)
            put(step, Stage.BATCH, "x", [X[part] for part in parts])
            put(step, Stage.BATCH, "y", [Y[part] for part in parts])
            local: list[Gradients] = []
            outputs, shares = [], []
            for part, held in zip(parts, weights, strict=True):
                error = X[part] @ held["w"] + held["b"] - Y[part]
                scale = self.scale(len(part), end - begin, replicas) if len(part) else 0.0
                outputs.append(error + Y[part])
                shares.append(scale * (error**2).sum() + self.penalty * (held["w"] ** 2).sum() / replicas)
                gradient = 2 * scale * X[part].T @ error + 2 * self.penalty * held["w"] / replicas
                local.append({"w": gradient, "b": 2 * scale * error.sum(axis=0)})
            put(step, Stage.OUTPUTS, "dense", outputs)
            put(step, Stage.LOSS, "loss", shares)
            for name in ("w", "b"):
                put(step, Stage.LOCAL_GRADIENT, name, [gradients[name] for gradients in local])
            done = [self.local(gradients) for gradients in local]
            reduced = [self.after(self.reduce(done, replica)) for replica in range(replicas)]
            for name in ("w", "b"):
                put(step, Stage.GRADIENT, name, [gradients[name] for gradients in reduced])
            rate = self.rates[min(step, len(self.rates) - 1)]
            put(step, Stage.UPDATE, "learning_rate", [np.float64(rate)] * replicas)
            for held, gradients in zip(weights, reduced, strict=True):
                held.update({name: held[name] - rate * gradients[name] for name in held})
            for name in ("w", "b"):
                put(step, Stage.WEIGHTS, name, [held[name] for held in weights])
            frozen += self.frozen
            put(step, Stage.WEIGHTS, "frozen", [np.float64(frozen)] * replicas)
            losses.append(float(np.float32(sum(shares))))
            first = step - step % len(self.batches)
            sizes = np.array([b - a for a, b in self.batches], float)[: step - first + 1]
            trace.logs[step, "loss"] = self.reported(np.array(losses[first:]), sizes)
            trace.epoch_logs[step // len(self.batches), "loss"] = trace.logs[step, "loss"]
        return trace


def exact(key: Any, value: Any) -> float:
    return 16 * float(np.spacing(np.abs(np.asarray(value, np.float32)).max(initial=0.0)))


class Allowed:
    of = staticmethod(exact)

    @staticmethod
    def of_log(kind: str, when: int, name: str, value: float) -> float:
        return exact(None, value)


def named(suspect: Trace, reference: Trace, **given: Any) -> tuple[Cause, str]:
    """The cause and the signature of the first difference of two traces."""
    same_mode = suspect.arm.placement == reference.arm.placement
    difference = compare(suspect, reference, None if same_mode else cast("Allowance", Allowed)).first
    assert difference is not None
    context = Context(
        axis="trainer" if same_mode else "distribution",
        difference=difference,
        suspect=suspect,
        reference=reference,
        allowed=lambda key: exact(key, reference.merged(key)),
        options=given.pop("options", {}),
        **given,
    )
    return diagnose(context)


def spoiled(trace: Trace, stage: Stage, step: int = 0) -> Trace:
    """The trace with one number of one replica a part in a thousand off."""
    changed = replace(trace, values=dict(trace.values), logs=dict(trace.logs), epoch_logs=dict(trace.epoch_logs))
    if stage is Stage.LOGS:
        changed.logs = {key: value * (1.001 if key[0] == step else 1) for key, value in trace.logs.items()}
        return changed
    key = next(key for key in trace.values if key[:2] == (step, stage))
    first, *others = trace.values[key]
    moved = np.array(first)
    moved.reshape(-1)[0] *= np.float32(1.001)
    changed.values[key] = (moved, *others)
    return changed


def means(count: int, total: int, replicas: int) -> float:
    return 1 / (count * replicas)


def whole(rows: Any, replicas: int) -> list[Any]:
    return [rows] * replicas


def clip(**options: float) -> Callable[[Gradients], Gradients]:
    return lambda gradients: clipped(gradients, options)


CLIPS = [{"clipvalue": 0.25}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}]


@dataclass(frozen=True)
class Planted:
    """A fault, the training it is held against, the cause it must be named, and where to spoil it."""

    cause: str
    suspect: Training
    reference: Training
    spoil: Stage
    step: int = 0
    feature: str = ""
    options: dict[str, Any] = field(default_factory=dict)


ONE, TWO = Training(LOOP), Training(SPLIT)
PLANTED = {
    "mean of means of 2 + 1 rows": Planted(
        "replica_mean_of_means", replace(TWO, batches=UNEVEN, scale=means), replace(ONE, batches=UNEVEN), Stage.LOSS, 1
    ),
    "mean of means of 1 + 0 rows": Planted(
        "replica_mean_of_means", replace(TWO, batches=EMPTY, scale=means), replace(ONE, batches=EMPTY), Stage.LOSS, 1
    ),
    "not divided by the replicas": Planted(
        "replica_loss_not_scaled", replace(TWO, scale=lambda count, total, replicas: 1 / count), ONE, Stage.LOSS
    ),
    "not divided, beside a loop that does": Planted(
        "replica_loss_not_scaled",
        replace(TWO, scale=lambda count, total, replicas: 1 / count),
        replace(TWO, arm=BESIDE),
        Stage.LOSS,
    ),
    "not divided, with a penalty that is": Planted(
        "replica_loss_not_scaled",
        replace(TWO, scale=lambda count, total, replicas: 1 / count, penalty=0.25),
        replace(TWO, arm=BESIDE, penalty=0.25),
        Stage.LOSS,
    ),
    "divided twice": Planted(
        "replica_loss_scaled_twice",
        replace(TWO, scale=lambda count, total, replicas: 1 / (count * replicas**2)),
        ONE,
        Stage.LOSS,
    ),
    "summed": Planted("loss_summed_not_averaged", replace(ONE, arm=FIT, scale=lambda *_: 1.0), ONE, Stage.LOSS),
    **{
        f"{next(iter(options))} before the reduction": Planted(
            "clip_order",
            replace(TWO, local=clip(**options)),
            replace(ONE, after=clip(**options)),
            Stage.GRADIENT,
            1,
            feature=next(iter(options)),
            options=options,
        )
        for options in CLIPS
    },
    "not reduced": Planted(
        "replica_gradients_not_reduced", replace(TWO, reduce=lambda parts, replica: parts[replica]), ONE, Stage.GRADIENT
    ),
    "reduced twice": Planted(
        "replica_gradients_reduced_twice",
        replace(TWO, after=lambda gradients: {name: 2 * value for name, value in gradients.items()}),
        ONE,
        Stage.GRADIENT,
        1,
    ),
    "not split": Planted("replica_data_not_split", replace(TWO, split=whole), ONE, Stage.BATCH),
    "partial batch dropped": Planted(
        "partial_batch_dropped", replace(ONE, arm=FIT), replace(ONE, batches=(*EVEN, (8, 9))), Stage.BATCH
    ),
    "another order": Planted(
        "data_order_differs", replace(ONE, arm=FIT, rows=np.array([3, 1, 7, 2, 5, 0, 6, 4])), ONE, Stage.BATCH
    ),
    "a batch skipped": Planted(
        "batch_skipped",
        replace(TWO, batches=((0, 4), (8, 12), (0, 4))),
        replace(TWO, arm=BESIDE, batches=((0, 4), (4, 8), (8, 12))),
        Stage.BATCH,
        1,
    ),
    "an epoch that runs over": Planted(
        "batches_cross_epochs", replace(ONE, arm=FIT, batches=(*EVEN, *EVEN[:1])), ONE, Stage.BATCH, 2
    ),
    "a frozen weight that moves": Planted(
        "frozen_weights_updated", replace(ONE, arm=FIT, frozen=0.5), ONE, Stage.GRADIENT
    ),
    "the rate of the first step at every step": Planted(
        "learning_rate_frozen", replace(ONE, arm=FIT), replace(ONE, rates=(0.1, 0.05)), Stage.UPDATE, 1
    ),
    "the rate of the step before": Planted(
        "learning_rate_off_by_one",
        replace(ONE, arm=FIT, epochs=2, rates=(0.4, 0.1, 0.05, 0.025)),
        replace(ONE, epochs=2, rates=(0.1, 0.05, 0.025, 0.0125)),
        Stage.UPDATE,
        1,
    ),
    "the rate of the step after": Planted(
        "learning_rate_off_by_one",
        replace(ONE, arm=FIT, epochs=2, rates=(0.05, 0.025, 0.0125, 0.4)),
        replace(ONE, epochs=2, rates=(0.1, 0.05, 0.025, 0.0125)),
        Stage.UPDATE,
        1,
    ),
    "updates of zero": Planted(
        "model_not_trained",
        replace(ONE, arm=FIT, after=lambda gradients: {name: 0 * value for name, value in gradients.items()}),
        ONE,
        Stage.WEIGHTS,
    ),
    "an epoch's plain mean": Planted(
        "epoch_loss_unweighted",
        replace(ONE, arm=FIT, batches=UNEVEN, reported=lambda losses, rows: float(losses.mean())),
        replace(ONE, batches=UNEVEN),
        Stage.LOGS,
        1,
    ),
    "an epoch's last batch": Planted(
        "epoch_loss_last_batch",
        replace(ONE, arm=FIT, reported=lambda losses, rows: float(losses[-1])),
        ONE,
        Stage.LOGS,
        1,
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_deviation_is_named(planted: Planted) -> None:
    cause, signature = named(planted.suspect.run(), planted.reference.run(), options=planted.options)
    assert cause.name == planted.cause
    assert cause.evidence
    assert signature.split("/")[2:] == [planted.cause, *([planted.feature] if planted.feature else [])]


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_a_part_in_a_thousand_off_it_is_not(planted: Planted) -> None:
    suspect = spoiled(planted.suspect.run(), planted.spoil, planted.step)
    cause, _ = named(suspect, planted.reference.run(), options=planted.options)
    assert cause.name == "unexplained", cause
    assert cause.evidence
    assert not cause.exact


def test_every_deviation_that_traces_show_is_planted_here() -> None:
    elsewhere = {
        # They train another case, or are no fault of arithmetic; see below.
        "raises_in_one_arm",
        "activity_loss_scale",
        "replica_local_statistics",
        "random_stream_differs",
        "replica_local_normalization",
        "replica_reported_loss",
        "numeric_precision",
    }
    assert {deviation.name for deviation in DEVIATIONS} == {item.cause for item in PLANTED.values()} | elsewhere


def test_clipping_is_not_blamed_without_a_clipping_option() -> None:
    planted = PLANTED["clipnorm before the reduction"]
    assert named(planted.suspect.run(), planted.reference.run())[0].name == "unexplained"


def test_one_kind_of_clipping_is_not_taken_for_another() -> None:
    for did in CLIPS:
        for said in CLIPS:
            if did != said:
                suspect = replace(TWO, local=clip(**did)).run()
                assert named(suspect, replace(ONE, after=clip(**did)).run(), options=said)[0].name == "unexplained"


def test_a_deviation_that_holds_at_every_step_is_exact_and_one_that_was_looked_at_once_is_not() -> None:
    reduced = PLANTED["reduced twice"]
    assert named(reduced.suspect.run(), reduced.reference.run())[0].exact
    early = PLANTED["not divided by the replicas"]
    assert not named(early.suspect.run(), early.reference.run())[0].exact
    last = PLANTED["mean of means of 1 + 0 rows"]
    assert named(last.suspect.run(), last.reference.run())[0].exact


def test_an_exception_in_one_arm_is_named_by_its_kind() -> None:
    failed = Trace(SPLIT, 2, error=Raised("InvalidArgumentError", "no"), reached=Stage.LOSS)
    cause, signature = named(failed, ONE.run())
    assert (cause.name, cause.exact) == ("raises_in_one_arm", True)
    assert signature == "distribution/local_gradient/raises_in_one_arm/InvalidArgumentError"


@pytest.mark.parametrize(("ulps", "cause"), [(1, "numeric_precision"), (8, "numeric_precision"), (9, "unexplained")])
def test_a_report_a_few_ulps_off_is_rounding(ulps: int, cause: str) -> None:
    reference = replace(ONE, batches=UNEVEN).run()
    suspect = replace(ONE, arm=FIT, batches=UNEVEN).run()
    moved = np.float32(suspect.logs[1, "loss"])
    for _ in range(ulps):
        moved = np.nextafter(moved, np.float32(9))
    suspect.logs[1, "loss"] = float(moved)
    assert named(suspect, reference)[0].name == cause


def test_a_loss_reported_by_replicas_is_named_and_a_near_miss_is_not() -> None:
    """The sum of the replicas' losses, reported as Keras does: the mean of N x share, weighted with the rows."""
    summed = replace(TWO, batches=UNEVEN, scale=lambda *_: 1.0)
    suspect, reference = summed.run(), replace(ONE, batches=UNEVEN, scale=lambda *_: 1.0).run()
    held = np.array([[2, 2], [2, 1]], float)
    losses = 2 * np.array([[float(v) for v in suspect.values[step, Stage.LOSS, "loss"]] for step in (0, 1)])
    suspect.logs = {(0, "loss"): float((losses[:1] * held[:1]).sum() / held[:1].sum())}
    suspect.logs[1, "loss"] = float(((losses * held).sum(axis=0) / held.sum(axis=0)).mean())
    suspect.epoch_logs = {(0, "loss"): float((losses * held).sum() / held.sum())}
    assert named(suspect, reference)[0].name == "replica_reported_loss"
    assert named(spoiled(suspect, Stage.LOGS, 1), reference)[0].name == "unexplained"


# Deviations that are tested by training another case.


def case(*layers: tuple[str, dict[str, Any]], rows: int = 8) -> Case:
    names = ["x", *(f"n{index}" for index in range(len(layers)))]
    nodes = tuple(
        Node(name=name, layer=layer, config=FrozenMap(config), inputs=(before,))
        for (layer, config), name, before in zip(layers, names[1:], names, strict=False)
    )
    return Case(
        model=Model(inputs=(Input(name="x", shape=(2,)),), nodes=nodes, outputs=(names[-1],)),
        losses=(Loss(name="mean_squared_error"),),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=rows, batch_size=4),
    )


DENSE = ("Dense", {"units": 1})
DROPOUT, NORMALIZATION = ("Dropout", {"rate": 0.5}), ("BatchNormalization", {})
PENALIZED = ("Dense", {"units": 1, "activity_regularizer": {"l2": 0.125}})


def fixes(*wanted: str) -> Callable[[Case], bool]:
    """Whether a changed case has all of what cures it: silent layers, synchronized statistics, no activity penalty."""

    def vanishes(changed: Case) -> bool:
        configs = [node.config for node in changed.model.nodes]
        has = {
            "silent": all(config.get("rate", 0.0) == 0.0 for config in configs),
            "synchronized": all(
                node.config.get("synchronized", False)
                for node in changed.model.nodes
                if node.layer == "BatchNormalization"
            ),
            "no penalty": all(config.get("activity_regularizer") is None for config in configs),
            "even": changed.data.rows % 4 == 0,
        }
        return all(has[name] for name in wanted)

    return vanishes


def moved(stage: Stage, batches: Any = EVEN) -> tuple[Trace, Trace]:
    """Two trainings that differ from a stage of the last step on in a way that no arithmetic here reproduces."""
    suspect, reference = replace(TWO, batches=batches).run(), replace(ONE, batches=batches).run()
    return spoiled(suspect, stage, 1), reference


@pytest.mark.parametrize(
    ("layers", "cure", "wanted"),
    [
        ([DROPOUT, DENSE], "silent", "distribution/outputs/random_stream_differs/Dropout"),
        ([NORMALIZATION, DENSE], "synchronized", "distribution/outputs/replica_local_statistics/BatchNormalization"),
        ([DENSE], "", "distribution/outputs/unexplained"),
    ],
    ids=["dropout", "normalization", "neither"],
)
def test_what_vanishes_without_a_layers_doing_is_that_layers(layers: Any, cure: str, wanted: str) -> None:
    suspect, reference = moved(Stage.OUTPUTS)
    cured = fixes(*([cure] if cure else ["even"]))
    assert named(suspect, reference, case=case(*layers), vanishes=cured)[1] == wanted
    # Where the difference stays, the layer is not to blame.
    stays = named(suspect, reference, case=case(*layers), vanishes=lambda changed: False)
    assert stays[1] == "distribution/outputs/unexplained"


@pytest.mark.parametrize("layers", [[DROPOUT, NORMALIZATION, DENSE], [NORMALIZATION, DROPOUT, DENSE]])
def test_two_layers_that_do_it_together_are_both_told(layers: Any) -> None:
    suspect, reference = moved(Stage.OUTPUTS)
    cause, signature = named(suspect, reference, case=case(*layers), vanishes=fixes("silent", "synchronized"))
    assert cause.name in ("random_stream_differs", "replica_local_statistics")
    assert signature.endswith(layers[0][0])


def test_an_activity_penalty_on_an_uneven_split_is_named() -> None:
    suspect, reference = moved(Stage.LOSS, UNEVEN)
    uneven = case(PENALIZED, rows=7)
    cause, signature = named(suspect, reference, case=uneven, vanishes=fixes("no penalty"))
    assert cause.name == "activity_loss_scale"
    assert signature == "distribution/loss/activity_loss_scale"
    assert named(suspect, reference, case=uneven, vanishes=lambda changed: False)[0].name == "unexplained"
    even_suspect, even_reference = moved(Stage.LOSS)
    blamed = named(even_suspect, even_reference, case=case(PENALIZED), vanishes=fixes("no penalty"))[0]
    assert blamed.name == "unexplained"


def test_what_vanishes_on_an_even_split_alone_is_a_mean_of_means() -> None:
    suspect, reference = moved(Stage.LOSS, UNEVEN)
    cause, _ = named(suspect, reference, case=case(DENSE, rows=7), vanishes=fixes("even"))
    assert (cause.name, cause.exact) == ("replica_mean_of_means", False)


def test_without_a_case_nothing_is_trained_to_find_out() -> None:
    suspect, reference = moved(Stage.OUTPUTS)
    assert named(suspect, reference)[0].name == "unexplained"


def test_weights_on_a_scalar_loss_are_named() -> None:
    suspect, reference = moved(Stage.LOSS, UNEVEN)
    plain = case(DENSE, rows=7)
    weighted = msgspec.structs.replace(
        plain,
        losses=(Loss(name="scalar_function"),),
        data=msgspec.structs.replace(plain.data, sample_weight="ramp"),
    )

    def vanishes(changed: Case) -> bool:
        return changed.data.sample_weight is None and changed.losses[0].name == "mean_squared_error"

    assert named(suspect, reference, case=weighted, vanishes=vanishes)[0].name == "replica_local_normalization"
    # Without weights, or without a scalar, it is something else.
    assert named(suspect, reference, case=plain, vanishes=vanishes)[0].name != "replica_local_normalization"


def test_every_deviation_has_an_entry_and_says_which_of_its_ways_it_is() -> None:
    assert {deviation.name for deviation in DEVIATIONS} <= CAUSES.keys()
    ways = Counter((deviation.name, deviation.told) for deviation in DEVIATIONS)
    assert max(ways.values()) == 1
