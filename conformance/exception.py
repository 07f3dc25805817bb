"""What every arm raises, as a finding.

Where one arm raises and another trains, comparing them says so. Where all of them do, nothing is left to compare, and
of a case made of Keras's own layers that is Keras refusing the case: no finding. Of a layer somebody has written, or of
a whole model of theirs, it is what they want to know first: so it has a cause and a signature, and is shrunk like any
other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from conformance.arm import Arm
from conformance.case import Case
from conformance.causes import CAUSES
from conformance.diagnose import signature
from conformance.layers import LAYERS
from conformance.raised import Raised
from conformance.stage import Stage
from conformance.trace import Trace
from conformance.verdict import EVERY_ARM, Cause, Divergence, Observation

NAME = "raises_in_every_arm"


def everywhere(traces: Mapping[Arm, Trace], case: Case | None) -> Observation | None:
    """The finding that all of these traces are, every one of which has ended in an exception.

    Args:
        traces: the traces, by arm, the first arm of the plan first.
        case: the case, or None where parts of a user's own were judged.

    Returns:
        The finding; None where it is Keras that refuses the case.
    """
    arms = list(traces)
    raised = traces[arms[0]].error
    if raised is None or (case is not None and not _of_ones_own(raised, case)):
        return None
    stage = Stage.OUTPUTS if raised.layer else traces[arms[0]].furthest()
    entry = CAUSES[NAME]
    return Observation(
        divergence=Divergence(
            arms=(str(arms[0]), str(arms[-1])),
            axis=EVERY_ARM,
            step=None,
            stage=stage,
            variable=raised.layer or raised.kind,
            magnitude=math.inf,
            allowed=0.0,
            message=f"every arm raises {raised}",
        ),
        cause=Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, evidence=(str(raised),)),
        signature=signature(EVERY_ARM, stage, NAME, raised.feature),
    )


def _of_ones_own(raised: Raised, case: Case) -> bool:
    """Whether a registered layer raised, or something that its lines called."""
    own = {node.layer for node in case.model.nodes if node.layer and LAYERS[node.layer].make is not None}
    return bool(own) and (raised.line is not None or raised.layer_class in own)
