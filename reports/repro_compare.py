"""The part of a repro script that runs both arms, shows the quantities that differ and says so in its exit code."""

from __future__ import annotations

from conformance.arm import Arm
from conformance.reports.repro_plan import Plan
from conformance.reports.source import Bracket, call, indented, literal, statement

_EXECUTIONS = {"graph": "", "eager": ", eagerly", "xla": ", compiled by XLA"}
_TRAINERS = {"fit": "fit", "loop": "a custom loop", "train_on_batch": "train_on_batch"}


def named(arm: Arm) -> str:
    """An arm in words, as in `fit under MirroredStrategy with 2 replicas`."""
    replicas = arm.placement.replicas
    where = f"under MirroredStrategy with {replicas} replicas" if replicas > 1 else "on one device"
    return f"{_TRAINERS[arm.trainer]} {where}{_EXECUTIONS[arm.execution]}"


def start(show: Plan) -> list[str]:
    return ["start = {v.path: v.numpy() for v in model.weights}"] if show.changes else []


def _arguments(show: Plan, arm: Arm) -> list[str]:
    given = [arm.trainer] if len(show.trainers) > 1 else []
    given += [strategy(arm)] if "strategy" in show.parameters else []
    return [*given, *([literal(arm.execution)] if "execution" in show.parameters else [])]


def strategy(arm: Arm) -> str:
    if not arm.placement.mirrored:
        return "tf.distribute.getstrategy()"
    devices = ", ".join(f'"CPU:{index}"' for index in range(arm.placement.replicas))
    return f"tf.distribute.MirroredStrategy([{devices}])"


def result(show: Plan) -> list[str]:
    """What `train` returns: pairs of a name and values, exact in float64."""
    if show.raises:
        return []
    if show.arrays:
        rows = "(x, y, w)" if show.case.data.sample_weight else "(x, y)"
        return [f'return [("data", np.copy(a)) for a in tf.nest.flatten({rows})]']
    label = literal(f"{show.log}, {'step' if show.log_steps else 'epoch'} ")
    told = f"[({label} + str(i), report) for i, report in enumerate(reports)]"
    if show.only_log:
        return [f"return {told}"]
    value = 'v.numpy().astype("float64")' + (" - start.get(v.path, 0)" if show.changes else "")
    lines = ["variables = model.weights + optimizer.variables", f"values = [(v.path, {value}) for v in variables]"]
    return [*lines, f"return values + {told}"] if show.log else [lines[0], lines[1].replace("values =", "return")]


def main(show: Plan) -> list[str]:
    versions = 'print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}")'
    limit = "the same bits are due" if show.allowed == 0 else f"more than {show.allowed!r} apart"
    said = literal("DIVERGES: one raises" if show.raises else f"DIVERGES: {limit}")
    end = [f'print({said} if differ else "CONFORMS")', "sys.exit(1 if differ else 0)"]
    compare = _compare_raised if show.raises else _compare_values
    return [versions, *compare(show), *end]


def _compare_raised(show: Plan) -> list[str]:
    arms = [call("", literal(named(arm)), *_arguments(show, arm)) for arm in show.arms]
    attempt = [
        "train(*given)",
        "outcomes.append(None)",
    ]
    failed = [
        "outcomes.append(type(error))",
        'print(f"{name} raises {type(error).__name__}: {' '.join(str(error).split())[:300]}")',
    ]
    body = ["try:", *indented(attempt), "except Exception as error:", *indented(failed)]
    return [
        "outcomes = []",
        *statement("for name, *given in ", Bracket("(", tuple(arms)), ":"),
        *indented(body),
        "differ = outcomes[0] != outcomes[1]",
    ]


def _compare_values(show: Plan) -> list[str]:
    bits = show.allowed == 0
    same = "np.array_equal(a, b, equal_nan=True)"
    if not bits:
        same = f"np.allclose(a, b, rtol=1e-6, atol={show.allowed!r}, equal_nan=True)"
    measured = ["ratio = np.vdot(a, b) / np.vdot(b, b)"] if show.changes else []
    ratio = ", ratio {ratio:.4g}" if show.changes else ""
    lines = [
        *statement("wanted = ", call("train", *_arguments(show, show.wanted))),
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
