"""How far apart what a repro script compares may be.

The engine judges each quantity of each step; a script of two arms looks at what is left at the end, so its allowance is
derived: wide enough for rounding to add up over a few steps, and well below what the divergence does to the weights. An
arm alone is looked at in the very quantity that was judged, and is allowed a little more there, for other machines.
"""

from __future__ import annotations

import math

from conformance.reports.repro_plan import BEFORE_UPDATE, Plan

_ROUNDING = 1e-6


def allowed(show: Plan) -> float:
    """The difference the script allows in what it compares; 0 where the same bits are due.

    A gradient reaches the weights multiplied by the learning rate, and so does its allowance.
    """
    found = show.divergence
    modes = {(arm.placement, arm.execution) for arm in show.arms}
    if show.expected is not None:
        rounding, scale = _ROUNDING * _size(show), 1.0
    elif found.allowed == 0 and len(modes) == 1:
        return 0.0
    else:
        rate = float(show.case.optimizer.config.get("learning_rate", 0.0)) or 1.0
        rounding, scale = _ROUNDING, min(1.0, rate) if found.stage.order < BEFORE_UPDATE else 1.0
    bound = max(10 * found.allowed * scale, rounding)
    if 0 < found.magnitude < math.inf:
        bound = min(bound, found.magnitude * scale / 4)
    return float(f"{bound:.0e}")


def _size(show: Plan) -> float:
    """The largest of what is expected and by how much it is missed."""
    values = [float.fromhex(value) for value in show.expected.values] if show.expected else []
    sizes = [abs(value) for value in (*values, show.divergence.magnitude) if math.isfinite(value)]
    return max(sizes, default=0.0) or 1.0
