"""The minimal reproduction of a finding: a script of a screenful that imports only numpy, tensorflow and keras.

It builds what the case builds, trains it in both arms, or in the one that is held against numbers, prints the
quantities that differ, and exits with 1 while they do, 0 once they do not, and 2 when it cannot tell.
"""

from __future__ import annotations

from conformance.devices import REWRITES
from conformance.reports import repro_case
from conformance.reports.repro_allowance import allowed
from conformance.reports.repro_choice import plan
from conformance.reports.repro_compare import main, result, start, strategy
from conformance.reports.repro_data import data
from conformance.reports.repro_docstring import told
from conformance.reports.repro_fit import fit, on_batch
from conformance.reports.repro_functions import function_loss, functions
from conformance.reports.repro_loop import loop
from conformance.reports.repro_plan import Plan
from conformance.reports.repro_quantity import watch
from conformance.reports.source import WIDTH, indented
from conformance.reports.text import docstring
from conformance.verdict import Verdict

_TRAINERS = {"fit": fit, "loop": loop, "train_on_batch": on_batch}


def script(verdict: Verdict) -> str:
    """The script that shows the first divergence of a verdict.

    Args:
        verdict: a verdict with a case and a divergence of two arms among `fit`, `loop` and `train_on_batch`, or of one
            of them from the referee.

    Returns:
        Python source, ending in a newline.

    Raises:
        UnsupportedError: when no script can be written: parts of the user's own, a loop on trial, a registered layer
            that cannot be imported, a quantity that cannot be held against numbers.
    """
    show = plan(verdict)
    lines = [
        *docstring(told(show, verdict), WIDTH),
        *["", "import os", "import sys", ""],
        'os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")',
        *["import keras", "import numpy as np", "import tensorflow as tf"],
        *repro_case.registered(show.case),
        *["", *_machine(show), *data(show.whole, show.case.data.rows)],
        *functions(show.case),
        *function_loss(show),
        *_functions(show),
        *["", "", *main(show)],
    ]
    return "\n".join(lines) + "\n"


def _machine(show: Plan) -> list[str]:
    lines = ["sys.excepthook = lambda *e: (sys.__excepthook__(*e), sys.stdout.flush(), os._exit(2))"]
    if allowed(show) == 0:
        lines += [f"tf.config.threading.set_{kind}_op_parallelism_threads(1)" for kind in ("intra", "inter")]
        # Rewritten graphs of one arithmetic round differently; see `conformance.devices.unfolded`.
        off = ", ".join(f'"{name}": False' for name in REWRITES)
        lines += ["tf.config.optimizer.set_experimental_options(", f"    {{{off}}}", ")"]
    if show.mirrored:
        parts = f"[tf.config.LogicalDeviceConfiguration()] * {show.replicas}"
        lines.append('cpu = tf.config.list_physical_devices("CPU")[0]')
        lines.append(f"tf.config.set_logical_device_configuration(cpu, {parts})")
    if not show.xla:
        lines.append("tf.config.experimental.enable_op_determinism()")
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
