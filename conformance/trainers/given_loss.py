"""The loss a loop of the user's is given: what `compile` would make of it, with its calls seen.

A `keras.losses.Loss` stays one, with its class, its reduction and its `call`: it is a copy whose class overrides
`__call__` alone. So a loop may ask it whatever it asks a loss of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from conformance.recording.taps import under_tape
from conformance.trainers.losses import as_loss, loss_function
from conformance.trainers.shares import with_shares
from conformance.training import Setup

Seen = Callable[[Any, Any, Any], None]
"""Is told targets, sample weights and the loss of a call, the loss as None where it is not the step's."""


def given_loss(setup: Setup) -> Any:
    """The loss as a loop of the user's gets it.

    A name means the reduced loss, as in `compile`, with each replica's share of it; what the user wrote stays what the
    user wrote. Several outputs have one function of `(y_true, y_pred, sample_weight)`, their weighted sum.
    """
    if len(setup.losses) == 1:
        (loss,) = setup.losses
        return as_loss(loss) if isinstance(loss, str) else loss
    total = loss_function(with_shares(setup), setup.training.parts.loss_weights, names=setup.training.data.y_names)

    def loss_fn(y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return total(y_true, y_pred, sample_weight)

    return loss_fn


def watched_loss(setup: Setup) -> Any:
    """The same, with its calls recorded.

    Its value is the step's loss only where nothing is added to it and nobody else divides it: it is a scalar, the
    model has no penalties, and it is a Keras loss, which gives a replica's share, or there are no replicas.
    """
    import keras
    import tensorflow as tf

    loss = given_loss(setup)
    shares = setup.strategy.num_replicas_in_sync == 1 or isinstance(loss, keras.losses.Loss) or len(setup.losses) > 1

    def seen(y: Any, sample_weight: Any, value: Any) -> None:
        if under_tape():
            whole = shares and tf.is_tensor(value) and value.shape.rank == 0 and not setup.model.losses
            # A loop makes what it likes of the weights of classes; they are no part of its batches.
            weights = sample_weight if setup.training.class_weight is None else None
            setup.recorder.loss_call(y, weights, value if whole else None)

    return watched(loss, seen)


def watched(loss: Any, seen: Seen) -> Any:
    """A loss that tells its calls and is otherwise what it was."""
    import keras

    def told(args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> None:
        given = dict(zip(("y_true", "y_pred", "sample_weight"), args, strict=False)) | kwargs
        seen(given.get("y_true"), given.get("sample_weight"), value)

    if isinstance(loss, keras.losses.Loss):
        kind = type(loss)

        def watched_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            value = kind.__call__(self, *args, **kwargs)
            told(args, kwargs, value)
            return value

        names = {"__call__": watched_call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
        # Not the user's own object, which goes to other arms too; nor `copy`, for which Keras saves and loads.
        twin: Any = object.__new__(type(kind.__name__, (kind,), {**names, "__doc__": kind.__doc__}))
        vars(twin).update(vars(loss))
        return twin

    @functools.wraps(loss)
    def watched_function(*args: Any, **kwargs: Any) -> Any:
        value = loss(*args, **kwargs)
        told(args, kwargs, value)
        return value

    return watched_function
