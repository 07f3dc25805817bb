"""Layers that do otherwise on replicas, though each replica does right: random ones, and normalizations of own rows.

The key idea is that the referee runs a step both ways. It takes what each of two arms was given, once as the clauses
say, once with random layers that draw nothing or with all rows normalized together; if that alone makes the two agree,
that alone is why they differ.
"""

from __future__ import annotations

from collections.abc import Callable

from conformance.causes import CAUSES
from conformance.diagnose import signature
from conformance.verdict import Cause, Divergence, Observation

STREAM, STATISTICS = "random_stream_differs", "replica_local_statistics"


def cause_of_layers(apart: Callable[..., float], allowed: float, *, normalizes: bool) -> str | None:
    """The cause by which alone two arms differ; None where they do not, or differ by something else.

    Args:
        apart: how far apart the clauses say that they are, given how the model is called otherwise, as
            `conformance.referee.forward_clauses.Mode` has it.
        allowed: what rounding explains.
        normalizes: whether the model has layers with statistics of a batch.
    """
    if apart() <= allowed:
        return None
    if apart(silent=True) <= allowed:
        return STREAM
    # Rows that go through the model together are drawn for together, too.
    return STATISTICS if normalizes and apart(together=True) <= allowed else None


def of_statistics(divergence: Divergence, wrong: str) -> Observation:
    """What is said of two arms that differ by the statistics of a replica's own rows."""
    entry = CAUSES[STATISTICS]
    line = "by the clauses the two agree where the rows of all replicas go through the model together"
    return Observation(
        divergence=divergence,
        cause=Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, evidence=(line,)),
        signature=signature(divergence.axis, divergence.stage, STATISTICS, "BatchNormalization"),
        wrong_arm=wrong,
    )
