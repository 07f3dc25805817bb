"""Training loops as people write them: each name of a cause made by hand, and loops without a mistake.

What a loop is on trial for is in `Loop`; its mistake, and the line that would be right, in its docstring.
"""

from __future__ import annotations

import correct_loops
import wrong_data
import wrong_losses
import wrong_replicas
import wrong_reports
import wrong_updates
from parts import Loop

LOOPS: tuple[Loop, ...] = (
    *wrong_losses.LOOPS,
    *wrong_data.LOOPS,
    *wrong_updates.LOOPS,
    *wrong_reports.LOOPS,
    *wrong_replicas.LOOPS,
    *correct_loops.LOOPS,
)

__all__ = ["LOOPS", "Loop"]
