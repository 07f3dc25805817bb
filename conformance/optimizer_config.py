"""What an optimizer was made with: its `get_config()`, with learning rates of a user's own as the objects they are.

Keras asks a schedule for a config of its own where it asks the optimizer. One that somebody wrote to train with, as
tutorials do, has none, and raises; and of one that has, nothing but the object knows what it gives. The optimizer's
class takes the object in the place of its config, so that a new optimizer can be made of what is found here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def config_of(optimizer: Any) -> dict[str, Any]:
    """The `get_config()` of an optimizer, and of those inside of it; a rate that is no number of Keras's is itself.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
    """
    own = {item.name: item for item in _inside(optimizer) if _is_own(getattr(item, "_learning_rate", None))}
    rates = {name: item._learning_rate for name, item in own.items()}
    try:
        for item in own.values():
            item._learning_rate = 0.0
        config: dict[str, Any] = optimizer.get_config()
    finally:
        for name, item in own.items():
            item._learning_rate = rates[name]
    found: dict[str, Any] = _with_rates(config, rates) if rates else config
    return found


def _inside(optimizer: Any) -> list[Any]:
    """An optimizer and those that it is around."""
    held = [getattr(optimizer, "inner_optimizer", None), *(getattr(optimizer, "_optimizers", None) or ())]
    return [optimizer, *(inner for item in held if item is not None for inner in _inside(item))]


def _is_own(rate: Any) -> bool:
    """Whether a learning rate is a schedule, or a function, that Keras does not have."""
    import keras

    schedules = keras.optimizers.schedules
    if isinstance(rate, schedules.LearningRateSchedule):
        return getattr(schedules, type(rate).__name__, None) is not type(rate)
    return callable(rate) and not hasattr(rate, "dtype")


def _with_rates(config: Any, rates: Mapping[str, Any]) -> Any:
    """A config with the learning rates of the optimizers of those names."""
    if not isinstance(config, Mapping):
        return config
    found = {key: _with_rates(value, rates) for key, value in config.items()}
    own = rates.get(str(config.get("name"))) if "learning_rate" in config else None
    return found if own is None else found | {"learning_rate": own}
