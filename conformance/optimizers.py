"""The optimizers a case may hold: one entry each, and no Keras here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.errors import CaseError
from conformance.fields import Field, flag, real, whole


@dataclass(frozen=True)
class OptimizerEntry:
    """What a case needs to know of one optimizer of `keras.optimizers`.

    Attributes:
        name: the class name.
        own: the options only it has, drawn with it.
        rates: learning rates worth drawing, simplest first.
        make: makes a registered optimizer; None for those of `keras.optimizers`.
        features: whether it takes the options that all of Keras's have, beside the learning rate.
    """

    name: str
    own: Mapping[str, Field] = field(default_factory=dict)
    rates: tuple[float, ...] = (0.125, 0.015625)
    make: Callable[..., Any] | None = field(default=None, compare=False)
    features: bool = True


_BETAS = {"beta_1": real(0.9, 0.5, low=0.0, high=0.999), "beta_2": real(0.999, 0.75, low=0.0, high=0.9999)}
_SMALL = (0.015625, 0.125)

_ENTRIES = (
    OptimizerEntry("SGD", {"momentum": real(0.0, 0.5, low=0.0, high=0.999), "nesterov": flag()}),
    OptimizerEntry("Adam", {**_BETAS, "amsgrad": flag()}, _SMALL),
    OptimizerEntry("AdamW", _BETAS, _SMALL),
    OptimizerEntry(
        "RMSprop",
        {
            "rho": real(0.9, 0.5, low=0.0, high=0.999),
            "momentum": real(0.0, 0.5, low=0.0, high=0.999),
            "centered": flag(),
        },
        _SMALL,
    ),
    OptimizerEntry("Adagrad", {"initial_accumulator_value": real(0.1, 0.5, low=0.0)}),
    OptimizerEntry("Adamax", _BETAS, _SMALL),
    OptimizerEntry("Nadam", _BETAS, _SMALL),
    OptimizerEntry("Ftrl", {"learning_rate_power": real(-0.5, -0.25, low=-1.0, high=0.0)}),
)

OPTIMIZERS: dict[str, OptimizerEntry] = {entry.name: entry for entry in _ENTRIES}

CLIPPING: dict[str, Field] = {
    "clipnorm": real(0.125, 1.0, low=1e-9),
    "clipvalue": real(0.125, 0.015625, low=1e-9),
    "global_clipnorm": real(0.125, 1.0, low=1e-9),
}
"""The three kinds of clipping, of which an optimizer takes at most one."""

COMMON: dict[str, Field] = {
    "learning_rate": real(low=0.0, required=True),
    **CLIPPING,
    "weight_decay": real(0.125, low=0.0),
    "use_ema": flag(),
    "ema_momentum": real(0.5, 0.75, low=0.0, high=1.0),
    "ema_overwrite_frequency": whole(2, 3),
    "gradient_accumulation_steps": whole(2, 3, low=2),
}
"""The options every optimizer has."""


def optimizer_entry(name: str, path: str) -> OptimizerEntry:
    """The entry of an optimizer.

    Raises:
        CaseError: when no such optimizer is known.
    """
    if name not in OPTIMIZERS:
        raise CaseError(f"{name!r} is not a known optimizer - at `{path}`; they are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]
