"""The one quantity in which an arm alone is wrong: how a script reads it off a training.

What a step leaves is read when training is over, or between two steps where more of them follow. What passes within a
step is caught by a function in the place of the one of Keras that it passes through.
"""

from __future__ import annotations

import re

from conformance.case import owner_of
from conformance.reports.repro_plan import OF_REPLICAS, Plan
from conformance.reports.source import WIDTH, call, indented, literal, statement
from conformance.stage import Stage

_NUMBERED = re.compile(r"(?P<name>.*)\[(?P<place>\d+)\]")


def holder(show: Plan) -> list[str]:
    """The statement that makes `kept`, which a quantity is written to as it passes."""
    if show.tapped is None or show.expected is None:
        return []
    if show.ragged:
        start, options = "0.0", {"shape": "tf.TensorShape(None)"}
    else:
        # Where no gradient arrives, the zeros say so.
        start, options = f"np.zeros({literal(show.expected.shape)})", {"dtype": '"float32"'}
    if _of_replicas(show):
        options["synchronization"] = "tf.VariableSynchronization.ON_READ"
    return statement("kept = ", call("tf.Variable", start, **options), depth=2)


def watch(show: Plan) -> list[str]:
    """The statements before training by which the quantity is known while it runs."""
    return [*_taps(show), *_reader(show)]


def _taps(show: Plan) -> list[str]:
    """The functions that write to `kept` as a quantity passes through them."""
    of_loss = show.seen.trainer != "loop"
    if show.tapped is Stage.LOCAL_GRADIENT:
        place = f"[v.path for v in model.trainable_variables].index({literal(show.divergence.variable)})"
        keep = ["kept.assign(tf.convert_to_tensor(gradients[place]))", "return apply(gradients, variables)"]
        return [f"place = {place}", *_around("optimizer", "apply", "gradients, variables=None", keep)]
    if show.tapped is Stage.GRADIENT:
        copies = "strategy.experimental_local_results(found.value)"
        same = f"any(variable is copy for copy in {copies})" if show.mirrored else "variable is found.value"
        keep = [f"if {same}:", *indented(["kept.assign(tf.convert_to_tensor(gradient))"])]
        keep.append("return update_step(gradient, variable, learning_rate)")
        return [*_found(show), *_around("optimizer", "update_step", "gradient, variable, learning_rate", keep)]
    if show.tapped is not None and of_loss:
        keep = [f"kept.assign({passing(show, outputs='y_pred')})"]
        # Keras also calls it once to learn shapes, across all replicas.
        keep = ["if training:", *indented(keep)] if show.mirrored else keep
        body = ["loss = compute_loss(x, y, y_pred, sample_weight)", *keep, "return loss"]
        return _around("model", "compute_loss", "x, y, y_pred, sample_weight, training=True", body)
    return []


def _around(owner: str, function: str, parameters: str, body: list[str]) -> list[str]:
    """A function of that name in the place of a method, which it still can call."""
    head = [f"{function} = {owner}.{function}", "", f"def watched({parameters}):"]
    return [*head, *indented(body), "", f"{owner}.{function} = watched"]


def passing(show: Plan, outputs: str = "outputs") -> str:
    """The expression of the loss or output that is looked at, where a step has computed it."""
    if show.tapped is Stage.LOSS:
        # A replica without rows has a loss without elements.
        return "tf.reduce_sum(loss)" if show.mirrored else "loss"
    model = show.case.model
    nodes = {node.name: owner_of(model, node).name for node in model.nodes}
    names = [nodes[name] for name in model.outputs]
    return outputs if len(names) == 1 else f"{outputs}[{names.index(show.divergence.variable)}]"


def _found(show: Plan) -> list[str]:
    """The statements that look `found` up, the variable by its path."""
    name, place = show.divergence.variable, None
    holds, path = "model.variables", "v.path"
    if show.divergence.stage is Stage.UPDATE:
        # The optimizer's own name comes first in its variables' paths, and may be numbered.
        holds, path = "optimizer.variables", 'v.path.partition("/")[2]'
        if numbered := _NUMBERED.fullmatch(name):
            name, place = numbered["name"], numbered["place"]
    look = f"[v for v in {holds} if {path} == name]"
    return [f"name = {literal(name)}", f"(found,) = {look}" if place is None else f"found = {look}[{place}]"]


def found_line(show: Plan) -> list[str]:
    """The statements that read the quantity of one arm on one device into `seen`, once training is over."""
    name, place = show.divergence.variable, None
    holds = "model.variables"
    if show.divergence.stage is Stage.UPDATE:
        holds = "model.optimizer.variables"
        if numbered := _NUMBERED.fullmatch(name):
            name, place = numbered["name"], numbered["place"]
    path = "v.path" if holds == "model.variables" else 'v.path.partition("/")[2]'
    look = f"[v.numpy() for v in {holds} if {path} == {literal(name)}]"
    line = f"(seen,) = {look}" if place is None else f"seen = {look}[{place}]"
    if len(line) <= WIDTH:
        return [line]
    return [f"name = {literal(name)}", line.replace(literal(name), "name")]


def _read(show: Plan) -> str:
    """The expression of the quantity's value; on replicas a list of each one's."""
    held = "found" if show.tapped is None else "kept"
    if not show.mirrored or (show.tapped is not None and not _of_replicas(show)):
        return f"{held}.numpy()"
    copies = held if show.tapped is not None else f"{held}.value"
    return f"[copy.numpy() for copy in strategy.experimental_local_results({copies})]"


def _of_replicas(show: Plan) -> bool:
    return show.mirrored and show.divergence.stage in OF_REPLICAS


def _reader(show: Plan) -> list[str]:
    """Where the quantity is read between steps: the list of its values, and the function that reads one."""
    if show.between is None or show.log is not None:
        return []
    found = [] if show.tapped is not None else _found(show)
    return ["values = []", "", "def read():", *indented([*found, f"return {_read(show)}"]), ""]


def each_step(show: Plan) -> list[str]:
    """The statement after every step that reads the quantity, where it is read between steps."""
    return ["values.append(read())"] if show.between is not None and show.log is None else []


def result(show: Plan) -> list[str]:
    """What `train` returns: the quantity's value; on replicas a list of each one's."""
    last = -1 if show.between is None else show.between
    if show.log is not None and show.log_steps and show.log_epochs:
        return [f"return [reports[{last}], history.history[{literal(show.log)}][-1]]"]
    if show.log is not None:
        return [f"return reports[{last}]"]
    if show.between is not None:
        return [f"return values[{last}]"]
    return [*([] if show.tapped is not None else _found(show)), f"return {_read(show)}"]
