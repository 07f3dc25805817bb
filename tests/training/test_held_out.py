"""Validation data in every form of data, evaluated where its batches end; and by hand in a loop, beside all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import conformance
from conformance import user_data
from conformance.errors import UsageError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype("float32")
Y = RNG.integers(0, 3, size=8).astype("int32")
HELD_OUT = RNG.normal(size=(6, 4)).astype("float32"), RNG.integers(0, 3, size=6).astype("int32")
SIZES = (1, 3, 2)
CLASS_WEIGHT = {0: 0.5, 1: 2.0}


def build() -> Any:
    import keras

    hidden = keras.layers.Dense(5, activation="tanh", kernel_regularizer="l2")
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3, activation="softmax")])


def linear() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def batches() -> Any:
    starts = np.cumsum((0, *SIZES[:-1]))
    for start, size in zip(starts, SIZES, strict=True):
        yield tuple(part[start : start + size] for part in HELD_OUT)


def slices() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(HELD_OUT)


def generated() -> Any:
    import tensorflow as tf

    signature = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int32))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def sequence() -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
        def __len__(self) -> int:
            return len(SIZES)

        def __getitem__(self, index: int) -> Any:
            return list(batches())[index]

    return Batches()


FORMS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "a dataset": (lambda: slices().batch(4), (4, 2)),
    "a dataset with batches of many sizes": (generated, SIZES),
    "a PyDataset": (sequence, SIZES),
    "a generator function": (lambda: batches, SIZES),
}


@pytest.mark.parametrize(("make", "sizes"), FORMS.values(), ids=FORMS)
def test_the_batches_of_validation_data_stay_as_they_are(make: Callable[[], Any], sizes: tuple[int, ...]) -> None:
    held_out, remarks = user_data.validation(make(), user_data.read((X, Y), 4).rows, 4)
    assert held_out is not None
    assert held_out.sizes == sizes
    assert remarks == (() if make() is not batches else (user_data.GENERATED,))
    read = list(held_out.dataset())
    assert [len(x) for x, _ in read] == list(sizes)
    np.testing.assert_array_equal(np.concatenate([y for _, y in read]), HELD_OUT[1])


def test_endless_validation_data_is_refused() -> None:
    with pytest.raises(UsageError, match=r"validation_data is an endless dataset; limit it with take\(n\)"):
        user_data.validation(slices().batch(4).repeat(), user_data.read((X, Y), 4).rows, 4)


def test_a_loss_that_looks_at_a_whole_batch_is_evaluated_where_batches_end() -> None:
    import keras
    import tensorflow as tf

    seen: list[tuple[float, float]] = []

    def root_mean_square(y_true: Any, y_pred: Any) -> Any:
        return tf.sqrt(tf.reduce_mean(tf.square(tf.cast(y_true, y_pred.dtype) - y_pred)))

    class ByHand(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            kernel, bias = (variable.numpy() for variable in self.model.variables)
            roots = [np.sqrt(np.mean((y[:, None] - (x @ kernel + bias)) ** 2)) for x, y in batches()]
            assert logs is not None
            seen.append((float(logs["val_loss"]), float(np.average(roots, weights=SIZES))))

    verdict = conformance.check(
        model=linear,
        loss=root_mean_square,
        optimizer="sgd",
        data=(X, Y),
        batch_size=4,
        epochs=2,
        validation_data=batches,
        callbacks=lambda: [ByHand()],
    )
    assert verdict.conforms, str(verdict)
    assert verdict.not_compared == ()
    assert verdict.remarks == (user_data.GENERATED,)
    assert len(seen) >= 4
    np.testing.assert_allclose(*zip(*seen, strict=True), rtol=1e-5)


def train(
    model: Any,
    optimizer: Any,
    loss_fn: Any,
    dataset: Any,
    epochs: int,
    strategy: Any,
    class_weight: Any,
    validation_data: Any,
    callbacks: Any,
) -> dict[str, list[float]]:
    """What `fit` does, by hand: classes weighed, penalties shared, evaluated after every epoch, callbacks called."""
    import keras
    import tensorflow as tf

    replicas = strategy.num_replicas_in_sync
    weights = tf.constant([class_weight.get(number, 1.0) for number in range(3)])
    mean, held_out = keras.metrics.Mean(), keras.metrics.Mean()
    accuracy = keras.metrics.SparseCategoricalAccuracy()

    def share(y: Any, outputs: Any, sample_weight: Any = None) -> Any:
        return loss_fn(y, outputs, sample_weight) + tf.nn.scale_regularization_loss(tf.add_n(model.losses))

    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = share(y, model(x, training=True), tf.gather(weights, y))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        mean.update_state(loss * replicas, sample_weight=tf.shape(x)[0])

    def evaluate(x: Any, y: Any) -> None:
        outputs = model(x, training=False)
        held_out.update_state(share(y, outputs) * replicas, sample_weight=tf.shape(x)[0])
        accuracy.update_state(y, outputs)

    steps = [tf.function(lambda x, y, of=of: strategy.run(of, args=(x, y))) for of in (step, evaluate)]
    history: dict[str, list[float]] = {"loss": [], "val_loss": [], "val_accuracy": []}
    calls = keras.callbacks.CallbackList(callbacks, model=model)
    calls.on_train_begin()
    for epoch in range(epochs):
        calls.on_epoch_begin(epoch)
        for metric in (mean, held_out, accuracy):
            metric.reset_state()
        for one, data in zip(steps, (dataset, validation_data), strict=True):
            for batch in strategy.experimental_distribute_dataset(data) if replicas > 1 else data:
                one(*batch)
        for name, metric in zip(history, (mean, held_out, accuracy), strict=True):
            history[name].append(float(metric.result()))
        calls.on_epoch_end(epoch, {name: values[-1] for name, values in history.items()})
        if model.stop_training:
            break
    calls.on_train_end()
    return history


def test_a_loop_that_does_by_hand_what_fit_does_with_all_of_it_conforms_on_replicas() -> None:
    import keras

    def callbacks() -> list[Any]:
        rate = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
        return [rate, keras.callbacks.EarlyStopping("val_loss", min_delta=1e6, restore_best_weights=True)]

    verdict = conformance.check(
        train,
        model=build,
        loss="sparse_categorical_crossentropy",
        optimizer="sgd",
        data=(X, Y),
        batch_size=4,
        epochs=3,
        metrics=["accuracy"],
        class_weight=CLASS_WEIGHT,
        validation_data=slices().batch(4),
        callbacks=callbacks,
        replicas=(2,),
    )
    assert verdict.conforms, str(verdict)
    assert not any("val_" in line for line in verdict.not_compared)
    # Stopped after the second of three epochs, with a loss for each.
    assert not any("loss of an epoch" in line for line in verdict.not_compared)


def test_single_rows_that_look_like_batches_are_told_where_no_training_takes_them() -> None:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, X))
    with pytest.raises(UsageError) as refused:
        conformance.check(model=linear, loss="mse", optimizer="sgd", data=data)
    assert "the data's batches have x (rows,), and the model takes (None, 4): they are single rows" in str(
        refused.value
    )
