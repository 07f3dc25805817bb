"""Every form of a loop on trial: what conforms, what is recorded of it, and what is unsupported says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.arm import parse_arm
from conformance.build import Parts
from conformance.compare import compare
from conformance.data import Arrays
from conformance.errors import UnsupportedError, UsageError
from conformance.prepare import PreparedArm, release
from conformance.stage import Stage
from conformance.trace import Trace
from conformance.trainers.forms import ARRAYS, STEP, WHOLE, loop_of
from conformance.training import Training
from conformance.validation import Validation

RNG = np.random.default_rng(5)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 1)).astype("float32")
LABELS = np.array([0, 1, 2, 1, 0, 2, 1, 1, 0, 2], "int32")
CLASS_WEIGHT = {0: 0.25, 1: 2.0}
"""A class without a weight weighs 1."""
RATE = 0.125


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def dense() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])


def linear() -> Any:
    """Without a tanh, which TensorFlow rounds in another way inside of a dataset's own functions."""
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])


def penalized() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_regularizer="l2")])


def classifier() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, activation="softmax")])


def sgd() -> Any:
    import keras

    return keras.optimizers.SGD(RATE)


def momentum() -> Any:
    import keras

    return keras.optimizers.SGD(RATE, momentum=0.5)


def given(**changes: Any) -> dict[str, Any]:
    parts = {"model": dense, "loss": "mse", "optimizer": momentum, "data": (X, Y), "batch_size": 4, "epochs": 2}
    return parts | changes


# Loops that train as `fit` does.


def gradients_of(model: Any, loss_fn: Any, x: Any, y: Any, *weights: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True), *weights)
    return loss, tape.gradient(loss, model.trainable_variables)


def plain(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    loss, gradients = gradients_of(model, loss_fn, x, y)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


def with_a_tuple(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    loss, gradients = gradients_of(model, loss_fn, x, y)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss, gradients


def with_a_dictionary(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    return {"loss": plain(model, optimizer, loss_fn, x, y), "other": 1}


def with_nothing(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
    plain(model, optimizer, loss_fn, x, y)


def evaluated_too(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """What it evaluates around the step is not taken for it."""
    model(10 * x, training=False)
    loss = plain(model, optimizer, loss_fn, x, y)
    model(10 * x, training=False)
    return loss


def under_its_own_function(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    if not COMPILED:
        COMPILED.append(tf.function(plain, reduce_retracing=True))
    return COMPILED[0](model, optimizer, loss_fn, x, y)


COMPILED: list[Any] = []


def by_hand(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    loss, gradients = gradients_of(model, loss_fn, x, y)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(RATE * gradient)
    return loss


def weighted(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    loss, gradients = gradients_of(model, loss_fn, x, y, sample_weight)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


def on_batches(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    if not model.compiled:
        model.compile(optimizer, loss_fn)
    return model.train_on_batch(x, y)


def by_compute_loss(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    if not model.compiled:
        model.compile(optimizer, loss_fn)
    return plain(model, optimizer, lambda y, p: model.compute_loss(x, y, p), x, y)


STEPS = {
    "a scalar": (plain, "graph", {}),
    "a tuple, apply_gradients": (with_a_tuple, "graph", {}),
    "a dictionary": (with_a_dictionary, "graph", {}),
    "nothing": (with_nothing, "graph", {}),
    "an eager step": (plain, "eager", {}),
    "a step that evaluates too": (evaluated_too, "graph", {}),
    "a compiled step": (under_its_own_function, "graph", {}),
    "a compiled step, eagerly": (under_its_own_function, "eager", {}),
    "an update by hand": (by_hand, "graph", {"optimizer": sgd}),
    "sample weights": (weighted, "graph", {"data": (X, Y, np.abs(Y[:, 0]))}),
    "train_on_batch, eagerly": (on_batches, "eager", {}),
    "compute_loss": (by_compute_loss, "graph", {}),
    "xla": (plain, "xla", {"data": (X[:8], Y[:8]), "epochs": 1}),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_correct_step_conforms(name: str) -> None:
    step, execution, changes = STEPS[name]
    arguments = given(metrics=("mae",), executions=(execution,), **changes)
    verdict = conformance.assert_conforms(step, **arguments)
    # A step that returns no loss has none compared; one that is written by hand has no gradients and no slots.
    hidden = {"nothing": {"loss", "logs"}, "an update by hand": {"local_gradient", "gradient", "update"}}
    assert {line.split()[0] for line in verdict.not_compared} == hidden.get(name, set())


def by_epochs(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    import keras
    import tensorflow as tf

    @tf.function(input_signature=dataset.element_spec)
    def step(x: Any, y: Any) -> Any:
        return plain(model, optimizer, loss_fn, x, y)

    losses, mean = [], keras.metrics.Mean()
    for _ in range(epochs):
        mean.reset_state()
        for x, y in dataset:
            mean.update_state(step(x, y), sample_weight=len(x))
        losses.append(float(mean.result()))
    return losses


def by_steps(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> Any:
    return [plain(model, optimizer, loss_fn, x, y) for _ in range(epochs) for x, y in dataset]


def in_the_graph(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    import tensorflow as tf

    @tf.function
    def epoch() -> None:
        for x, y in dataset:
            plain(model, optimizer, loss_fn, x, y)

    for _ in range(epochs):
        epoch()


def by_fit(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, validation_data: Any) -> Any:
    model.compile(optimizer, loss_fn)
    return model.fit(
        dataset, epochs=epochs, shuffle=False, verbose=0, validation_data=validation_data, validation_batch_size=4
    )


def validated(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, validation_data: Any) -> Any:
    import keras
    import tensorflow as tf

    mean, history = keras.metrics.Mean(), []
    held_out = tf.data.Dataset.from_tensor_slices(validation_data).batch(4)
    losses: list[float] = []
    for _ in range(epochs):
        losses += by_epochs(model, optimizer, loss_fn, dataset, 1)
        mean.reset_state()
        for x, y in held_out:
            mean.update_state(loss_fn(y, model(x, training=False)), sample_weight=len(x))
        history.append(mean.result())
    return {"loss": np.array(losses), "val_loss": history}


def over_arrays(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int) -> Any:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    return {"loss": by_epochs(model, optimizer, loss_fn, dataset, epochs)}


def over_weighted_arrays(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, sample_weight: Any, batch_size: int, epochs: int
) -> None:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def step(x: Any, y: Any, sample_weight: Any) -> None:
        weighted(model, optimizer, loss_fn, x, y, sample_weight)

    for _ in range(epochs):
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            step(*(tf.constant(array[part]) for array in (x, y, sample_weight)))


HELD_OUT = (X[:6] + 1, Y[:6])

LOOPS = {
    "a loss an epoch": (by_epochs, "graph", {}),
    "everything eagerly": (by_epochs, "eager", {}),
    "a loss a step": (by_steps, "eager", {}),
    "the dataset read in the graph": (in_the_graph, "graph", {"model": linear}),
    "fit": (by_fit, "graph", {"validation_data": HELD_OUT}),
    "a dictionary with a validation": (validated, "eager", {"validation_data": HELD_OUT}),
    "arrays": (over_arrays, "graph", {}),
    "weighted arrays": (over_weighted_arrays, "graph", {"data": (X, Y, np.abs(Y[:, 0]))}),
    "arrays and class weights": (
        over_weighted_arrays,
        "graph",
        {
            "model": classifier,
            "data": (X, LABELS),
            "loss": "sparse_categorical_crossentropy",
            "class_weight": CLASS_WEIGHT,
        },
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_correct_whole_loop_conforms(name: str) -> None:
    loop, execution, changes = LOOPS[name]
    verdict = conformance.assert_conforms(loop, **given(executions=(execution,), **changes))
    hidden = [line for line in verdict.not_compared if not line.startswith("logs")]
    assert hidden == (["batch sample_weight: only fit/single/graph records it"] if "class_weight" in changes else [])
    reported = {
        "a loss a step": {"logs loss of an epoch"},
        "fit": {"logs loss of a step"},
        "a dictionary with a validation": {"logs loss of a step"},
    }
    if name in reported:
        assert {line.partition(":")[0] for line in verdict.not_compared} == reported[name]


def distributed(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any) -> None:
    import tensorflow as tf

    batches = strategy.experimental_distribute_dataset(dataset)

    @tf.function
    def step(batch: Any) -> None:
        strategy.run(lambda x, y: plain(model, optimizer, loss_fn, x, y), args=batch)

    for _ in range(epochs):
        for batch in batches:
            step(batch)


@pytest.mark.parametrize("loop", [plain, distributed], ids=["step", "whole"])
@pytest.mark.parametrize("execution", ["graph", "eager"])
def test_a_correct_loop_conforms_on_replicas(loop: Any, execution: str) -> None:
    arguments = given(data=(X[:8], Y[:8]), replicas=(1, 2), executions=(execution,))
    verdict = conformance.assert_conforms(loop, **arguments)
    assert {line for line in verdict.not_compared if not line.startswith("logs")} == set()


def test_a_compiled_step_is_compiled_by_the_driver_on_replicas() -> None:
    import tensorflow as tf

    conformance.assert_conforms(tf.function(plain), **given(data=(X[:8], Y[:8]), replicas=(1, 2)))


def own_step() -> Any:
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            x, y = data
            loss = plain(self, self.optimizer, keras.losses.MeanSquaredError(), x, y)
            return {"loss": loss}

    inner = dense()
    return Own(inner.inputs, inner.outputs)


def test_the_train_step_of_a_model_is_on_trial_with_fit() -> None:
    verdict = conformance.check(**given(model=own_step, data=(X[:8], Y[:8]), epochs=1))
    # It reports the last batch's loss as the epoch's; everything else is right, and everything else is seen.
    assert verdict.divergence is not None
    assert (verdict.divergence.stage, verdict.divergence.variable) == ("logs", "loss")
    assert {line.split()[0] for line in verdict.not_compared} == {"loss"}


# What is recorded.


def traces(
    *arms: str, loop: Any = None, validation: Any = None, class_weight: Any = None, **changes: Any
) -> list[Trace]:
    """What arms did, with nobody to judge it."""
    parts = given(**changes)
    training = Training(
        Parts(parts["model"], parts["optimizer"], lambda: [parts["loss"]], None, lambda: [[]], built_first=False),
        Arrays(*((array,) for array in parts["data"])),
        parts["batch_size"],
        parts["epochs"],
        trial=loop,
        class_weight=class_weight,
        validation=None
        if validation is None
        else Validation.cut(Arrays(*((array,) for array in validation)), parts["batch_size"]),
    )
    found = [PreparedArm(parse_arm(arm), training).run() for arm in arms]
    assert not [one.error for one in found if one.error is not None]
    return found


def trace(loop: Any, execution: str = "graph", **changes: Any) -> Trace:
    """What a loop did, in its arm alone."""
    return traces(f"trial/single/{execution}", loop=loop, **changes)[0]


def begun_anew(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    in_the_graph(model, optimizer, loss_fn, dataset, epochs)


def test_what_the_first_step_begins_with_is_recorded_beside_the_start() -> None:
    seen = trace(begun_anew)
    weights = {name: value for (stage, name), (value,) in seen.first.items() if stage is Stage.WEIGHTS}
    assert len(weights) == 4
    for name, value in weights.items():
        np.testing.assert_array_equal(value, seen.start[Stage.WEIGHTS, name][0] + np.float32(1.0))


def called_twice(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
        model(2 * x, training=True)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


def test_of_several_calls_before_an_update_the_first_is_recorded_and_all_are_counted() -> None:
    once, twice = trace(plain), trace(called_twice)
    assert once.calls == dict.fromkeys(range(6), (1,))
    assert twice.calls == dict.fromkeys(range(6), (2,))
    for step in range(6):
        for name, value in once.stage(step, Stage.OUTPUTS).items():
            others = dict(zip(once.stage(step, Stage.OUTPUTS), twice.stage(step, Stage.OUTPUTS).values(), strict=True))
            np.testing.assert_array_equal(value[0], others[name][0])


def accumulated(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    """Two passes over two rows each, one update from their mean."""
    import tensorflow as tf

    for _ in range(epochs):
        for x, y in dataset:
            parts = [gradients_of(model, loss_fn, x[i : i + 2], y[i : i + 2])[1] for i in range(0, len(x), 2)]
            means = [tf.add_n(items) / len(parts) for items in zip(*parts, strict=True)]
            optimizer.apply(means, model.trainable_variables)
        loss_fn(Y, model(X))


def test_the_parts_of_a_batch_that_are_passed_one_by_one_are_recorded_as_the_batch() -> None:
    seen = trace(accumulated)
    assert seen.steps == 6
    assert seen.calls == dict.fromkeys(range(6), (1,))
    for step, start in enumerate((0, 4, 8, 0, 4, 8)):
        np.testing.assert_array_equal(seen.values[step, Stage.BATCH, "x"][0], X[start : start + 4])
        np.testing.assert_array_equal(seen.values[step, Stage.BATCH, "y"][0], Y[start : start + 4])
        assert len(seen.values[step, Stage.OUTPUTS, seen.stage(step, Stage.OUTPUTS).popitem()[0]][0]) == len(
            X[start : start + 4]
        )
    # The loss of a part is not the step's, and of the last step there is one part.
    assert {key[0] for key in seen.values if key[1] is Stage.LOSS} == {2, 5}


def over_batches(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    """One update from the mean over all batches of an epoch."""
    import tensorflow as tf

    for _ in range(epochs):
        parts = [gradients_of(model, loss_fn, x, y)[1] for x, y in dataset]
        means = [tf.add_n(items) / len(parts) for items in zip(*parts, strict=True)]
        optimizer.apply(means, model.trainable_variables)


def test_gradients_accumulated_by_hand_have_their_first_pass_recorded() -> None:
    seen = trace(over_batches)
    assert (seen.steps, seen.calls) == (2, {0: (3,), 1: (3,)})
    for step in (0, 1):
        np.testing.assert_array_equal(seen.values[step, Stage.BATCH, "x"][0], X[:4])
        np.testing.assert_array_equal(seen.values[step, Stage.BATCH, "y"][0], Y[:4])


def test_the_rate_of_every_update_is_recorded_and_of_nothing_else() -> None:
    import keras

    def decaying() -> Any:
        return keras.optimizers.SGD(keras.optimizers.schedules.InverseTimeDecay(1.0, 1, 1.0))

    def every_second() -> Any:
        return keras.optimizers.SGD(RATE, gradient_accumulation_steps=2)

    for loop, execution in ((plain, "graph"), (plain, "eager"), (in_the_graph, "graph")):
        assert trace(loop, execution, optimizer=decaying).rates == {n: np.float32(1 / (1 + n)) for n in range(6)}
        assert trace(loop, execution, optimizer=every_second).rates == {1: RATE, 3: RATE, 5: RATE}


def test_what_an_optimizer_around_another_hands_on_is_recorded() -> None:
    import keras

    def scaling() -> Any:
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=8.0)

    def scaled(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
        loss, gradients = gradients_of(model, lambda y, p: optimizer.scale_loss(loss_fn(y, p)), x, y)
        optimizer.apply(gradients, model.trainable_variables)
        return loss / 8.0

    seen = trace(scaled, optimizer=scaling)
    assert seen.rates == dict.fromkeys(range(6), RATE)
    given_to, received = (seen.stage(0, stage) for stage in (Stage.LOCAL_GRADIENT, Stage.GRADIENT))
    assert given_to.keys() == received.keys()
    for name, (value,) in received.items():
        np.testing.assert_array_equal(value, given_to[name][0] / np.float32(8.0))


def test_a_loss_that_is_not_all_that_is_trained_on_is_not_recorded_as_the_loss() -> None:
    import keras

    for model, loss, recorded in (
        (dense, keras.losses.MeanSquaredError(), True),
        (penalized, keras.losses.MeanSquaredError(), False),
        (dense, keras.losses.MeanSquaredError(reduction="none"), False),
    ):
        seen = trace(in_the_graph, model=model, loss=loss)
        assert bool(seen.stage(0, Stage.LOSS)) == recorded
        assert {key[2] for key in seen.values if key[1] is Stage.BATCH} == {"x", "y"}


def test_the_given_loss_is_what_the_user_gave() -> None:
    import keras

    class Own(keras.losses.MeanSquaredError):  # type: ignore[misc]
        """Somebody's."""

        extra = 3

    asked: list[Any] = []

    def curious(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        asked.append(loss_fn)
        call = getattr(loss_fn, "call", loss_fn)
        in_the_graph(model, optimizer, lambda y, p: keras.ops.mean(call(y, p)), dataset, epochs)
        in_the_graph(model, optimizer, loss_fn, dataset, epochs)

    own = Own(reduction="sum", name="mine")
    trace(curious, loss=own)
    trace(curious, loss=keras.losses.mean_absolute_error)
    loss, function = asked
    assert isinstance(loss, Own)
    assert loss is not own
    assert (loss.reduction, loss.name, loss.extra, type(loss).__name__) == ("sum", "mine", 3, "Own")
    assert loss.get_config() == own.get_config()
    assert type(own) is Own
    assert function.__name__ == "mean_absolute_error"


# What is unsupported, and what is refused.


def never(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    return loss_fn(y, model(x, training=True))


def still() -> Any:
    import keras

    return keras.optimizers.SGD(0.0)


def without_the_model(model: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    """Calls the layers one by one, which only a tape and the weights could tell from evaluating."""
    for _ in range(epochs):
        for x, y in dataset:
            by_hand(Layers(model), loss_fn, x, y)


class Layers:
    """The layers of a model, without it."""

    def __init__(self, model: Any) -> None:
        self.layers, self.trainable_variables = model.layers, model.trainable_variables
        self.losses: list[Any] = []

    def __call__(self, x: Any, training: bool = False) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


def strangely(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> Any:
    in_the_graph(model, optimizer, loss_fn, dataset, epochs)
    return "finished"


def too_few(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> Any:
    in_the_graph(model, optimizer, loss_fn, dataset, epochs)
    return [1.0] * 5


UNSUPPORTED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no update, and none by fit": (
        never,
        {"optimizer": still},
        "never never called the optimizer it was given and changed no weight, and fit changes none either",
    ),
    "by hand, by layers": (
        without_the_model,
        {"model": linear},
        "so its steps cannot be told apart; call",
    ),
    "no strategy": (
        in_the_graph,
        {"replicas": (1, 2)},
        "mirrored:2: in_the_graph cannot distribute without a strategy; take `strategy` as a parameter",
    ),
    "xla": (in_the_graph, {"executions": ("xla",)}, "xla: in_the_graph is called as it is"),
    "train_on_batch in a graph": (on_batches, {}, "on_batches calls model.train_on_batch, which runs in Python alone"),
    "no numbers": (strangely, {}, "strangely returned loss as str, which holds no numbers; return one loss an epoch"),
    "another number of losses": (too_few, {}, "too_few returned 5 of loss for 2 epochs of 3 steps"),
    "class weights of a generator": (
        plain,
        {"data": lambda: iter([(X[:4], Y[:4])]), "class_weight": CLASS_WEIGHT},
        "class_weight with a generator: fit refuses it",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_unsupported_says_so_in_one_line(name: str) -> None:
    loop, changes, told = UNSUPPORTED[name]
    verdict = conformance.check(loop, **given(**changes))
    assert (verdict.verdict, verdict.conforms) == ("unsupported", False)
    assert verdict.reason is not None
    assert told in verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    ("loop", "form", "parameters"),
    [
        (lambda y, x: None, STEP, ("x", "y")),
        (lambda x, rate=0.1, sample_weight=None: None, STEP, ("x", "sample_weight")),
        (lambda dataset: None, WHOLE, ("dataset",)),
        (lambda strategy, epochs, dataset: None, WHOLE, ("dataset", "epochs", "strategy")),
        (lambda x, epochs: None, ARRAYS, ("x", "epochs")),
        (lambda callbacks, dataset: None, WHOLE, ("dataset", "callbacks")),
        (lambda batch_size, y, x, class_weight: None, ARRAYS, ("x", "y", "batch_size", "class_weight")),
    ],
)
def test_forms_are_told_apart_by_names(loop: Any, form: str, parameters: tuple[str, ...]) -> None:
    told = loop_of(loop)
    assert (told.form, told.parameters) == (form, parameters)


class _Network:
    def __init__(self, x: Any) -> None: ...


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        (3, "3 is not a function; give one of train_step(model"),
        (lambda batch: None, "(batch) is not a training step or loop: it takes neither x nor a dataset"),
        (lambda model, epochs: None, "it takes neither x nor a dataset"),
        (lambda dataset, x: None, "it takes a dataset and arrays"),
        (lambda x, strategy: None, "nothing is known to give for strategy"),
        (lambda dataset, batch_size, rate: None, "nothing is known to give for batch_size, rate"),
        (lambda x, **options: None, "it takes **options, and is told apart by the names"),
        (lambda x, *more: None, "it takes *more"),
        (lambda x, /: None, "x is positional-only"),
        (_Network, "it is a class (a keras.Model with its own train_step is given through model=)"),
    ],
)
def test_a_signature_of_no_form_is_refused_in_one_line(loop: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        conformance.check(loop, **given())
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_functions_run_as_before_after_an_eager_loop() -> None:
    import tensorflow as tf

    def failing(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        assert tf.config.functions_run_eagerly()
        raise ValueError("in the middle")

    for was in (False, True):
        tf.config.run_functions_eagerly(was)
        try:
            verdict = conformance.check(failing, **given(executions=("eager",)))
            assert verdict.divergence is not None
            assert "trial/single/eager raises ValueError: in the middle" in verdict.divergence.message
            assert tf.config.functions_run_eagerly() == was
        finally:
            tf.config.run_functions_eagerly(False)


def test_an_unsupported_arm_says_what_a_compiled_function_wrapped() -> None:
    with pytest.raises(UnsupportedError) as raised:
        trace(on_batches)
    assert str(raised.value).startswith("on_batches calls model.train_on_batch")


# Class weights and validation.


def one_hot() -> Any:
    return np.eye(3, dtype="float32")[LABELS]


def binary() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])


CLASSES: dict[str, dict[str, Any]] = {
    "labels": {"loss": "sparse_categorical_crossentropy", "data": (X, LABELS)},
    "one-hot": {"loss": "categorical_crossentropy", "data": (X, one_hot())},
    "binary": {"loss": "binary_crossentropy", "data": (X, (Y > 0).astype("float32")), "model": binary},
}


def dataset_of(*arrays: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(4)


@pytest.mark.parametrize("feed", ["arrays", "dataset"])
@pytest.mark.parametrize("name", CLASSES)
def test_fit_and_the_loop_agree_on_class_weights(name: str, feed: str) -> None:
    arguments = given(model=classifier, class_weight={**CLASS_WEIGHT, 2: 1.5}, metrics=("accuracy",))
    arguments |= CLASSES[name]
    if feed == "dataset":
        arguments["data"] = dataset_of(*arguments["data"])
    verdict = conformance.assert_conforms(**arguments)
    assert verdict.not_compared == ()


def test_train_on_batch_is_given_class_weights_too() -> None:
    arguments = given(model=classifier, **CLASSES["labels"])
    arms = ("fit/single/graph", "train_on_batch/single/graph")
    one, other = traces(*arms, class_weight=CLASS_WEIGHT, **arguments)
    assert compare(one, other).first is None
    weights = np.array([CLASS_WEIGHT.get(label, 1.0) for label in LABELS[4:8].tolist()], "float32")
    np.testing.assert_array_equal(other.values[1, Stage.BATCH, "sample_weight"][0], weights)


def by_class(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, class_weight: Any) -> Any:
    import tensorflow as tf

    table = tf.constant([class_weight.get(number, 1.0) for number in range(3)])
    return weighted(model, optimizer, loss_fn, x, y, tf.gather(table, y))


@pytest.mark.parametrize("step", [weighted, by_class], ids=["as sample weights", "by itself"])
def test_a_step_that_weights_the_classes_conforms(step: Callable[..., Any]) -> None:
    arguments = given(model=classifier, class_weight=CLASS_WEIGHT, **CLASSES["labels"])
    verdict = conformance.assert_conforms(step, **arguments)
    assert verdict.not_compared == ("batch sample_weight: only fit/single/graph records it",)


@pytest.mark.parametrize("loop", [plain, by_epochs], ids=["step", "whole"])
def test_a_loop_that_ignores_class_weights_is_found_out(loop: Callable[..., Any]) -> None:
    verdict = conformance.check(loop, **given(model=classifier, class_weight=CLASS_WEIGHT, **CLASSES["labels"]))
    assert verdict.wrong_arm == "trial/single/graph"
    assert verdict.divergence is not None
    assert (verdict.divergence.step, verdict.divergence.stage) == (0, "loss")


@pytest.mark.parametrize("mode", ["single/graph", "single/eager", "mirrored:2/graph"])
def test_fit_and_the_loop_agree_on_validation_bit_for_bit(mode: str) -> None:
    """Penalties, dropout and statistics in it, and weights of the rows."""
    import keras

    def rich() -> Any:
        layers = [
            keras.layers.Dense(3, kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(1),
        ]
        return keras.Sequential([keras.Input((3,)), *layers])

    validation = (*HELD_OUT, np.abs(Y[4:, 0])) if "single" in mode else (X[2:], Y[2:])
    data = (X, Y) if "single" in mode else (X[:8], Y[:8])
    fit, loop = traces(f"fit/{mode}", f"loop/{mode}", model=rich, data=data, validation=validation)
    assert compare(fit, loop).first is None
    assert {name for _, name in fit.epoch_logs} == {name for _, name in loop.epoch_logs} == {"loss", "val_loss"}
    assert fit.epoch_logs[0, "val_loss"] != fit.epoch_logs[1, "val_loss"]
    # What is evaluated is no step, and leaves none of the records changed.
    assert fit.steps == len({step for step, *_ in fit.values}) - 1


def test_validation_is_reported_with_its_metrics() -> None:
    verdict = conformance.assert_conforms(**given(metrics=("mae",), validation_data=HELD_OUT))
    assert verdict.not_compared == ()


def test_the_validation_of_several_outputs_is_named_as_fit_names_it() -> None:
    import keras

    def two() -> Any:
        inputs = keras.Input((3,))
        return keras.Model(inputs, [keras.layers.Dense(1, name=name)(inputs) for name in ("one", "two")])

    targets = (Y, Y + 1)
    # Batches of one size: with others, fit reports the losses of outputs as plain means over them.
    arguments = given(model=two, loss=["mse", "mae"], data=(X, targets), batch_size=5, metrics=("mae",))
    verdict = conformance.assert_conforms(**arguments, validation_data=(X, targets))
    assert verdict.not_compared == ()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "class weights in a list": ({"class_weight": [1.0]}, "class_weight=[1.0] should give a number for a class's"),
    "no class weights": ({"class_weight": {}}, "class_weight={} should have the numbers of classes"),
    "class weights by name": ({"class_weight": {"cat": 1.0}}, "should give a number for a class's, as in {0: 1.0"),
    "class weights beside sample weights": (
        {"class_weight": CLASS_WEIGHT, "data": (X, Y, Y[:, 0])},
        "class_weight beside sample weights: fit takes one of the two",
    ),
    "class weights of two outputs": (
        {"class_weight": CLASS_WEIGHT, "data": (X, (Y, Y)), "loss": ["mse", "mse"]},
        "class_weight for targets of shape (10, 1), (10, 1): it takes one output",
    ),
    "a validation of no arrays": ({"validation_data": 3}, "validation_data=int is neither (x, y[, sample_weight])"),
    "a validation of other rows": (
        {"validation_data": (X[:, :2], Y)},
        "validation_data with x of shape (10, 2); rows should be as in data",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_class_weights_and_validation_data_that_cannot_be_used_are_refused(name: str) -> None:
    changes, told = REFUSED[name]
    with pytest.raises(UsageError) as refused:
        conformance.check(**given(**changes))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
