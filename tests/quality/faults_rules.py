"""Faults of update rules and of the counter of steps, which `fit` and the reference loop share."""

from __future__ import annotations

from typing import Any

from planting import OPTIMIZER, Method, fault, rounded

ADAM = "optimizers.adam:Adam.update_step"


@fault(ADAM, stage="update", cause="optimizer_state_reset", shared=True)
def momentum_forgotten(original: Method, optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """Adam's momentum starts from zero at every step."""
    import tensorflow as tf

    momentum = optimizer._momentums[optimizer._get_variable_index(variable)]
    optimizer.assign(momentum, tf.zeros(momentum.shape))
    original(optimizer, gradient, variable, learning_rate)


@fault(ADAM, stage="update", cause="numeric_precision", shared=True)
def moments_rounded(original: Method, optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """Adam keeps its moments in bfloat16."""
    original(optimizer, gradient, variable, learning_rate)
    index = optimizer._get_variable_index(variable)
    for slot in (optimizer._momentums[index], optimizer._velocities[index]):
        optimizer.assign(slot, rounded(slot.value))


@fault(ADAM, stage="weights", shared=True)
def bias_not_corrected(original: Method, optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """Adam's moments are not corrected for their start at zero."""
    import tensorflow as tf

    step = tf.cast(optimizer.iterations + 1, "float32")
    corrected = tf.sqrt(1.0 - optimizer.beta_2**step) / (1.0 - optimizer.beta_1**step)
    original(optimizer, gradient, variable, tf.cast(learning_rate, "float32") / corrected)


@fault(ADAM, stage="weights", shared=True)
def epsilon_ten_thousand_times_larger(
    original: Method, optimizer: Any, gradient: Any, variable: Any, learning_rate: Any
) -> None:
    """Adam's epsilon is 1e-3."""
    epsilon, optimizer.epsilon = optimizer.epsilon, 1e-3
    try:
        original(optimizer, gradient, variable, learning_rate)
    finally:
        optimizer.epsilon = epsilon


@fault("optimizers.adagrad:Adagrad.update_step", stage="weights", shared=True)
def accumulator_read_too_early(
    original: Method, optimizer: Any, gradient: Any, variable: Any, learning_rate: Any
) -> None:
    """Adagrad divides by the accumulator as it was before this step's gradient."""
    import tensorflow as tf

    accumulator = optimizer._accumulators[optimizer._get_variable_index(variable)]
    start, before = tf.identity(variable), tf.identity(accumulator.value)
    original(optimizer, gradient, variable, learning_rate)
    rate = tf.cast(learning_rate, "float32")
    variable.assign(start - rate * tf.convert_to_tensor(gradient) / tf.sqrt(before + optimizer.epsilon))


@fault(f"{OPTIMIZER}.apply", stage="update", shared=True)
def iterations_counted_twice(original: Method, optimizer: Any, grads: Any, trainable_variables: Any = None) -> None:
    """The counter of steps moves by two."""
    original(optimizer, grads, trainable_variables)
    optimizer._iterations.assign_add(1)
