"""A user's own losses, beside those of Keras and the functions that a case may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from conformance.errors import UsageError
from conformance.losses import LOSSES, LossEntry
from conformance.strategies import arguments
from conformance.strategies.registering import AnyOptions, Configs, check_configs, name_of

REGISTERED_LOSSES: dict[str, Configs] = {}
"""The strategies of the options of registered losses, by name."""

TARGETS = ("real", "positive", "binary", "onehot", "label")
HEADS = (None, "sigmoid", "softmax", "softplus", "tanh", "relu")


def register_loss(
    loss: Callable[..., Any],
    *,
    returns: str | None = None,
    config: Configs | None = None,
    target: str = "real",
    head: str | None = None,
    least_units: int = 1,
    name: str | None = None,
) -> None:
    """Add a loss to what is drawn and to what case files may hold; a loss registered before is replaced.

    Args:
        loss: a function of `(y_true, y_pred)`, or the class of a `keras.losses.Loss` (or a function that makes one),
            which is called with the drawn options.
        returns: of a function of `(y_true, y_pred)`, what it returns: `per_sample`, an array of one value a row, or
            `scalar`. Left out, `loss` makes a `keras.losses.Loss`.
        config: draws the options of a class; left out, it has none.
        target: what it is compared with: `real` and `positive` numbers, `binary` 0 and 1, `onehot` rows or `label`
            numbers of classes.
        head: the activation of the layer before it for which it is defined; None for a linear one.
        least_units: the smallest number of outputs for which it is defined.
        name: its name in cases; its own where left out.

    Raises:
        UsageError: when an argument is not what it should be, or the name is that of a known loss.

    Example:
        >>> from conformance.losses import LOSSES
        >>> def quartic(y_true, y_pred):  # (rows, units) to (rows,), with tf.reduce_mean in earnest
        ...     return ((y_true - y_pred) ** 4).mean(axis=-1)
        >>> register_loss(quartic, returns="per_sample")
        >>> LOSSES["quartic"].returns
        'per_sample'
    """
    if not callable(loss):
        raise UsageError(f"loss={loss!r} should be a function of (y_true, y_pred) or a class of losses")
    chosen = name_of(loss, name, "loss", LOSSES.keys() - REGISTERED_LOSSES.keys())
    for given, what, known in ((target, "target", TARGETS), (head, "head", HEADS)):
        if given not in known:
            raise UsageError(f"{what}={given!r} should be one of {', '.join(map(repr, known))}")
    if returns not in (None, "scalar", "per_sample"):
        raise UsageError(f"returns={returns!r} should be 'scalar', 'per_sample' or None")
    if returns is not None and config is not None:
        raise UsageError("config= with returns=: a function of (y_true, y_pred) has no options")
    options = st.just({}) if config is None else config
    check_configs(options)
    least = arguments.whole(least_units, 1, 64, "least_units")
    if target in ("onehot", "label"):
        least = max(least, 2)
    fields: Any = {} if returns is not None else AnyOptions()
    LOSSES[chosen] = LossEntry(chosen, target, head, returns=returns, fields=fields, least_units=least, make=loss)
    REGISTERED_LOSSES[chosen] = options
