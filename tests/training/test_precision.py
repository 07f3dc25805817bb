"""Every precision: the trainers agree in it, the referee judges it, and its loss scale is followed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.arm import parse_arm
from conformance.case import (
    PRECISIONS,
    Case,
    Data,
    Input,
    Loss,
    Model,
    Node,
    Optimizer,
    Schedule,
    from_json,
    to_json,
)
from conformance.compare import compare
from conformance.frozen import FrozenMap
from conformance.prepare import PreparedArm, release
from conformance.referee.judgement import Referee
from conformance.stage import Stage
from conformance.trace import Trace
from conformance.training import Training, training


def case(precision: str, *, rows: int = 7, **changes: Any) -> Case:
    """Statistics and random masks under Adam, with a partial last batch."""
    layers: list[tuple[str, str, dict[str, Any]]] = [
        ("first", "Dense", {"units": 3, "activation": "tanh"}),
        ("norm", "BatchNormalization", {"momentum": 0.5}),
        ("drop", "Dropout", {"rate": 0.5}),
        ("last", "Dense", {"units": 1}),
    ]
    before = ["x", *(layer[0] for layer in layers)]
    nodes = tuple(
        Node(name=name, layer=layer, config=FrozenMap(options), inputs=(given,))
        for (name, layer, options), given in zip(layers, before, strict=False)
    )
    parts: dict[str, Any] = {
        "model": Model(inputs=(Input(name="x", shape=(3,)),), nodes=nodes, outputs=("last",)),
        "losses": (Loss(name="mean_squared_error"),),
        "optimizer": Optimizer(name="Adam", config=FrozenMap(learning_rate=0.015625)),
        "data": Data(rows=rows, batch_size=4, seed=3),
        "schedule": Schedule(epochs=2),
        "metrics": ("mean_absolute_error",),
        "seed": 5,
        "precision": precision,
    }
    return Case(**{**parts, **changes})


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def ran(subject: Training, arm: str) -> Trace:
    trace = PreparedArm(parse_arm(arm), subject).run()
    assert trace.error is None
    return trace


@pytest.mark.parametrize("execution", ["eager", "graph"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_trainers_agree_bit_for_bit_and_the_referee_with_them(precision: str, execution: str) -> None:
    subject = training(case(precision))
    fit, loop = (ran(subject, f"{trainer}/single/{execution}") for trainer in ("fit", "loop"))
    comparison = compare(loop, fit)
    assert comparison.first is None, comparison.first
    assert comparison.compared > 20 * fit.steps
    judgement = Referee(subject).judge(fit)
    assert judgement.conforms, judgement.departures
    assert not judgement.skipped
    assert set(judgement.ratios) == set(Stage) - {Stage.BATCH, Stage.LOGS}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_changed_gradient_is_seen(precision: str) -> None:
    """By a part in a thousand, in half precisions by one in twenty."""
    subject = training(case(precision))
    trace = ran(subject, "fit/single/eager")
    factor = 1.05 if precision.startswith("mixed") else 1.001
    step, name = 3, "model/last/kernel"
    changed = copy.deepcopy(trace)
    key = (step, Stage.LOCAL_GRADIENT, name)
    changed.values[key] = tuple((value * factor).astype(value.dtype) for value in trace.values[key])
    departures = Referee(subject).judge(changed).departures
    assert {(item.step, item.name) for item in departures} == {(step, name)}
    assert {item.stage for item in departures} <= {Stage.LOCAL_GRADIENT, Stage.GRADIENT}


def test_everything_is_in_the_precision_it_should_be_in() -> None:
    for precision in PRECISIONS:
        dtype = np.dtype("float64" if precision == "float64" else "float32")
        trace = ran(training(case(precision)), "fit/single/eager")
        kernel = "model/last/kernel"
        assert {trace.values[0, stage, kernel][0].dtype for stage in (Stage.WEIGHTS, Stage.LOCAL_GRADIENT)} == {dtype}
        (outputs,) = trace.stage(0, Stage.OUTPUTS)["last"]
        # Half precisions in a wider copy: so few digits are theirs.
        assert outputs.dtype == dtype
        digits = {"mixed_bfloat16": 8, "mixed_float16": 11}.get(precision)
        mantissas = np.frexp(outputs)[0]
        assert digits is None or (mantissas * 2.0**digits % 1 == 0).all()


def test_a_loss_scale_is_among_the_slots_and_scales_the_gradients() -> None:
    import keras

    from conformance import build

    subject = training(case("mixed_float16"))
    arm = PreparedArm(parse_arm("fit/single/graph"), subject)
    trace = arm.run()
    assert type(arm.model.optimizer) is keras.optimizers.LossScaleOptimizer
    assert arm.model.optimizer is arm.optimizer
    assert type(arm.optimizer.inner_optimizer) is keras.optimizers.Adam
    slots = {name: float(values[0]) for name, values in trace.before(0, Stage.UPDATE).items() if not values[0].shape}
    (scale,) = (value for name, value in slots.items() if name.endswith("dynamic_scale"))
    assert scale == 2.0**15
    # It overflows at first: such steps leave the weights alone and halve the scale.
    skipped = [step for step in range(trace.steps) if not trace.stage(step, Stage.GRADIENT)]
    scales = [float(values[0]) for (_, stage, name), values in trace.values.items() if name.endswith("dynamic_scale")]
    assert 0 < len(skipped) < trace.steps
    assert min(scales) == scale / 2 ** len(skipped)
    last = trace.steps - 1
    before = next(float(v[0]) for n, v in trace.before(last, Stage.UPDATE).items() if n.endswith("dynamic_scale"))
    for name, (received,) in trace.stage(last, Stage.GRADIENT).items():
        np.testing.assert_array_equal(trace.values[last, Stage.LOCAL_GRADIENT, name][0], received * before)
    assert not isinstance(build.optimizer(case("mixed_bfloat16")), keras.optimizers.LossScaleOptimizer)


def test_replicas_agree_with_one_device_in_float64() -> None:
    """Without statistics, which are each replica's own."""
    nodes = tuple(
        Node(name=name, layer="Dense", config=FrozenMap(units=2 if name == "first" else 1), inputs=(given,))
        for name, given in (("first", "x"), ("last", "first"))
    )
    model = Model(inputs=(Input(name="x", shape=(3,)),), nodes=nodes, outputs=("last",))
    subject = training(case("float64", rows=8, model=model))
    one, two = (ran(subject, f"fit/{placement}/graph") for placement in ("single", "mirrored:2"))
    for key in one.values:
        if key[1] in (Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.WEIGHTS):
            assert two.merged(key).dtype == np.float64
            np.testing.assert_allclose(two.merged(key), one.merged(key), rtol=1e-6, atol=1e-9)
    judgement = Referee(subject).judge(two)
    assert judgement.conforms, judgement.departures


def penalized(precision: str, **options: Any) -> Case:
    """Three outputs with weighted losses, one of them a function's."""
    config = FrozenMap({"units": 1, **options})
    names = ("one", "two", "three")
    losses = zip(("mean_squared_error", "huber", "scalar_function"), (0.3, 0.7, 0.1), strict=True)
    return case(
        precision,
        model=Model(
            kind="functional",
            inputs=(Input(name="x", shape=(3,)),),
            nodes=tuple(Node(name=name, layer="Dense", config=config, inputs=("x",)) for name in names),
            outputs=names,
        ),
        losses=tuple(Loss(name=name, weight=weight) for name, weight in losses),
        metrics=(),
    )


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_losses_of_several_outputs_add_up_alike(precision: str) -> None:
    options = {} if precision == "float64" else {"kernel_regularizer": {"l2": 0.125}}
    subject = training(penalized(precision, **options))
    fit, loop = (ran(subject, f"{trainer}/single/eager") for trainer in ("fit", "loop"))
    comparison = compare(loop, fit)
    assert comparison.first is None, comparison.first
    judgement = Referee(subject).judge(fit)
    assert judgement.conforms, judgement.departures


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_a_loop_adds_penalties_up_that_fit_cannot(precision: str) -> None:
    """Keras 3.15 sums float32 losses and penalties of another dtype, which TensorFlow refuses."""
    subject = training(penalized(precision, activity_regularizer={"l2": 0.3}))
    fit = PreparedArm(parse_arm("fit/single/eager"), subject).run()
    loop = ran(subject, "loop/single/eager")
    if fit.error is None:
        assert compare(loop, fit).first is None
    else:
        assert "cannot compute Pack" in fit.error.message
    judgement = Referee(subject).judge(loop)
    assert judgement.conforms, judgement.departures


def test_the_policy_that_was_set_is_put_back() -> None:
    import keras

    from conformance import build

    before = keras.config.dtype_policy().name
    for precision in PRECISIONS:
        assert {layer.dtype_policy.name for layer in build.model(case(precision)).layers} == {precision}
        assert keras.config.dtype_policy().name == before


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_case_goes_to_json_and_back(precision: str) -> None:
    subject = case(precision)
    text = to_json(subject)
    assert from_json(text) == subject
    assert ("precision" in text) == (precision != "float32")
    assert msgspec.structs.replace(subject, precision="float32") == case("float32")
