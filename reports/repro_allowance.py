"""How far apart the two arms of a repro script may be.

The engine judges each quantity of each step; a script looks at what is left at the end, so its allowance is derived:
wide enough for rounding to add up over a few steps, and well below what the divergence does to the weights.
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
    same_mode = show.seen.placement == show.wanted.placement and show.seen.execution == show.wanted.execution
    if same_mode and found.allowed == 0:
        return 0.0
    rate = float(show.case.optimizer.config.get("learning_rate", 0.0)) or 1.0
    scale = min(1.0, rate) if found.stage.order < BEFORE_UPDATE else 1.0
    bound = max(10 * found.allowed * scale, _ROUNDING)
    if 0 < found.magnitude < math.inf:
        bound = min(bound, found.magnitude * scale / 4)
    return float(f"{bound:.0e}")
