"""The same mode owes the same bits: fit, the loop and train_on_batch agree without any allowance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.arm import parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.compare import compare
from conformance.frozen import FrozenMap
from conformance.prepare import PreparedArm, release
from conformance.training import Training, training

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "nesterov": ("SGD", {"learning_rate": 0.125, "momentum": 0.5, "nesterov": True}),
    "adam": ("Adam", {"learning_rate": 0.015625}),
    "clipped adamw": ("AdamW", {"learning_rate": 0.015625, "weight_decay": 0.125, "clipnorm": 0.125}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.015625, "centered": True, "momentum": 0.5}),
    "adagrad": ("Adagrad", {"learning_rate": 0.125}),
    "nadam": ("Nadam", {"learning_rate": 0.015625}),
    "ftrl": ("Ftrl", {"learning_rate": 0.125}),
}
AVERAGED = ("SGD", {"learning_rate": 0.125, "use_ema": True, "ema_momentum": 0.5})
"""Its averages are written into the weights when training ends, outside of any graph."""


def case(optimizer: str, rows: int) -> Case:
    """Statistics, random masks, penalties and shared shapes, as small as they get."""
    name, config = AVERAGED if optimizer == "averaged" else OPTIMIZERS[optimizer]
    layers: list[tuple[str, str, dict[str, Any]]] = [
        ("first", "Dense", {"units": 3, "activation": "tanh", "kernel_regularizer": {"l2": 0.125}}),
        ("norm", "BatchNormalization", {}),
        ("drop", "Dropout", {"rate": 0.5}),
        ("last", "Dense", {"units": 1, "activity_regularizer": {"l2": 0.125}}),
    ]
    before = ["x", *(layer[0] for layer in layers)]
    nodes = tuple(
        Node(name=name, layer=layer, config=FrozenMap(options), inputs=(given,))
        for (name, layer, options), given in zip(layers, before, strict=False)
    )
    return Case(
        model=Model(inputs=(Input(name="x", shape=(3,)),), nodes=nodes, outputs=("last",)),
        losses=(Loss(name="huber"),),
        optimizer=Optimizer(name=name, config=FrozenMap(config)),
        data=Data(rows=rows, batch_size=4, seed=7),
        metrics=("mean_absolute_error",),
        seed=3,
    )


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def assert_same_bits(subject: Training, *arms: str) -> None:
    first, *others = [PreparedArm(parse_arm(arm), subject).run() for arm in arms]
    assert first.error is None
    for other in others:
        comparison = compare(other, first)
        assert comparison.first is None, comparison.first
        # Every step's batch, outputs, loss, gradients, slots, weights and states at the least.
        assert comparison.compared > 20 * first.steps


@pytest.mark.parametrize("execution", ["graph", "eager"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trainers_agree_bit_for_bit_on_one_device(optimizer: str, execution: str) -> None:
    """With a partial last batch."""
    trainers = ("fit", "loop", "train_on_batch")
    assert_same_bits(training(case(optimizer, 10)), *(f"{trainer}/single/{execution}" for trainer in trainers))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit_and_loop_agree_bit_for_bit_on_replicas(optimizer: str) -> None:
    assert_same_bits(training(case(optimizer, 8)), "fit/mirrored:2/graph", "loop/mirrored:2/graph")


def test_fit_and_loop_agree_bit_for_bit_on_replicas_eagerly_and_with_a_partial_batch() -> None:
    assert_same_bits(training(case("adam", 11)), "fit/mirrored:2/eager", "loop/mirrored:2/eager")


@pytest.mark.parametrize("trainer", ["fit", "loop", "train_on_batch"])
def test_an_arm_agrees_with_itself_run_again(trainer: str) -> None:
    arm = PreparedArm(parse_arm(f"{trainer}/single/graph"), training(case("averaged", 10)))
    first, again = arm.run(), arm.run()
    comparison = compare(first, again)
    assert comparison.first is None, comparison.first
    assert comparison.compared > 20 * first.steps


def test_a_moved_start_is_seen() -> None:
    """The same comparison, of runs that began an ulp apart, does not come out empty."""
    import numpy as np

    arm = PreparedArm(parse_arm("fit/single/graph"), training(case("adam", 10)))
    difference = compare(arm.run(moved=np.random.default_rng(0)), arm.run()).first
    assert difference is not None
    assert difference.step == 0


def test_the_losses_of_two_outputs_are_each_replicas_own() -> None:
    inputs = (Input(name="x", shape=(2,)),)
    nodes = tuple(Node(name=n, layer="Dense", config=FrozenMap(units=1), inputs=("x",)) for n in ("one", "two"))
    two = Case(
        model=Model(kind="functional", inputs=inputs, nodes=nodes, outputs=("one", "two")),
        losses=(Loss(name="mean_squared_error"), Loss(name="mean_absolute_error")),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=4, batch_size=4),
    )
    subject = training(two)
    traces = [PreparedArm(parse_arm(f"{name}/mirrored:2/graph"), subject).run() for name in ("fit", "loop")]
    assert {name for _, name in traces[1].epoch_logs} == {"loss", "one_loss", "two_loss"}
    comparison = compare(*traces)
    assert comparison.first is None, comparison.first
