"""The referee, for readers who have never heard of it: what it is, and which sentence it goes by.

Whoever prints a name must not pay for the referee itself, so its modules are imported only where a sentence of theirs
is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.case import Case
from conformance.causes import CAUSES
from conformance.events import FindingMade
from conformance.losses import LOSSES
from conformance.reports.words import REFEREE, in_words
from conformance.verdict import Divergence

if TYPE_CHECKING:
    from conformance.referee.clause import Clause

ABOUT = (
    "The referee computes every step anew in float64, from what the arm had before that step and by the definitions of"
    " docs/semantics.md. It shares no arithmetic with the trainers, losses and optimizers of Keras."
)


def against_referee(found: Divergence) -> bool:
    """Whether a divergence is that of one arm from the definitions, and not of two arms from one another."""
    return found.arms[1] == REFEREE


def told_of_referee(event: FindingMade) -> list[str]:
    """What the event of such a finding is to be told with, a line each; nothing of one of two arms.

    Of its divergence an event has only the message.
    """
    if not event.message.endswith(" against the referee]"):
        return []
    clause = clause_of(event.cause)
    arm = in_words(event.wrong_arm or "an arm")
    shared = ", as do all arms that agree with it" if event.signature.startswith(f"{REFEREE}/") else ""
    return [f"{arm} differs from {in_words(REFEREE)}{shared}", *([definition(clause)] if clause else [])]


def definition(clause: Clause) -> str:
    """A clause in one line."""
    return f"by definition (clause {clause.number} of docs/semantics.md): {clause.sentence}"


def clause_of(cause: str, case: Case | None = None) -> Clause | None:
    """The clause that a cause replaces, the sentence that says what is right.

    Args:
        cause: its name.
        case: the case it was found in, which says which loss a cause of several losses is about.

    Returns:
        The clause; None where there is none, or it is not known which.
    """
    from conformance.referee.semantics import registered

    clauses = {clause.number: clause for clause in registered()}
    entry = CAUSES.get(cause)
    if entry is not None:
        return clauses.get(entry.clause or "")
    names = {clause.name: clause for clause in clauses.values()}
    found = [names[name] for name in _replaced(cause, case) if name in names]
    return found[0] if len(found) == 1 else None


def _replaced(cause: str, case: Case | None) -> list[str]:
    """The functions of the clauses that something Keras is known to do otherwise replaces."""
    from conformance.referee.dispute_deviations import SPARSE
    from conformance.referee.disputed_loss_rules import DISPUTES
    from conformance.referee.disputed_update_rules import UPDATE_DISPUTES
    from conformance.referee.loss_rules import PER_SAMPLE

    if cause == SPARSE:
        return ["combined"]
    updates = [dispute.replaces for dispute in UPDATE_DISPUTES if dispute.name == cause]
    losses = [name for dispute in DISPUTES if dispute.name == cause for name in dispute.losses]
    if len(losses) > 1 and case is not None:
        used = {LOSSES[loss.name].keras_class for loss in case.losses}
        losses = [name for name in losses if name in used]
    return updates + [PER_SAMPLE[name].function.__name__ for name in losses]
