"""The referee says nothing of what is right, and says at which step and stage what is not."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.arm import parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer, Schedule
from conformance.frozen import FrozenMap
from conformance.prepare import PreparedArm, release
from conformance.referee.evaluate import ALL_RULES
from conformance.referee.judgement import Judgement, Referee
from conformance.referee.loss_clauses import shares
from conformance.stage import FINAL, Stage
from conformance.trace import Trace
from conformance.training import Training, training

Layer = tuple[str, dict[str, Any]]


def chain(*layers: Layer, shape: tuple[int, ...] = (4, 2), **changes: Any) -> Case:
    """A sequential case of these layers, as small as they get, under Adam."""
    names = ["x", *(f"layer_{index}" for index in range(len(layers)))]
    nodes = tuple(
        Node(name=name, layer=layer, config=FrozenMap(config), inputs=(before,))
        for (layer, config), name, before in zip(layers, names[1:], names, strict=False)
    )
    parts: dict[str, Any] = {
        "model": Model(inputs=(Input(name="x", shape=shape),), nodes=nodes, outputs=(names[-1],)),
        "losses": (Loss(name="mean_squared_error"),),
        "optimizer": Optimizer(name="Adam", config=FrozenMap(learning_rate=0.015625)),
        "data": Data(rows=7, batch_size=4, seed=3),
        "schedule": Schedule(epochs=2),
        "seed": 5,
    }
    return Case(**{**parts, **changes})


DENSE: Layer = ("Dense", {"units": 1})
RICH = chain(
    ("Conv1D", {"filters": 2, "kernel_size": 2, "kernel_regularizer": {"l2": 0.125}, "activation": "tanh"}),
    ("BatchNormalization", {"momentum": 0.5}),
    ("Flatten", {}),
    ("Dropout", {"rate": 0.5}),
    ("Dense", {"units": 1, "bias_regularizer": {"l1": 0.125}, "activity_regularizer": {"l2": 0.125}}),
    optimizer=Optimizer(name="AdamW", config=FrozenMap(learning_rate=0.015625, weight_decay=0.125, clipnorm=1.0)),
    metrics=("mean_absolute_error",),
)


@pytest.fixture(autouse=True)
def _released() -> Any:
    yield
    release()


def recorded(case: Case, arm: str) -> tuple[Training, Trace]:
    subject = training(case)
    trace = PreparedArm(parse_arm(arm), subject).run()
    assert trace.error is None
    return subject, trace


def judged(case: Case, arm: str) -> Judgement:
    subject, trace = recorded(case, arm)
    return Referee(subject).judge(trace)


@pytest.mark.parametrize(
    "arm",
    ["fit/single/graph", "fit/single/eager", "fit/single/xla", "loop/single/graph", "train_on_batch/single/eager"],
)
def test_a_correct_arm_conforms_at_every_stage(arm: str) -> None:
    case = msgspec.structs.replace(RICH, data=Data(rows=8, batch_size=4, seed=3)) if arm.endswith("xla") else RICH
    judgement = judged(case, arm)
    assert judgement.conforms, judgement.departures
    assert not judgement.skipped
    # Batch to state of every step, the reports not among them.
    assert set(judgement.ratios) == set(Stage) - {Stage.BATCH, Stage.LOGS}
    assert judgement.compared > 100


@pytest.mark.parametrize("layer", ["Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "AlphaDropout"])
def test_random_layers_draw_what_the_arm_drew(layer: str) -> None:
    from conformance.layers import LAYERS

    if layer not in LAYERS:
        pytest.skip(f"{layer} is not drawn")
    config = {"stddev" if layer == "GaussianNoise" else "rate": 0.5}
    judgement = judged(chain((layer, config), ("Flatten", {}), DENSE), "fit/single/eager")
    assert judgement.conforms, judgement.departures


MOVED = [
    (Stage.OUTPUTS, "layer_4"),
    (Stage.LOSS, "loss"),
    (Stage.LOCAL_GRADIENT, "kernel"),
    (Stage.GRADIENT, "kernel"),
    (Stage.UPDATE, "kernel_momentum"),
    (Stage.WEIGHTS, "kernel"),
    (Stage.STATE, "moving_mean"),
]


@pytest.mark.parametrize(("stage", "name"), MOVED, ids=lambda value: getattr(value, "value", value))
def test_one_part_in_a_thousand_is_seen_at_its_stage_and_step_and_nowhere_before(stage: Stage, name: str) -> None:
    subject, trace = recorded(RICH, "fit/single/eager")
    changed = copy.deepcopy(trace)
    step = 2
    key = next(key for key in trace.values if key[:2] == (step, stage) and key[2].endswith(name))
    changed.values[key] = tuple((value * np.float32(1.001)).astype(value.dtype) for value in trace.values[key])
    judgement = Referee(subject).judge(changed)
    first = min(judgement.departures, key=lambda item: (item.step, item.stage.order))
    assert (first.stage, first.step) == (stage, step), judgement.departures
    # The step after starts from what was recorded, so no other stage of this step is wrong because of it, but those
    # that are computed from it.
    assert {item.step for item in judgement.departures} <= {step, step + 1, 3}


def test_what_is_frozen_is_judged_to_the_end() -> None:
    case = chain(("Flatten", {}), ("Dense", {"units": 2, "trainable": False}), DENSE, schedule=Schedule())
    subject, trace = recorded(case, "fit/single/eager")
    judgement = Referee(subject).judge(trace)
    assert judgement.conforms
    assert judgement.skipped == []
    frozen = next(key for key in trace.values if key[0] == FINAL and key[2].endswith("layer_1/kernel"))
    trace.values[frozen] = tuple(value + np.float32(1e-3) for value in trace.values[frozen])
    assert [(item.stage, item.step) for item in Referee(subject).judge(trace).departures] == [(Stage.WEIGHTS, FINAL)]


def test_a_bias_in_front_of_a_normalization_is_noise_and_the_rest_is_judged_sharply() -> None:
    """Its gradient is 0, and Adam makes whole steps of what rounding leaves of it."""
    case = chain(("Flatten", {}), ("Dense", {"units": 3}), ("BatchNormalization", {}), DENSE)
    subject, trace = recorded(case, "fit/single/graph")
    bias = next(key for key in trace.values if key[1] is Stage.LOCAL_GRADIENT and key[2].endswith("layer_1/bias"))
    assert np.abs(trace.values[bias][0]).max() < 1e-6
    assert Referee(subject).judge(trace).conforms
    kernel = next(key for key in trace.values if key[1] is Stage.LOCAL_GRADIENT and key[2].endswith("layer_1/kernel"))
    trace.values[kernel] = tuple(value * np.float32(1.001) for value in trace.values[kernel])
    assert [item.stage for item in Referee(subject).judge(trace).departures][:1] == [Stage.LOCAL_GRADIENT]


def test_a_normalization_of_few_rows_is_allowed_what_its_products_lose_when_they_cancel() -> None:
    """Of two rows on a replica, mean times scale is large beside what is left of it, and the gradient smaller still."""
    case = Case(
        model=Model(
            inputs=(Input(name="input_1", shape=(6, 1)),),
            nodes=(
                Node(
                    name="dense_1",
                    layer="Dense",
                    config=FrozenMap(units=2, activation="gelu", kernel_constraint=FrozenMap(max_norm=1.0)),
                    inputs=("input_1",),
                ),
                Node(name="flatten_1", layer="Flatten", inputs=("dense_1",)),
                Node(
                    name="activation_1", layer="Activation", config=FrozenMap(activation="relu"), inputs=("flatten_1",)
                ),
                Node(name="normalization_1", layer="BatchNormalization", inputs=("activation_1",)),
                Node(name="dense_2", layer="Dense", config=FrozenMap(units=1), inputs=("normalization_1",)),
            ),
            outputs=("dense_2",),
        ),
        losses=(Loss(name="mean_absolute_error", config=FrozenMap(reduction="sum")),),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=15, batch_size=5, seed=8),
        seed=3,
    )
    stages = [item.stage for item in judged(case, "loop/mirrored:2/graph").departures]
    assert Stage.LOCAL_GRADIENT not in stages
    # It sees that the replicas' statistics are their own.
    assert Stage.OUTPUTS in stages


SMOOTH = [
    chain(("Flatten", {}), ("Dense", {"units": 3, "activation": "gelu"}), DENSE),
    chain(("Conv1D", {"filters": 2, "kernel_size": 2, "activation": "tanh"}), ("GlobalAveragePooling1D", {}), DENSE),
    chain(("LSTM", {"units": 2}), DENSE),
    chain(("GRU", {"units": 2}), DENSE),
    chain(("BatchNormalization", {}), ("Flatten", {}), DENSE),
    chain(("LayerNormalization", {}), ("Flatten", {}), DENSE, losses=(Loss(name="log_cosh"),)),
    RICH,
]


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.model.nodes[0].layer)
def test_the_gradient_that_is_shared_with_keras_is_the_derivative_of_the_loss(case: Case) -> None:
    """A central difference along a random direction, in float64: layers and tape are guarded by it."""
    subject, trace = recorded(case, "fit/single/eager")
    evaluator, _ = Referee(subject).evaluators(trace)
    (gradients,) = zip(*evaluator.local_gradients(0).values(), strict=True)
    names = list(evaluator.local_gradients(0))
    rng, size = np.random.default_rng(0), 1e-6
    direction = {name: rng.standard_normal(g.shape) for name, g in zip(names, gradients, strict=True)}
    before = evaluator.reading.weights(0, 0)
    states = evaluator.reading.states(0, 0)

    def loss_at(scale: float) -> float:
        moved = {name: before[name].astype(np.float64) + scale * d for name, d in direction.items()}
        evaluator.twin.load({**before, **states, **moved})
        passes = [evaluator.twin.forward(evaluator.reading.inputs(0, 0))]
        evaluator.twin.load(moved)
        return float(shares(evaluator.scene(0, passes, recorded=False), ALL_RULES)[0])

    numeric = (loss_at(size) - loss_at(-size)) / (2 * size)
    exact = sum(float((g * direction[name]).sum()) for name, g in zip(names, gradients, strict=True))
    assert numeric == pytest.approx(exact, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("synchronized", [False, True])
def test_a_normalization_in_the_arms_precision_rounds_its_gradient_as_the_library_does(synchronized: bool) -> None:
    import keras
    import tensorflow as tf

    from conformance.referee.normalization import replace_calls

    def gradient(model: Any, x: Any, towards: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x, training=True)
        return tape.gradient(outputs, x, output_gradients=towards).numpy()

    random = np.random.default_rng(0)
    far = 0.0
    for _ in range(20):
        inputs = keras.Input((3,))
        model = keras.Model(inputs, keras.layers.BatchNormalization(synchronized=synchronized)(inputs))
        # Two rows far from nought: what is left of their gradient is what did not cancel.
        x, towards = (tf.constant(random.normal(loc, 1.0, (2, 3)).astype("float32")) for loc in (3.0, 0.0))
        library = gradient(model, x, towards)
        replace_calls(model)
        ours = gradient(model, x, towards)
        far = max(far, float(np.abs(ours - library).max() / np.abs(library).max()))
    assert far < (1e-3 if synchronized else 1e-5)


def test_a_model_that_cannot_be_made_in_float64_is_said_to_be_so() -> None:
    import keras

    from conformance.api import check

    class OnlyFloat32(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            if self.compute_dtype == "float64":
                raise TypeError("this layer computes in float32")

        def call(self, inputs: Any) -> Any:
            return inputs

    x = np.ones((4, 2), np.float32)
    verdict = check(
        model=lambda: keras.Sequential([keras.Input((2,)), OnlyFloat32(), keras.layers.Dense(1)]),
        loss="mse",
        optimizer="sgd",
        data=(x, x[:, :1]),
        batch_size=2,
    )
    assert verdict.conforms
    assert any("this layer computes in float32" in line for line in verdict.not_compared)
