"""A user's own optimizers, beside those of Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from conformance.errors import UsageError
from conformance.optimizers import OPTIMIZERS, OptimizerEntry
from conformance.strategies.registering import AnyOptions, Configs, check_configs, name_of

REGISTERED_OPTIMIZERS: dict[str, Configs] = {}
"""The strategies of the options of registered optimizers, by name."""


def register_optimizer(
    optimizer: Callable[..., Any],
    *,
    config: Configs | None = None,
    learning_rates: Sequence[float] = (0.125, 0.015625),
    features: bool = True,
    name: str | None = None,
) -> None:
    """Add an optimizer to what is drawn and to what case files may hold; one registered before is replaced.

    Arms are held against one another; the referee knows the update rules of Keras alone, and says so.

    Args:
        optimizer: the class of a `keras.optimizers.Optimizer`, or a function that makes one; called with
            `learning_rate=` and the drawn options.
        config: draws the options that only it has; left out, it has none.
        learning_rates: those that are drawn, the simplest first.
        features: whether it takes the options that all optimizers of Keras have: clipping, decay, averages and
            accumulation.
        name: its name in cases; its own where left out.

    Raises:
        UsageError: when an argument is not what it should be, or the name is that of an optimizer of Keras.

    Example:
        >>> class Signed:  # a keras.optimizers.Optimizer, in earnest
        ...     def __init__(self, learning_rate, **options): ...
        >>> register_optimizer(Signed, features=False)
        >>> "Signed" in OPTIMIZERS
        True
    """
    if not callable(optimizer):
        raise UsageError(f"optimizer={optimizer!r} should be a class of optimizers or a function that makes one")
    chosen = name_of(optimizer, name, "optimizer", OPTIMIZERS.keys() - REGISTERED_OPTIMIZERS.keys())
    options = st.just({}) if config is None else config
    check_configs(options)
    rates = _numbers(learning_rates)
    if not rates or not all(0 <= rate < float("inf") for rate in rates):
        raise UsageError(f"learning_rates={learning_rates!r} should be numbers of at least 0, as in (0.125, 0.015625)")
    OPTIMIZERS[chosen] = OptimizerEntry(chosen, AnyOptions(), rates, make=optimizer, features=bool(features))
    REGISTERED_OPTIMIZERS[chosen] = options


def _numbers(given: Any) -> tuple[float, ...]:
    try:
        return tuple(map(float, given))
    except (TypeError, ValueError):
        return ()
