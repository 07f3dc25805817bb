"""Small named steps that make a case simpler, boldest first.

Hypothesis shrinks what it drew, choice by choice; these look at the case as what it is, a training, and leap: one dense
layer for the whole model, plain SGD for the optimizer, one step for the epoch. Each proposes cases; one is kept if it
is simpler by the total order of `simplicity` and still shows the finding. So the passes come to an end, and where two
things will do, every start ends with the one that the tables have first. A proposal that is no valid case is not made.
"""

from __future__ import annotations

from collections.abc import Callable

from conformance.case import Case
from conformance.errors import CaseError
from conformance.passes.of_data import (
    feed_plainly,
    shorten,
    use_plain_precision,
    use_simple_values,
    use_the_first_metric,
)
from conformance.passes.of_layers import plain_layers, use_an_earlier_layer
from conformance.passes.of_losses import use_an_earlier_loss, use_mean_squared_error, weigh_losses_plainly
from conformance.passes.of_models import (
    drop_a_node,
    drop_an_output,
    keep_only_the_head,
    make_it_sequential,
    narrow,
    regularize_the_head,
    use_canonical_names,
    use_one_small_input,
    use_smaller_inputs,
)
from conformance.passes.of_optimizers import drop_an_optimizer_option, use_an_earlier_optimizer, use_plain_sgd
from conformance.passes.of_options import use_earlier_options
from conformance.passes.proposal import Proposals
from conformance.simplicity import simplicity

PASSES: tuple[Callable[[Case], Proposals], ...] = (
    keep_only_the_head,
    shorten,
    use_plain_sgd,
    drop_an_output,
    drop_a_node,
    feed_plainly,
    use_simple_values,
    use_mean_squared_error,
    plain_layers,
    make_it_sequential,
    use_one_small_input,
    drop_an_optimizer_option,
    use_plain_precision,
    narrow,
    use_smaller_inputs,
    regularize_the_head,
    use_an_earlier_layer,
    use_an_earlier_optimizer,
    use_an_earlier_loss,
    use_earlier_options,
    use_the_first_metric,
    weigh_losses_plainly,
    use_canonical_names,
)


def simplified(case: Case, shows: Callable[[Case], bool]) -> Case:
    """The case after all passes, again and again until none finds anything.

    Args:
        case: a case that shows the finding.
        shows: whether a case still shows it; when time is up it answers no to what it has not seen.
    """
    before: Case | None = None
    while case != before:
        before = case
        for simplify in PASSES:
            found: Case | None = case
            while found is not None:
                case = found
                found = next((proposal for proposal in simpler(simplify, case) if shows(proposal)), None)
    return case


def simpler(simplify: Callable[[Case], Proposals], case: Case) -> Proposals:
    """The proposals of a pass that are simpler than the case."""
    key = simplicity(case)
    try:
        for proposal in simplify(case):
            if simplicity(proposal) < key:
                yield proposal
    except CaseError:
        # A part of a proposal was no valid part by itself.
        return
