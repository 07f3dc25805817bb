"""The part of a repro script that runs its arms, shows the quantities that differ and says so in its exit code."""

from __future__ import annotations

from conformance.arm import Arm
from conformance.reports import repro_expected, repro_quantity
from conformance.reports.repro_allowance import allowed
from conformance.reports.repro_plan import Plan
from conformance.reports.source import WIDTH, Bracket, call, indented, literal, statement
from conformance.reports.words import named


def start(show: Plan) -> list[str]:
    """The statements that keep what training starts from, where changes are compared, and what passes in it."""
    if show.expected is not None:
        return repro_quantity.holder(show)
    return ["start = {v.path: v.numpy() for v in model.weights}"] if show.changes else []


def _arguments(show: Plan, arm: Arm) -> list[str]:
    given = [arm.trainer] if len(show.trainers) > 1 else []
    given += [strategy(arm)] if "strategy" in show.parameters else []
    return [*given, *([literal(arm.execution)] if "execution" in show.parameters else [])]


def strategy(arm: Arm) -> str:
    """The expression that makes an arm's strategy."""
    if not arm.placement.mirrored:
        return "tf.distribute.get_strategy()"
    devices = ", ".join(f'"CPU:{index}"' for index in range(arm.placement.replicas))
    return f"tf.distribute.MirroredStrategy([{devices}])"


def result(show: Plan) -> list[str]:
    """What `train` returns: pairs of a name and values, exact in float64; of an arm alone its one quantity."""
    if show.raises:
        return []
    if show.expected is not None:
        return repro_quantity.result(show)
    if show.arrays:
        rows = "(x, y, w)" if show.case.data.sample_weight else "(x, y)"
        return [f'return [("data", np.copy(a)) for a in tf.nest.flatten({rows})]']
    label = literal(f"{show.log}, {'step' if show.log_steps else 'epoch'} ")
    told = f"[({label} + str(i), report) for i, report in enumerate(reports)]"
    if show.only_log:
        return [f"return {told}"]
    lines = ["variables = model.weights + optimizer.variables"]
    value = 'v.numpy().astype("float64")'
    if show.copies:
        lines.append("copies = strategy.experimental_local_results")
        held = "[c.numpy() for c in copies(v.value)]"
        # In one placement the copies are compared one by one; otherwise only their mean has a counterpart.
        value = f'np.mean({held}, 0, "float64")' if "strategy" in show.parameters else f'np.array({held}, "float64")'
    value += " - start.get(v.path, 0)" if show.changes else ""
    # A comprehension breaks as a list does: its clauses each on a line where they do not fit on one.
    pair, each = f"(v.path, {value})", "for v in variables"
    keep = "values = " if show.log else "return "
    values = [f"{keep}[{pair} {each}]"]
    if len(values[0]) > WIDTH - 4:
        parts = [f"{pair} {each}"] if len(pair) + len(each) + 1 <= WIDTH - 8 else [pair, each]
        values = [f"{keep}[", *indented(parts), "]"]
    return [*lines, *values, *([f"return values + {told}"] if show.log else [])]


def main(show: Plan, trained: str = "seen = train()") -> list[str]:
    """The statements that run the arms and compare what comes of them; the one that trains an arm alone, if any."""
    limit = "the same bits are due" if allowed(show) == 0 else f"more than {allowed(show)!r} apart"
    apart = "every arm raises" if show.raises_everywhere else "one raises, the other trains"
    said = literal(f"DIVERGES: {apart if show.raises else limit}")
    end = statement("", call("print", '"Keras"', "keras.__version__", f'{said} if differ else "CONFORMS"'))
    if show.raises:
        compared = _compare_raised(show)
    elif show.wanted is None:
        compared = repro_expected.compare(show, trained)
    else:
        compared = _compare_values(show, show.wanted)
    return [*compared, *end, "sys.exit(1 if differ else 0)"]


_SAID = "' '.join(str(error).split())[:300]"


def _compare_raised(show: Plan) -> list[str]:
    if len(show.arms) == 1:
        told = f'print(f"{named(show.seen)} raises {{type(error).__name__}}: {{{_SAID}}}")'
        attempt = ["try:", *indented(["train()"]), "except Exception as error:", *indented([told, "differ = True"])]
        return ["differ = False", *attempt]
    arms = [Bracket("(", (literal(named(arm)), *_arguments(show, arm))) for arm in show.arms]
    told = f'print(f"{{name}} raises {{type(error).__name__}}: {{{_SAID}}}")'
    attempt = ["try:", *indented(["train(*given)"]), "except Exception as error:", *indented([told, "raised += 1"])]
    loop = statement("for name, *given in ", Bracket("(", tuple(arms)), ":")
    return ["raised = 0", *loop, *indented(attempt), "differ = raised == 1"]


def _compare_values(show: Plan, wanted: Arm) -> list[str]:
    bits = allowed(show) == 0
    same = "np.array_equal(a, b, equal_nan=True)"
    if not bits:
        same = f"np.allclose(a, b, rtol=1e-6, atol={allowed(show)!r}, equal_nan=True)"
    measured = ["ratio = np.vdot(a, b) / np.vdot(b, b)"] if show.changes else []
    ratio = ", ratio {ratio:.4g}" if show.changes else ""
    lines = [
        *statement("wanted = ", call("train", *_arguments(show, wanted))),
        *statement("seen = ", call("train", *_arguments(show, show.seen))),
        "differ = abs(len(seen) - len(wanted))",
        f"# {_look(show)}",
        "for (name, a), (_, b) in zip(seen, wanted):",
    ]
    told = [*measured, f'print(f"{{name}}: off by {{np.abs(a - b).max():.3g}}{ratio}")', "differ += 1"]
    return [*lines, *indented([f"if not {same}:", *indented(told)])]


def _look(show: Plan) -> str:
    """What to look at, in a comment."""
    if show.arrays:
        return "The arrays after training: a training has no business writing into them."
    if show.only_log:
        return "What training reported."
    if show.changes:
        return "What training added to each weight, and the optimizer's variables."
    return "The weights and the optimizer's variables after training."
