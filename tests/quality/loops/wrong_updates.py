"""Loops with the right gradients that update wrongly: learning rates, clipping, accumulation, averages, decay.

Each docstring says what is wrong and gives the line that would be right; everything else is as `fit` does it. The
optimizer is the given one wherever the mistake can be made with it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Loop, given


def steps_counted_from_one(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The learning rate is looked up with the number of the step, counted from one.

    Right: `optimizer.iterations.assign(step - 1)`
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    step, losses = 0, []
    for _ in range(epochs):
        for x, y in dataset:
            step += 1
            optimizer.iterations.assign(step)
            losses.append(float(train_step(x, y)))
    return losses


def next_learning_rate(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """A hand-written update looks the schedule up for the step after this one.

    Right: `learning_rate = schedule(optimizer.iterations)`, before the iterations are counted
    """
    schedule = keras.optimizers.schedules.ExponentialDecay(0.2, decay_steps=1, decay_rate=0.5)
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.iterations.assign_add(1)
    learning_rate = schedule(optimizer.iterations)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(learning_rate * gradient)
    return loss


def learning_rate_read_once(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The schedule is read before training, and what it gave is used to the end.

    Right: leave `optimizer.learning_rate = ...` out
    """
    learning_rate = float(optimizer.learning_rate)
    optimizer.learning_rate = lambda: learning_rate

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]


def slots_forgotten_every_epoch(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """Every epoch begins with an optimizer like new.

    Right: leave `variable.assign(value)` out
    """
    optimizer.build(model.trainable_variables)
    new = [variable.numpy() for variable in optimizer.variables]

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    for _ in range(epochs):
        for variable, value in zip(optimizer.variables, new, strict=True):
            variable.assign(value)
        history.append(float(np.mean([train_step(x, y) for x, y in dataset])))
    return history


def clipped_by_the_joint_norm(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Gradients are clipped by the norm of all of them together, and the optimizer's `clipnorm` is each one's.

    Right: `gradients = [tf.clip_by_norm(gradient, 0.1) for gradient in gradients]`
    """
    optimizer.clipnorm = None
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients, _ = tf.clip_by_global_norm(gradients, parts.CLIPNORM)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def accumulating_and_clipping() -> Any:
    """Clips the mean of two batches' gradients."""
    return keras.optimizers.SGD(parts.RATE, clipnorm=parts.CLIPNORM, gradient_accumulation_steps=2)


def clipped_before_accumulation(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Every batch's gradients are clipped before the optimizer adds them up.

    Right: leave `tf.clip_by_norm` out, for the optimizer clips what it has added up
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = [tf.clip_by_norm(gradient, parts.CLIPNORM) for gradient in gradients]
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


EVERY = 2
"""Batches an update, as `parts.accumulating` has it."""


def accumulated_and_not_averaged(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The gradients of two batches are added and applied as a sum.

    Right: `optimizer.apply([total / EVERY for total in totals], variables)`
    """
    variables = model.trainable_variables
    optimizer.gradient_accumulation_steps = None
    totals = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]

    @tf.function
    def accumulate(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        for total, gradient in zip(totals, tape.gradient(loss, variables), strict=True):
            total.assign_add(gradient)
        return loss

    @tf.function
    def update() -> None:
        optimizer.apply([total.read_value() for total in totals], variables)
        for total in totals:
            total.assign(tf.zeros_like(total))

    step, losses = 0, []
    for _ in range(epochs):
        for x, y in dataset:
            losses.append(float(accumulate(x, y)))
            step += 1
            if step % EVERY == 0:
                update()
    return losses


def tail_applied_at_the_end(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """What an epoch leaves of a group is applied at its end, and `fit` carries it into the next one.

    Right: `if (epoch * len(dataset) + index + 1) % EVERY == 0:`, with `epoch` counted from zero
    """
    variables = model.trainable_variables
    optimizer.gradient_accumulation_steps = None
    totals = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]

    @tf.function
    def accumulate(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        for total, gradient in zip(totals, tape.gradient(loss, variables), strict=True):
            total.assign_add(gradient / EVERY)
        return loss

    @tf.function
    def update() -> None:
        optimizer.apply([total.read_value() for total in totals], variables)
        for total in totals:
            total.assign(tf.zeros_like(total))

    losses = []
    for _ in range(epochs):
        for index, (x, y) in enumerate(dataset):
            losses.append(float(accumulate(x, y)))
            if (index + 1) % EVERY == 0 or index + 1 == len(dataset):
                update()
    return losses


def averages_left_in_the_optimizer(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The moving averages of the weights are kept, and never become the weights.

    Right: `optimizer.finalize_variable_values(model.trainable_variables)`, at the end
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]


DECAY = 0.2


def decoupled() -> Any:
    """AdamW, whose decay shrinks the weights and leaves the gradients alone."""
    return keras.optimizers.AdamW(0.05, weight_decay=DECAY)


def decay_in_the_loss(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """AdamW's decay is written into the loss as an L2 penalty, where Adam scales it away.

    Right: `gradients = tape.gradient(loss, model.trainable_variables)`, with the optimizer's `weight_decay` left on
    """
    optimizer.weight_decay = None
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
        penalized = loss + DECAY * tf.add_n([tf.nn.l2_loss(variable) for variable in model.trainable_variables])
    gradients = tape.gradient(penalized, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def sparing_the_biases() -> Any:
    """SGD with a decay of everything but the biases."""
    made = keras.optimizers.SGD(parts.RATE, weight_decay=DECAY)
    made.exclude_from_weight_decay(var_names=["bias"])
    return made


def biases_decayed(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The decay is done by hand and takes the biases along.

    Right: `for variable in [v for v in model.trainable_variables if v.name != "bias"]:`
    """
    optimizer.weight_decay = None

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        for variable in model.trainable_variables:
            variable.assign_sub(variable * DECAY * optimizer.learning_rate)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]


def constraint_left_out(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The update is written by hand, and knows no constraints.

    Right: `variable.assign(constrain(variable - 0.1 * gradient))`, and
    `constrain = variable.constraint or tf.identity`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(parts.RATE * gradient)
    return loss


def constraint_lost_on_the_tape(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The variables are asked of the tape, and those of TensorFlow do not know the constraints of Keras.

    Right: `variables = model.trainable_variables`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    variables = tape.watched_variables()
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return loss


def all_weights_trained(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The update is written by hand, and goes over all weights, frozen ones too.

    Right: `weights = model.trainable_weights`
    """
    weights = model.weights
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    for gradient, weight in zip(tape.gradient(loss, weights), weights, strict=True):
        weight.assign_sub(parts.RATE * gradient)
    return loss


def loss_not_scaled(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The optimizer divides the gradients by the loss scale, and the loss was never multiplied with it.

    Right: `scaled = optimizer.scale_loss(loss)` in the tape, and `tape.gradient(scaled, model.trainable_variables)`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def constantly_scaling() -> Any:
    """SGD with a loss scale that stays."""
    return keras.optimizers.SGD(parts.RATE, loss_scale_factor=64.0)


def rounding_amplified(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Nothing is wrong: the bias's gradient is rounding, the expanded square rounds otherwise, and Adam amplifies it.

    Right: as it is; `layers.Dense(4, use_bias=False)` in front of batch normalization
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = tf.reduce_mean(predictions**2) - 2.0 * tf.reduce_mean(predictions * y) + tf.reduce_mean(y**2)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def rounding_on_replicas(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any) -> Any:
    """Nothing is wrong: on replicas everything is added up in another order, and Adam makes steps of the rounding.

    Right: as it is; `layers.Dense(4, use_bias=False)` in front of batch normalization
    """
    with strategy.scope():
        optimizer.build(model.trainable_variables)

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(train_step(batch)) for _ in range(epochs) for batch in distributed]


_DECAYING = given(parts.dense, parts.regression, optimizer=parts.decaying, epochs=2)
_TWELVE_ACCUMULATED = given(parts.dense, parts.twelve_rows, optimizer=parts.accumulating, epochs=2)


def gradients_taken_and_not_applied(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Everything is there but the line that updates.

    Right: `optimizer.apply_gradients(zip(gradients, model.trainable_variables))`, before `return loss`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient in gradients:
        tf.debugging.check_numerics(gradient, "gradient")
    return loss


def copy_trained(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """A copy is trained, and the model that was given is what it was.

    Right: leave `model = keras.models.clone_model(model)` out
    """
    model = keras.models.clone_model(model)

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]


def step_undone(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The weights are read before the update, and written back behind it.

    Right: leave `variable.assign(value)` out
    """
    kept = [tf.identity(variable) for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    for variable, value in zip(model.trainable_variables, kept, strict=True):
        variable.assign(value)
    return loss


def called_for_each_layer(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The optimizer is called once for every layer, and counts as many steps.

    Right: `optimizer.apply_gradients(zip(gradients, model.trainable_variables))`, once
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, [layer.trainable_variables for layer in model.layers])
    for layer, layer_gradients in zip(model.layers, gradients, strict=True):
        optimizer.apply_gradients(zip(layer_gradients, layer.trainable_variables, strict=True))
    return loss


def mean_of_unequal_parts(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """A batch goes through the model in a large and a small part, and the two gradients are averaged.

    Right: `total += gradient * (len(x_part) / len(x))`
    """
    totals = [tf.zeros_like(variable) for variable in model.trainable_variables]
    for part in (slice(0, 3), slice(3, 4)):
        with tf.GradientTape() as tape:
            loss = loss_fn(y[part], model(x[part], training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        totals = [total + gradient / 2 for total, gradient in zip(totals, gradients, strict=True)]
    optimizer.apply_gradients(zip(totals, model.trainable_variables, strict=True))


def model_of_another_scope_trained(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The model called is one that was made elsewhere, and not the one that was given.

    Right: `predictions = model(x, training=True)`, with the variables of `model`
    """
    network = parts.dense()
    with tf.GradientTape() as tape:
        loss = loss_fn(y, network(x, training=True))
    gradients = tape.gradient(loss, network.trainable_variables)
    optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
    return loss


LOOPS = (
    Loop(
        "called_for_each_layer",
        "optimizer_called_twice",
        called_for_each_layer,
        given(parts.dense, parts.regression, optimizer=parts.adam, epochs=2),
    ),
    Loop(
        "mean_of_unequal_parts",
        "accumulation_mean_of_means",
        mean_of_unequal_parts,
        given(parts.dense, parts.regression),
    ),
    Loop("steps_counted_from_one", "learning_rate_off_by_one", steps_counted_from_one, _DECAYING),
    Loop("next_learning_rate", "learning_rate_off_by_one", next_learning_rate, _DECAYING),
    Loop("learning_rate_read_once", "learning_rate_frozen", learning_rate_read_once, _DECAYING),
    Loop(
        "slots_forgotten_every_epoch",
        "optimizer_state_reset",
        slots_forgotten_every_epoch,
        given(parts.dense, parts.regression, optimizer=parts.adam, epochs=2),
    ),
    Loop(
        "clipped_by_the_joint_norm",
        "clip_kind",
        clipped_by_the_joint_norm,
        given(parts.dense, parts.regression, optimizer=parts.clipping),
    ),
    Loop(
        "clipped_before_accumulation",
        "clip_order",
        clipped_before_accumulation,
        given(parts.dense, parts.regression, optimizer=accumulating_and_clipping, epochs=2),
    ),
    Loop(
        "accumulated_and_not_averaged",
        "accumulation_not_averaged",
        accumulated_and_not_averaged,
        given(parts.dense, parts.regression, optimizer=parts.accumulating, epochs=2),
    ),
    Loop("tail_applied_at_the_end", "accumulation_tail", tail_applied_at_the_end, _TWELVE_ACCUMULATED),
    Loop(
        "averages_left_in_the_optimizer",
        "ema_not_applied",
        averages_left_in_the_optimizer,
        given(parts.dense, parts.regression, optimizer=parts.averaging, epochs=2),
    ),
    Loop(
        "decay_in_the_loss",
        "weight_decay",
        decay_in_the_loss,
        given(parts.dense, parts.regression, optimizer=decoupled),
    ),
    Loop(
        "biases_decayed",
        "weight_decay",
        biases_decayed,
        given(parts.dense, parts.regression, optimizer=sparing_the_biases, epochs=2),
    ),
    Loop(
        "constraint_left_out",
        "constraint_not_applied",
        constraint_left_out,
        given(parts.constrained, parts.regression),
    ),
    Loop(
        "constraint_lost_on_the_tape",
        "constraint_not_applied",
        constraint_lost_on_the_tape,
        given(parts.constrained, parts.regression),
    ),
    *(
        Loop(loop.__name__, "model_not_trained", loop, given(parts.dense, parts.regression, optimizer=parts.momentum))
        for loop in (gradients_taken_and_not_applied, copy_trained, step_undone)
    ),
    Loop(
        "model_of_another_scope_trained",
        "model_not_trained",
        model_of_another_scope_trained,
        given(parts.dense, parts.regression),
        executions=("eager",),
    ),
    Loop("all_weights_trained", "frozen_weights_updated", all_weights_trained, given(parts.frozen, parts.regression)),
    Loop(
        "loss_not_scaled",
        "loss_scaling_missing",
        loss_not_scaled,
        given(parts.in_half_precision, parts.regression, optimizer=parts.loss_scaling),
    ),
    Loop(
        "loss_not_scaled_by_a_constant",
        "loss_scaling_missing",
        loss_not_scaled,
        given(parts.dense, parts.regression, optimizer=constantly_scaling),
    ),
    Loop(
        "rounding_amplified",
        "rounding_amplified",
        rounding_amplified,
        # Of six rows: a division by four never rounds.
        given(parts.normalized_behind_a_bias, parts.twelve_rows, optimizer=parts.adam, batch_size=6, epochs=2),
    ),
    Loop(
        "rounding_amplified_by_replicas",
        "rounding_amplified",
        rounding_on_replicas,
        given(parts.normalized_behind_a_bias, parts.twelve_rows, optimizer=parts.adam),
        (1, 2),
    ),
)
