"""Chapter 7: the update rule of every optimizer of `keras.optimizers`, by class name.

The rules are written from the papers and from Keras's documentation, in NumPy; nothing of Keras is imported. Where the
papers leave a convention open, such as where epsilon stands, it is Keras's.
"""

from __future__ import annotations

from conformance.referee.adam_rules import adam, adamax, lamb, nadam, schedule_free_adamw
from conformance.referee.base_rules import Array, Updated, UpdateRule, UpdateStep, distinct, slot_key
from conformance.referee.gradient_rules import adadelta, adagrad, ftrl, lion, rmsprop, sgd
from conformance.referee.matrix_rules import adafactor, muon

__all__ = [
    "COUNTING",
    "UPDATE_RULES",
    "Array",
    "UpdateRule",
    "UpdateStep",
    "Updated",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "distinct",
    "ftrl",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "rmsprop",
    "schedule_free_adamw",
    "sgd",
    "slot_key",
]

UPDATE_RULES: dict[str, UpdateRule] = {
    "SGD": sgd,
    "RMSprop": rmsprop,
    "Adam": adam,
    "AdamW": adam,
    "Adadelta": adadelta,
    "Adagrad": adagrad,
    "Adamax": adamax,
    "Adafactor": adafactor,
    "Nadam": nadam,
    "Ftrl": ftrl,
    "Lion": lion,
    "Lamb": lamb,
    "Muon": muon,
    "ScheduleFreeAdamW": schedule_free_adamw,
}
"""By the class's name in `keras.optimizers`; the optimizers around others are in `conformance.referee.step_rules`."""

COUNTING = frozenset({"Adam", "AdamW", "Adamax", "Adafactor", "Nadam", "Lamb", "Muon", "ScheduleFreeAdamW"})
"""Those whose rule reads the number of the step: to correct a bias, or for a decay or warm-up of its own."""
