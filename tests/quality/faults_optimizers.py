"""Faults of what optimizers do around their update rule, which `fit` and the reference loop share.

That is clipping, weight decay, constraints, accumulation and averages: what `BaseOptimizer` does for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planting import OPTIMIZER, TF_OPTIMIZER, Method, dense, fault

APPLY = f"{OPTIMIZER}.apply"
CLIP = f"{OPTIMIZER}._clip_gradients"
DECAY = f"{TF_OPTIMIZER}._apply_weight_decay"
UPDATE = f"{TF_OPTIMIZER}._backend_update_step"
FINALIZE = f"{OPTIMIZER}.finalize_variable_values"


def _norm_clipped(gradients: Sequence[Any], limit: float) -> list[Any]:
    import tensorflow as tf

    return [None if gradient is None else tf.clip_by_norm(gradient, limit) for gradient in gradients]


@fault(CLIP, stage="gradient", cause="clip_kind", shared=True)
def clipnorm_by_value(original: Method, optimizer: Any, gradients: Sequence[Any]) -> Any:
    """clipnorm limits every element of a gradient instead of its norm."""
    import tensorflow as tf

    limit = optimizer.clipnorm
    if not limit:
        return original(optimizer, gradients)
    return [None if gradient is None else tf.clip_by_value(gradient, -limit, limit) for gradient in dense(gradients)]


@fault(CLIP, stage="gradient", cause="clip_kind", shared=True)
def clipvalue_by_norm(original: Method, optimizer: Any, gradients: Sequence[Any]) -> Any:
    """clipvalue limits the norm of a gradient instead of its elements."""
    limit = optimizer.clipvalue
    return _norm_clipped(gradients, limit) if limit else original(optimizer, gradients)


@fault(CLIP, stage="gradient", cause="clip_kind", shared=True)
def global_clipnorm_each(original: Method, optimizer: Any, gradients: Sequence[Any]) -> Any:
    """global_clipnorm limits the norm of each gradient instead of the norm of them all."""
    limit = optimizer.global_clipnorm
    return _norm_clipped(gradients, limit) if limit else original(optimizer, gradients)


@fault(CLIP, stage="gradient", cause="accumulation_not_averaged", shared=True)
def accumulation_not_averaged(original: Method, optimizer: Any, gradients: Sequence[Any]) -> Any:
    """Accumulated gradients are added and not divided by the number of steps."""
    steps = optimizer.gradient_accumulation_steps
    return original(optimizer, [steps * gradient for gradient in gradients] if steps else gradients)


@fault(FINALIZE, stage="weights", cause="accumulation_tail", shared=True)
def accumulation_tail_applied(original: Method, optimizer: Any, var_list: Sequence[Any]) -> None:
    """What is left in the accumulators when training ends is still taken off the weights."""
    if optimizer.gradient_accumulation_steps:
        rate = optimizer.learning_rate / optimizer.gradient_accumulation_steps
        for variable, left in zip(optimizer._trainable_variables, optimizer._accumulated_gradients, strict=True):
            variable.assign_sub(rate * left)
    original(optimizer, var_list)


@fault(FINALIZE, stage="weights", cause="ema_not_applied", shared=True)
def averages_not_written_at_the_end(original: Method, optimizer: Any, var_list: Sequence[Any]) -> None:
    """When training ends, the weights are not overwritten with their averages."""


@fault(f"{OPTIMIZER}._backend_apply_gradients", stage="weights", cause="ema_not_applied", shared=True)
def averages_not_written_between(original: Method, optimizer: Any, *args: Any) -> None:
    """ema_overwrite_frequency is not heeded: weights are overwritten with their averages at the end alone."""
    frequency, optimizer.ema_overwrite_frequency = optimizer.ema_overwrite_frequency, None
    try:
        original(optimizer, *args)
    finally:
        optimizer.ema_overwrite_frequency = frequency


@fault(f"{OPTIMIZER}._update_model_variables_moving_average", stage="update", shared=True)
def averages_start_at_zero(original: Method, optimizer: Any, variables: Sequence[Any]) -> None:
    """The first average is not the weight itself but what the momentum leaves of it."""
    if optimizer.use_ema:
        kept = optimizer.ema_momentum
        for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
            average.assign(kept * average + (1.0 - kept) * variable)


def _decay(optimizer: Any, variables: Sequence[Any], rate: Any) -> None:
    if optimizer.weight_decay is not None:
        for variable in variables:
            variable.assign_sub(variable * optimizer.weight_decay * rate)


def _none(original: Method, *given: Any) -> None:
    pass


@fault(DECAY, stage="weights", cause="weight_decay", shared=True)
def decay_omitted(original: Method, optimizer: Any, variables: Sequence[Any]) -> None:
    """Weights do not decay."""


@fault(DECAY, stage="weights", cause="weight_decay", shared=True)
def decay_without_rate(original: Method, optimizer: Any, variables: Sequence[Any]) -> None:
    """Weights decay by the decay itself, not times the learning rate."""
    _decay(optimizer, variables, 1.0)


@fault(DECAY, stage="weights", cause="weight_decay", shared=True)
def decay_spares_biases(original: Method, optimizer: Any, variables: Sequence[Any]) -> None:
    """Biases do not decay."""
    original(optimizer, [variable for variable in variables if variable.name != "bias"])


@fault(UPDATE, stage="weights", cause="weight_decay", shared=True, also=[(DECAY, _none)])
def decay_after_update(
    original: Method, optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any
) -> None:
    """Weights decay after the update instead of before it."""
    original(optimizer, gradients, variables, learning_rate)
    _decay(optimizer, variables, learning_rate)


@fault(UPDATE, stage="gradient", cause="weight_decay", shared=True, also=[(DECAY, _none)])
def decay_coupled(
    original: Method, optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any
) -> None:
    """Decay is added to the gradient, as an L2 penalty would be."""
    decay = optimizer.weight_decay
    if decay is not None:
        pairs = zip(dense(gradients), variables, strict=True)
        gradients = [gradient + decay * variable for gradient, variable in pairs]
    original(optimizer, gradients, variables, learning_rate)


CONSTRAINT = "backend.common.variables:Variable.constraint"

# The optimizers whose `apply` is running: elsewhere a constraint is seen as it was set, so that it can be missed.
_applying: list[Any] = []


def _noting_apply(original: Method, optimizer: Any, *args: Any, **kwargs: Any) -> None:
    _applying.append(optimizer)
    try:
        original(optimizer, *args, **kwargs)
    finally:
        _applying.pop()


def _hidden(original: Method, variable: Any) -> Any:
    return None if _applying else original(variable)


@fault(CONSTRAINT, stage="weights", cause="constraint_not_applied", shared=True, also=[(APPLY, _noting_apply)])
def constraint_not_applied(original: Method, variable: Any) -> Any:
    """Constraints are forgotten."""
    return _hidden(original, variable)


@fault(
    UPDATE,
    stage="weights",
    cause="constraint_not_applied",
    shared=True,
    also=[(APPLY, _noting_apply), (CONSTRAINT, _hidden)],
)
def constraint_before_update(
    original: Method, optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any
) -> None:
    """Constraints are applied before the update and not after it."""
    for variable in variables:
        if variable._constraint is not None:
            variable.assign(variable._constraint(variable))
    original(optimizer, gradients, variables, learning_rate)
