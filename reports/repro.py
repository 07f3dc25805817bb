"""The minimal reproduction of a finding: a script of a screenful that imports only numpy, tensorflow and keras.

It builds what the case builds, trains it in both arms, or in the one that is held against numbers, prints the
quantities that differ, and exits with 1 while they do, 0 once they do not, and 2 when it cannot tell.
"""

from __future__ import annotations

from conformance.devices import REWRITES
from conformance.errors import UnsupportedError
from conformance.reports import repro_brief, repro_case, repro_fit
from conformance.reports.repro_allowance import allowed
from conformance.reports.repro_brief import is_brief
from conformance.reports.repro_choice import plan
from conformance.reports.repro_compare import main, result, start, strategy
from conformance.reports.repro_data import data
from conformance.reports.repro_docstring import told
from conformance.reports.repro_fit import fit, on_batch
from conformance.reports.repro_functions import function_loss, functions
from conformance.reports.repro_loop import loop
from conformance.reports.repro_plainer import plainer
from conformance.reports.repro_plan import Plan
from conformance.reports.repro_quantity import watch
from conformance.reports.source import WIDTH, indented
from conformance.reports.text import docstring
from conformance.verdict import Verdict

_TRAINERS = {"fit": fit, "loop": loop, "train_on_batch": on_batch}


def script(verdict: Verdict) -> str:
    """The script that shows the first divergence of a verdict, the shortest one.

    Args:
        verdict: a verdict with a case and a divergence of two arms among `fit`, `loop` and `train_on_batch`, or of one
            of them from the referee.

    Returns:
        Python source, ending in a newline.

    Raises:
        UnsupportedError: when no script can be written: parts of the user's own, a loop on trial, a registered layer
            that cannot be imported, a quantity that cannot be held against numbers.
    """
    return scripts(verdict)[0]


def scripts(verdict: Verdict) -> tuple[str, ...]:
    """Every script that may show the first divergence of a verdict, the shortest one first.

    A short one may look away from what a longer one looks at; which one is kept is decided by running them.

    Raises:
        UnsupportedError: as `script` does.
    """
    made: list[str] = []
    try:
        show = plan(verdict)
    except UnsupportedError:
        # What cannot be held against numbers may still show between two arms.
        short = plainer(plan(verdict, alone=False), verdict)
        if short.wanted is None or not is_brief(short):
            raise
        return (_brief(short, verdict),)
    short = plainer(show, verdict)
    if is_brief(short):
        made.append(_brief(short, verdict))
    made.append(_long(show, verdict))
    return tuple(made)


def _brief(show: Plan, verdict: Verdict) -> str:
    body = [
        *["", _HOOK, *_devices(show), *(_DETERMINISM if _reads_ahead(show) else [])],
        *data(show.whole, show.case.data.rows),
        *(repro_brief.alone(show) if show.wanted is None else [*repro_brief.train(show), "", ""]),
        *(main(show, trained="") if show.wanted is None else repro_brief.main(show)),
    ]
    return _source(show, verdict, body)


def _long(show: Plan, verdict: Verdict) -> str:
    body = [
        *["", *_machine(show), *data(show.whole, show.case.data.rows)],
        *functions(show.case),
        *function_loss(show),
        *_functions(show),
        *["", "", *main(show)],
    ]
    return _source(show, verdict, body)


def _source(show: Plan, verdict: Verdict, body: list[str]) -> str:
    """A script whose body is this, with what it imports and what it says of itself."""
    tensorflow = ["import tensorflow as tf"] if any("tf." in line for line in body) else []
    imports = ["import sys", "import keras", "import numpy as np", *tensorflow, *repro_case.registered(show.case)]
    said = [*told(show, verdict), *repro_case.needed(show.case)]
    lines = [*docstring(said, WIDTH), "", *repro_fit.imports(show), *imports, *body]
    return "\n".join(lines) + "\n"


_HOOK = "sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)"
"""An error is no divergence. Python itself exits with 1 after one, and with what a hook of its own exits with."""


_DETERMINISM = ["tf.config.experimental.enable_op_determinism()"]


def _reads_ahead(show: Plan) -> bool:
    """Whether, without op determinism, how far a generator is read ahead of the steps is a matter of chance."""
    return show.case.data.feed == "generator" and show.mirrored and not show.xla


def _devices(show: Plan) -> list[str]:
    if not show.mirrored:
        return []
    parts = f"[tf.config.LogicalDeviceConfiguration()] * {show.replicas}"
    return [
        'cpu = tf.config.list_physical_devices("CPU")[0]',
        f"tf.config.set_logical_device_configuration(cpu, {parts})",
    ]


def _machine(show: Plan) -> list[str]:
    lines = [_HOOK]
    if allowed(show) == 0:
        lines += [f"tf.config.threading.set_{kind}_op_parallelism_threads(1)" for kind in ("intra", "inter")]
        # Rewritten graphs of one arithmetic round differently; see `conformance.devices.unfolded`.
        off = ", ".join(f'"{name}": False' for name in REWRITES)
        lines += ["tf.config.optimizer.set_experimental_options(", f"    {{{off}}}", ")"]
    lines += _devices(show)
    if _reads_ahead(show) or (not show.xla and (allowed(show) == 0 or repro_case.draws(show.case))):
        lines += _DETERMINISM
    if show.mirrored and "strategy" not in show.parameters:
        lines.append(f"strategy = {strategy(show.seen)}")
    return lines


def _functions(show: Plan) -> list[str]:
    """`train`, and before it the model and the trainers where they have functions of their own."""
    lines: list[str] = []
    if show.case.model.kind == "sequential":
        made = repro_case.model(show.case)
    else:
        lines += ["", "", "def build_model():", *indented(repro_case.model(show.case))]
        made = ["model = build_model()"]
    scoped = [*made, *repro_case.initial_weights(show.case), *repro_case.optimizer(show.case)]
    parameters = ", ".join(show.parameters)
    codes = {name: _TRAINERS[name](show) for name in show.trainers}
    seeded = [f"keras.utils.set_random_seed({show.case.seed})"] if repro_case.draws(show.case) else []
    if len(codes) == 1:
        (code,) = codes.values()
        body = [*seeded, *_scope(show, [*scoped, *start(show), *code.scoped]), *watch(show), *code.body]
    else:
        given = ", ".join(["model", "optimizer", *(["strategy"] if "strategy" in show.parameters else [])])
        for name, code in codes.items():
            end = ["return reports"] if show.log else []
            lines += ["", "", f"def {name}({given}):", *_body([*_scope(show, code.scoped), *code.body, *end])]
        keep = "reports = " if show.log else ""
        body = [*seeded, *_scope(show, [*scoped, *start(show)]), f"{keep}trainer({given})"]
        parameters = ", ".join(["trainer", *show.parameters])
    return [*lines, "", "", f"def train({parameters}):", *_body([*body, *result(show)])]


def _body(lines: list[str]) -> list[str]:
    """Lines as a function's body, with no empty line at its beginning and no two in a row."""
    return indented(line for line, before in zip(lines, ["", *lines], strict=False) if line or before)


def _scope(show: Plan, lines: list[str]) -> list[str]:
    return ["with strategy.scope():", *indented(lines)] if show.mirrored and lines else lines
