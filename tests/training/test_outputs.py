"""What is asked for each output, by name, in a list or for all of them, is what `compile` makes of it.

Nearly nothing is trained here: Keras's own losses and metrics are computed once, eagerly, of what the user gives and of
what the harness makes of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.data import Arrays
from conformance.errors import UsageError
from conformance.user_metrics import check_metrics
from conformance.user_parts import Asked, asked

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3)).astype("float32")
REALS = RNG.normal(size=(6, 1)).astype("float32")
LABELS = np.array([0, 1, 2, 2, 1, 0], "int32")
SIGNS = (REALS > 0).astype("int32")


def _dense(units: int, name: str, activation: str | None = None) -> Any:
    import keras

    start = keras.initializers.GlorotUniform(seed=units)
    return keras.layers.Dense(units, activation=activation, name=name, kernel_initializer=start)


def listed() -> Any:
    import keras

    inputs = keras.Input((3,))
    return keras.Model(inputs, [_dense(1, "real")(inputs), _dense(3, "label", "softmax")(inputs)])


def by_name() -> Any:
    import keras

    inputs = keras.Input((3,))
    return keras.Model(inputs, {"real": _dense(1, "real")(inputs), "label": _dense(3, "label", "softmax")(inputs)})


def one() -> Any:
    import keras

    inputs = keras.Input((3,))
    return keras.Model(inputs, _dense(1, "sign", "sigmoid")(inputs))


def closeToIt(y_true: Any, y_pred: Any) -> Any:  # noqa: N802 - Keras turns such names into others
    import tensorflow as tf

    return tf.cast(tf.abs(tf.cast(y_true, y_pred.dtype) - y_pred) < 0.5, tf.float32)


def made(kind: str, **options: Any) -> Any:
    import keras

    return getattr(keras.metrics, kind)(**options)


TWO = Arrays((X,), (REALS, LABELS))
NAMED = Arrays((X,), (LABELS, REALS), None, (), ("label", "real"))
ONE = Arrays((X,), (SIGNS,))
FLAT = Arrays((X,), (SIGNS[:, 0],))
LOSSES = {"real": "mse", "label": "sparse_categorical_crossentropy"}

ASKED: dict[str, tuple[Callable[[], Any], Arrays, Any, Any, Any]] = {
    "by name": (listed, TWO, LOSSES, {"label": ["accuracy"], "real": "mae"}, {"label": 0.5, "real": 2.0}),
    "by name for one alone": (listed, TWO, LOSSES, {"label": "acc"}, None),
    "lists for each": (listed, TWO, [*LOSSES.values()], [["mae", closeToIt], ["accuracy"]], [2.0, 0.5]),
    "an entry for each": (listed, TWO, [*LOSSES.values()], ["mae", "accuracy"], None),
    "nothing for one": (listed, TWO, ["mse", "crossentropy"], [None, ["accuracy"]], None),
    "outputs by name": (by_name, NAMED, LOSSES, {"real": ["mae"], "label": "accuracy"}, {"real": 2.0, "label": 0.5}),
    "one loss for all": (listed, Arrays((X,), (REALS, np.eye(3, dtype="float32")[LABELS])), "mse", [], None),
    "one output": (one, ONE, "binary_crossentropy", ["accuracy", "mae", closeToIt], 2.0),
    "one output by name": (one, ONE, {"sign": "ce"}, {"sign": ["acc"]}, {"sign": 0.5}),
    "one output of flat targets": (one, FLAT, "ce", ["accuracy"], [0.5]),
    "nested lists of one output": (one, ONE, ["mse"], [["accuracy"], "mae"], None),
}


def computed(model: Any, rows: Arrays, **compiled: Any) -> dict[str, float]:
    """The loss and the metrics of all rows, as `compile` and nobody else puts them together."""
    import tensorflow as tf

    model.compile(optimizer="sgd", **compiled)
    x, y = tf.nest.map_structure(tf.constant, rows.structure())
    outputs = model(x)
    loss = float(model.compute_loss(x, y, outputs))
    found = model.compute_metrics(x, y, outputs, None)
    return {"total": loss} | {name: float(value) for name, value in found.items() if name != "loss"}


@pytest.mark.parametrize(("make", "rows", "loss", "metrics", "weights"), ASKED.values(), ids=ASKED)
def test_what_is_asked_for_each_output_is_what_compile_makes_of_it(
    make: Callable[[], Any], rows: Arrays, loss: Any, metrics: Any, weights: Any
) -> None:
    found = asked(make, rows, loss, weights, metrics)
    alone = len(found.losses) == 1
    factors = None if found.weights is None else list(found.weights)
    ours = computed(
        make(),
        found.rows,
        loss=found.losses[0] if alone else found.losses,
        loss_weights=factors[0] if factors and alone else factors,
        metrics=found.metrics.made()[0] if alone else found.metrics.made(),
    )
    assert ours == computed(make(), rows, loss=loss, loss_weights=weights, metrics=metrics)


def test_metrics_that_make_themselves_are_made_anew_for_each_output() -> None:
    given = {"real": [made("MeanAbsoluteError", name="own"), functools.partial(made, "MeanSquaredError")], "label": []}
    check_metrics(given)
    metrics = asked(listed, TWO, LOSSES, None, given).metrics
    first, second = metrics.made(), metrics.made()
    assert [[metric.name for metric in part] for part in first] == [["own", "mean_squared_error"], []]
    assert first[0][0] is not second[0][0] is not given["real"][0]


def test_one_metric_in_a_list_is_for_every_output() -> None:
    found: Asked = asked(listed, TWO, "mse", None, ["mae"])
    assert found.metrics.given == [["mae"], ["mae"]]


REFUSED = {
    "too many metrics": ({"metrics": ["mae", "mse", "mae"]}, "metrics has 3 entries for 2 outputs"),
    "a list of metrics for one of two": ({"metrics": [["mae"]]}, "metrics has 1 entries for 2 outputs"),
    "metrics of another output": (
        {"metrics": {"third": "mae"}},
        "metrics: ['third'] are not the model's outputs ['real'",
    ),
    "a metric that is nothing": (
        {"metrics": [[None], "mae"]},
        "metrics hold None; only in a list with an entry for each",
    ),
    "losses for one of two": ({"loss": {"real": "mse"}}, "loss has nothing for ['label'] of the model's outputs"),
    "an output without a loss": (
        {"loss": ["mse", None]},
        "loss=['mse', None] has None for output 1; give every output",
    ),
    "too few losses": ({"loss": ["mse"]}, "loss=['mse'] has 1 entries for 2 outputs"),
    "several losses of one output": (
        {"loss": [["mse"], "mae"]},
        "has ['mse'] for output 0; give every output one loss",
    ),
    "a number for two losses": ({"loss_weights": 0.5}, "loss_weights=0.5 for 2 outputs; give a number for each"),
    "a factor for one of two": ({"loss_weights": {"real": 1.0}}, "loss_weights has nothing for ['label']"),
    "a word for a factor": ({"loss_weights": ["one", 2]}, "loss_weights=['one', 2] should be a number for each output"),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_for_the_outputs_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        asked(listed, TWO, **{"loss": LOSSES, "loss_weights": None, "metrics": [], **changes})
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mae", "metrics='mae' should be a list, or a dictionary by output"),
        ({"a": [3]}, "metrics hold 3; give names, keras.metrics.Metric objects"),
        ([["mae"], {"b": "mape_"}], "'mape_' is no metric that Keras knows"),
    ],
)
def test_what_is_no_metric_is_refused_at_any_depth(given: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_metrics(given)
    assert told in str(refused.value)


def test_several_outputs_by_name_are_trained_alike_with_labels_of_one_axis() -> None:
    verdict = conformance.check(
        model=by_name,
        loss={"real": "mse", "label": "crossentropy"},
        optimizer="sgd",
        data=(X, {"real": REALS, "label": LABELS}),
        batch_size=3,
        metrics={"real": ["mae", closeToIt], "label": "accuracy"},
        loss_weights={"label": 0.5, "real": 2.0},
    )
    assert verdict.conforms, verdict
    assert verdict.not_compared == ()


def test_a_loss_by_its_name_takes_labels_of_one_axis_beside_outputs_of_two() -> None:
    given: dict[str, Any] = {"model": one, "optimizer": "sgd", "batch_size": 3, "metrics": ["accuracy"]}
    verdict = conformance.check(**given, loss="binary_crossentropy", data=(X, SIGNS[:, 0]))
    assert verdict.conforms, verdict


def root(y_true: Any, y_pred: Any) -> Any:
    """A loss as people write it, which broadcasts whatever it is given."""
    import tensorflow as tf

    return tf.sqrt(tf.reduce_mean(tf.square(tf.cast(y_true, y_pred.dtype) - y_pred)))


def calling(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


def test_a_function_of_ones_own_takes_labels_of_one_axis_in_fit_and_broadcasts_them_in_a_loop_that_calls_it() -> None:
    given: dict[str, Any] = {"model": one, "loss": root, "optimizer": "sgd", "batch_size": 3}
    verdict = conformance.check(**given, data=(X, SIGNS[:, 0]))
    assert verdict.conforms, str(verdict)
    verdict = conformance.check(calling, **given, data=(X, SIGNS[:, 0]))
    assert verdict.wrong_arm == "trial/single/graph"
    assert verdict.cause is not None
    assert (verdict.cause.name, verdict.cause.exact) == ("label_shape_broadcast", True)
