"""The short form of a script: one function that calls Keras's own trainer, called twice, and what differs of it.

Most findings show in `fit` on one device and on replicas, and such a script needs no loop, no recorded quantities and
no bits: it is what somebody would write by hand into a bug report. What it cannot show is left to the long form.
"""

from __future__ import annotations

from conformance.reports import repro_case, repro_weights
from conformance.reports.repro_allowance import allowed
from conformance.reports.repro_compare import strategy
from conformance.reports.repro_fit import batches, compiled, fit
from conformance.reports.repro_plan import Plan
from conformance.reports.repro_quantity import found_line
from conformance.reports.source import INDENT, WIDTH, Expression, call, flat, indented, listed, literal, statement
from conformance.stage import Stage

_OWN = frozenset({"fit", "train_on_batch"})


def is_brief(show: Plan) -> bool:
    """Whether a plan has a short form: Keras's own trainers, in a chain of layers, and a difference beyond rounding."""
    case = show.case
    if case.model.kind != "sequential" or repro_case.registered(case) or show.arrays or not set(show.trainers) <= _OWN:
        return False
    if show.wanted is None:
        # What an arm alone has left when it has ended.
        within = show.mirrored or show.tapped or show.log or show.between is not None or show.raises
        return show.trainers == ("fit",) and not within
    return (len(show.trainers) == 1 or not show.parameters) and (show.raises or allowed(show) > 0)


def alone(show: Plan) -> list[str]:
    """The statements that train once and hold the quantity against numbers: no function is called twice."""
    weights = repro_weights.literals(show.case)
    return [
        *_seeded(show),
        *repro_case.model(show.case, depth=0),
        *_initial(show, weights, twice=False, depth=0),
        *_optimizer(show, 0, None),
        *fit(show, depth=0).body,
        *found_line(show),
    ]


def train(show: Plan) -> list[str]:
    """The function `train`, and the initial weights before it where they are used twice."""
    case = show.case
    weights = repro_weights.literals(case)
    twice = show.changes and weights is not None
    lines = [] if not twice else statement("weights = ", listed(weights or ()))
    parameters = [*(["trainer"] if len(show.trainers) > 1 else []), *show.parameters]
    placed = "strategy" in show.parameters
    depth = 2 if placed else 1
    # A name of its own keeps the paths of the optimizer's variables the same in both trainings.
    name = "optimizer" if show.divergence.stage is Stage.UPDATE and not show.raises else None
    scoped = [
        *_model(show, depth),
        *_initial(show, weights, twice=twice, depth=depth),
        *_optimizer(show, depth, name),
    ]
    scoped = ["with strategy.scope():", *indented(scoped)] if placed else scoped
    body = [*_seeded(show), *scoped, *_trained(show), *_result(show, twice)]
    return [*lines, "", "", f"def train({', '.join(parameters)}):", *indented(body)]


def _seeded(show: Plan) -> list[str]:
    return [f"keras.utils.set_random_seed({show.case.seed})"] if repro_case.draws(show.case) else []


def _named(show: Plan) -> bool:
    """Whether names are given, so that variables are told apart by their paths: where there is more than a layer's."""
    nodes = show.case.model.nodes
    return show.divergence.stage is Stage.UPDATE or sum(repro_case.weighted(node) for node in nodes) > 1


def _model(show: Plan, depth: int) -> list[str]:
    named = _named(show) and not (show.raises or show.only_log)
    return repro_case.model(show.case, named=named, depth=depth)


def _initial(show: Plan, weights: list[Expression] | None, *, twice: bool, depth: int = 2) -> list[str]:
    if weights is None:
        start = ["weights = model.get_weights()"] if show.changes else []
        return [*repro_case.initial_weights(show.case), *start]
    given = "weights" if twice else listed(weights)
    return statement("", call("model.set_weights", given), depth=depth)


def _optimizer(show: Plan, depth: int, name: str | None) -> list[str]:
    """The optimizer and `compile`, in one statement where it fits on a line."""
    made = repro_case.optimizer_expression(show.case, name)
    together = compiled(show, "fit", flat(made), lambdas=True, depth=depth)
    if len(together) == 1 and depth * len(INDENT) + len(together[0]) <= WIDTH:
        return together
    apart = compiled(show, "fit", "optimizer", lambdas=True, depth=depth)
    return [*statement("optimizer = ", made, depth=depth), *apart]


def _trained(show: Plan) -> list[str]:
    """The call of `fit`, or of `train_on_batch` for every batch."""
    body = fit(show).body
    if len(show.trainers) == 1:
        return body if show.trainers == ("fit",) else _on_batch(show)
    return ['if trainer == "fit":', *indented(body), "else:", *indented(_on_batch(show))]


def _on_batch(show: Plan) -> list[str]:
    each = batches(show, "model.train_on_batch")
    epochs = show.case.schedule.epochs
    return each if epochs == 1 else [f"for _ in range({epochs}):", *indented(each)]


def _result(show: Plan, twice: bool) -> list[str]:
    """What `train` returns: by name, the arrays that are compared."""
    if show.raises:
        return []
    log = literal(show.log)
    reported = f"{log}: np.array(reports)"
    if show.only_log:
        return ["return np.array(reports)"]
    variables, name = "model.weights", "v.path" if _named(show) else "v.name"
    if show.divergence.stage is Stage.UPDATE:
        variables += " + model.optimizer.variables"
    if show.changes:
        made = f"{{{name}: np.ravel(v.numpy() - w) for v, w in zip({variables}, weights)}}"
    else:
        made = f"{{{name}: np.ravel(v.numpy()) for v in {variables}}}"
    if show.log is None:
        return [f"return {made}"]
    kept = "changes" if show.changes else "values"
    return [f"{kept} = {made}", f"return {{{reported}, **{kept}}}"]


def _calls(show: Plan) -> list[str]:
    """The two calls, of the arm on trial and of the one it is held against."""
    made = []
    for arm in show.arms:
        given = [literal(arm.trainer)] if len(show.trainers) > 1 else []
        given += [strategy(arm)] if "strategy" in show.parameters else []
        given += [literal(arm.execution)] if "execution" in show.parameters else []
        made.append(f"train({', '.join(given)})")
    return made


def main(show: Plan) -> list[str]:
    """The statements that call `train` twice and say what differs."""
    seen, wanted = _calls(show)
    versions = '"Keras", keras.__version__'
    if show.raises:
        # Where the one that should train does not either, the script cannot tell, and says so with a 2.
        first, second = (wanted, seen) if str(show.seen) in show.raised else (seen, wanted)
        told = f'print({versions}, "DIVERGES:", type(error).__name__, str(error)[:500])'
        return [
            *[first, "try:", *indented([second]), "except Exception as error:"],
            *indented([told, "sys.exit(1)"]),
            f'print({versions}, "CONFORMS")',
        ]
    ratio = ", ratio {(got[n] / due[n]).round(3)}" if show.changes else ""
    within = repr(allowed(show))
    if show.only_log:
        shown = [f'print({literal(f"{show.log}:")}, got, "instead of", due)']
        shown.append(f"differ = not np.allclose(got, due, rtol=1e-6, atol={within}, equal_nan=True)")
    else:
        shown = [*_differ(within), "for n in differ:"]
        shown += indented([f'print(f"{{n}}: {{got[n]}} instead of {{due[n]}}{ratio}")'])
    return [
        f"due = {wanted}",
        f"got = {seen}",
        *shown,
        f'print({versions}, "DIVERGES: more than {within} apart" if differ else "CONFORMS")',
        "sys.exit(1 if differ else 0)",
    ]


def _differ(within: str) -> list[str]:
    close = f"np.allclose(got[n], due[n], rtol=1e-6, atol={within}, equal_nan=True)"
    return [f"differ = [n for n in got if not {close}]"]
