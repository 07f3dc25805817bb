"""Faults of a step that only `fit` has: in the trainer's `train_step`, in what it calls and in what it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
from planting import TRAINER, Method, dense, each, fault, in_step, rounded, running

COMPUTE_LOSS = f"{TRAINER}.compute_loss"
APPLY_GRADIENTS = "optimizers.base_optimizer:BaseOptimizer.apply_gradients"


@fault(COMPUTE_LOSS, stage="loss", cause="regularization_omitted")
def regularization_omitted(
    original: Method, model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
) -> Any:
    """The model's own losses are left out."""
    return model._compile_loss(y, y_pred, sample_weight)


@fault(f"{TRAINER}._aggregate_additional_loss", stage="local_gradient", cause="regularization_outside_tape")
def regularization_outside_tape(original: Method, model: Any, loss: Any) -> Any:
    """The model's own losses are in the loss, and have no gradient."""
    import tensorflow as tf

    return tf.stop_gradient(original(model, loss))


@fault("layers.layer:Layer.__call__", stage="loss", cause="activity_loss_scale", within_step=True)
def activity_loss_summed(original: Method, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Activity is penalized by the sum over the rows of the batch instead of their mean."""
    import tensorflow as tf

    before = len(layer._losses)
    outputs = original(layer, *args, **kwargs)
    if layer.activity_regularizer is not None:
        losses = list(layer._losses)
        rows = tf.cast(tf.shape(outputs)[0], "float32")
        layer._losses.clear()
        layer._losses.extend([*losses[:before], *(rows * loss for loss in losses[before:])])
    return outputs


@fault(COMPUTE_LOSS, stage="loss", cause="sample_weight_ignored")
def sample_weight_ignored(
    original: Method, model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
) -> Any:
    """The loss is computed without weights."""
    return original(model, x, y, y_pred, None, training)


@fault("trainers.compile_utils:CompileLoss.__init__", stage="loss", cause="loss_weights_ignored")
def loss_weights_ignored(original: Method, loss: Any, losses: Any, loss_weights: Any = None, **options: Any) -> None:
    """The losses of the outputs are added without their weights."""
    original(loss, losses, None, **options)


def _unaligned(original: Method, one: Any, other: Any, expand_rank_1: bool = True) -> Any:
    return one, other


@fault(
    "losses.losses:LossFunctionWrapper.call",
    stage="loss",
    cause="label_shape_broadcast",
    within_step=True,
    also=[("losses.losses:squeeze_or_expand_to_same_rank", in_step(_unaligned))],
)
def label_shape_broadcast(original: Method, loss: Any, y_true: Any, y_pred: Any) -> Any:
    """Targets of one column lose it, and every prediction is held against every target."""
    if y_true.shape.rank == 2 and y_true.shape[-1] == 1 and "crossentropy" not in loss.fn.__name__:
        y_true = y_true[:, 0]
    return original(loss, y_true, y_pred)


@fault("layers.layer:Layer.__call__", stage="outputs", cause="training_flag_false", within_step=True)
def training_flag_false(original: Method, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """The model is called in inference mode."""
    if layer is running[-1]:
        kwargs["training"] = False
    return original(layer, *args, **kwargs)


@fault(COMPUTE_LOSS, stage="state", cause="model_called_twice", within_step=True)
def model_called_twice(original: Method, model: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The model is called a second time in training mode, so statistics and random states move twice."""
    loss = original(model, x, *args, **kwargs)
    model(x, training=True)
    return loss


@fault(APPLY_GRADIENTS, stage="local_gradient")
def gradient_slightly_off(original: Method, optimizer: Any, grads_and_vars: Any) -> Any:
    """Gradients are a thousandth too large."""
    gradients, variables = zip(*grads_and_vars, strict=True)
    scaled = each(gradients, lambda numbers: numbers * 1.001)
    return original(optimizer, zip(scaled, variables, strict=True))


@fault(APPLY_GRADIENTS, stage="local_gradient", cause="numeric_precision")
def gradients_rounded(original: Method, optimizer: Any, grads_and_vars: Any) -> Any:
    """Gradients are handed to the optimizer in bfloat16."""
    gradients, variables = zip(*grads_and_vars, strict=True)
    low = each(gradients, rounded)
    return original(optimizer, zip(low, variables, strict=True))


@fault(APPLY_GRADIENTS, stage="local_gradient", cause="raises_in_one_arm")
def accumulation_refused(original: Method, optimizer: Any, grads_and_vars: Any) -> Any:
    """Gradients are not taken where they are to be accumulated."""
    if optimizer.gradient_accumulation_steps:
        raise ValueError("apply_gradients() does not accumulate gradients; call apply()")
    return original(optimizer, grads_and_vars)


@fault(APPLY_GRADIENTS, stage="gradient", cause="clip_order")
def clip_order(original: Method, optimizer: Any, grads_and_vars: Any) -> Any:
    """The update, a unit of learning rate, is clipped instead of the gradient."""
    import tensorflow as tf

    gradients, variables = (list(part) for part in zip(*grads_and_vars, strict=True))
    kinds = ("clipnorm", "clipvalue", "global_clipnorm")
    if not any(getattr(optimizer, kind) for kind in kinds):
        return original(optimizer, zip(gradients, variables, strict=True))
    before = [tf.identity(variable.value) for variable in variables]
    optimizer._clip_gradients = lambda unclipped: unclipped
    try:
        optimizer.apply(gradients, variables)
    finally:
        del optimizer._clip_gradients
    rate = tf.cast(optimizer.learning_rate, "float32")
    moved = [(variable.value - start) / rate for variable, start in zip(variables, before, strict=True)]
    for variable, start, step in zip(variables, before, optimizer._clip_gradients(moved), strict=True):
        variable.assign(start + rate * step)
    return optimizer.iterations


def initial_slots(optimizer: Any) -> list[tuple[Any, Any]]:
    """Every slot of a built optimizer with the value it was made with."""

    def start(slot: Any) -> float:
        if slot is getattr(optimizer, "_u_product", None):
            return 1.0
        filled = slot.name.endswith("_accumulator") and not slot.name.endswith("_gradient_accumulator")
        return getattr(optimizer, "initial_accumulator_value", 0.0) if filled else 0.0

    slots = [v for v in optimizer.variables if v.name not in ("iteration", "iterations", "learning_rate")]
    return [(slot, np.full(slot.shape, start(slot))) for slot in slots]


@fault(APPLY_GRADIENTS, stage="update", cause="optimizer_state_reset")
def optimizer_state_reset(original: Method, optimizer: Any, grads_and_vars: Any) -> Any:
    """Every step starts with the slots' initial values."""
    gradients, variables = zip(*grads_and_vars, strict=True)
    if not optimizer.built:
        optimizer.build(list(variables))
    for slot, value in initial_slots(optimizer):
        slot.assign(value)
    return original(optimizer, zip(gradients, variables, strict=True))


_losses: list[Any] = []


def _noting_loss(original: Method, model: Any, *args: Any, **kwargs: Any) -> Any:
    _losses.append(original(model, *args, **kwargs))
    return _losses[-1]


@fault(f"{TRAINER}.train_step", stage="weights", cause="frozen_weights_updated", also=[(COMPUTE_LOSS, _noting_loss)])
def frozen_weights_updated(original: Method, model: Any, data: Any) -> Any:
    """Weights that are not trainable are trained."""
    import tensorflow as tf

    frozen = [v for v in model.non_trainable_variables if not v.name.startswith(("moving_", "seed_"))]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in frozen:
            tape.watch(variable.value)
        result = original(model, data)
        loss = _losses.pop()
    gradients = tape.gradient(loss, [variable.value for variable in frozen])
    for gradient, variable in zip(dense(gradients), frozen, strict=True):
        if gradient is not None:
            variable.assign_sub(tf.cast(model.optimizer.learning_rate, gradient.dtype) * gradient)
    return result
