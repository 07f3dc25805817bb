"""A training that leaves its model as it was: whether it did, and as far as the records tell, how.

The key idea is that standing still is a fact and no matter of tolerance: every weight is, after every step and at the
end, bit for bit what the training was given. Whether that is wrong is for others to say, who know what was due: with a
learning rate of zero, `fit` stands still too.
"""

from __future__ import annotations

import numpy as np

from conformance.stage import Stage
from conformance.trace import Trace

SHOWN = 3
"""So many variables are named, and of others the number is said."""

_NEITHER = "neither is the optimizer called nor, under a tape, the model"


def stood_still(trace: Trace) -> bool:
    """Whether no weight was ever another one than the training was given."""
    given = {name: values for (stage, name), values in trace.start.items() if stage is Stage.WEIGHTS}
    seen = [(key[2], values) for key, values in trace.values.items() if key[1] is Stage.WEIGHTS and key[2] in given]
    return bool(seen) and all(
        np.array_equal(value, start, equal_nan=True)
        for name, values in seen
        for value, start in zip(values, given[name], strict=True)
    )


def unwatched(trace: Trace) -> bool:
    """Whether it stood still without a call of its optimizer, so that nothing says what it would have done."""
    return trace.error is None and not trace.applied and stood_still(trace)


def how(trace: Trace) -> tuple[str, ...]:
    """What a training that stood still did instead of training, a line each."""
    steps = f"at each of {trace.steps} steps"
    if trace.foreign:
        return (f"the optimizer is given variables of another model, and none of the given one's: {_listed(trace)}",)
    if not trace.applied:
        called = any(any(counts) for counts in trace.calls.values())
        never = "the optimizer is never called" if called or not trace.steps else _NEITHER
        return (f"{never}, and no weight is assigned",)
    if _all_zero(trace, Stage.LOCAL_GRADIENT):
        return (f"the optimizer is called {steps}, with gradients that are all zero",)
    if trace.rates and not any(trace.rates.values()):
        return (f"the optimizer is called {steps}, with a learning rate of 0",)
    return (f"the optimizer is called {steps}, and the weights are afterwards what they were before",)


def _all_zero(trace: Trace, stage: Stage) -> bool:
    found = [value for key, values in trace.values.items() if key[1] is stage for value in values]
    return bool(found) and not any(np.any(value) for value in found)


def _listed(trace: Trace) -> str:
    names = trace.foreign
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
