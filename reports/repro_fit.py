"""Keras's own trainers as source: `fit` and `train_on_batch`, with only the branches the case needs.

They mirror `conformance.trainers` and must give the same bits; the tests hold them against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.reports import repro_case
from conformance.reports.repro_plan import Plan
from conformance.reports.repro_quantity import each_step
from conformance.reports.source import Expression, call, indented, listed, literal, statement


@dataclass(frozen=True)
class Code:
    """What a trainer does: statements that belong into the strategy's scope, and those after them."""

    scoped: list[str]
    body: list[str]


def fit(plan: Plan) -> Code:
    """Compile, and call `fit`."""
    case = plan.case
    names = [("x", len(case.model.inputs)), ("y", len(case.losses))]
    names += [("w", len(case.losses))] if case.data.sample_weight else []
    options: dict[str, Expression] = {}
    if case.data.feed == "arrays":
        # As arrays, Keras takes several inputs or outputs as a list.
        x, y, *w = (f"list({name})" if count > 1 else name for name, count in names)
        args = [x, y]
        options = {"sample_weight": w[0]} if w else {}
        options["batch_size"] = str(case.data.batch_size)
    elif case.data.feed == "dataset":
        args = [f"tf.data.Dataset.from_tensor_slices({rows(plan)}).batch({case.data.batch_size})"]
    else:
        args = ["endless()"]
        options["steps_per_epoch"] = str(case.steps_per_epoch)
    if case.schedule.epochs > 1:
        options["epochs"] = str(case.schedule.epochs)
    if case.data.feed == "arrays":
        options["shuffle"] = "False"
    options["verbose"] = "0"
    body = ["reports = []"] if plan.log_steps else []
    for line in [*([f"reports.append(logs[{literal(plan.log)}])"] if plan.log_steps else []), *each_step(plan)]:
        keep = call("keras.callbacks.LambdaCallback", on_train_batch_end=f"lambda batch, logs: {line}")
        body += statement("keep = ", keep, depth=1)
        options["callbacks"] = "[keep]"
    kept = plan.log and plan.log_epochs
    body += statement("history = " if kept else "", call("model.fit", *args, **options), depth=1)
    if kept and not plan.log_steps:
        body.append(f"reports = history.history[{literal(plan.log)}]")
    endless = ["", "def endless():", *indented(["while True:", *indented(batches(plan, "yield "))]), ""]
    return Code(_compiled(plan, "fit"), [*(endless if case.data.feed == "generator" else []), *body])


def on_batch(plan: Plan) -> Code:
    """Compile, and call `train_on_batch` for every batch."""
    each = [*batches(plan, "model.train_on_batch"), *indented(each_step(plan))]
    body = [f"for _ in range({plan.case.schedule.epochs}):", *indented(each)]
    return Code(_compiled(plan, "train_on_batch"), [*body, *finalized(plan)])


def batches(plan: Plan, use: str) -> list[str]:
    """A loop over the batches of an epoch that yields them, or calls with them."""
    case, size = plan.case, plan.case.data.batch_size
    parts = {"x": len(case.model.inputs), "y": len(case.losses)}
    parts |= {"w": len(case.losses)} if case.data.sample_weight else {}
    head = f"for i in range(0, {case.data.rows}, {size}):"
    if use == "yield " and max(parts.values()) > 1:
        return [head, *indented([f"yield tf.nest.map_structure(lambda a: a[i : i + {size}], {rows(plan)})"])]
    cut = [
        f"[a[i : i + {size}] for a in {name}]" if count > 1 else f"{name}[i : i + {size}]"
        for name, count in parts.items()
    ]
    if use == "yield ":
        return [head, *indented([use + ", ".join(cut)])]
    named = {"sample_weight": cut[2]} if len(cut) > 2 else {}
    return [head, *indented(statement("", call(use, *cut[:2], **named), depth=3))]


def _compiled(plan: Plan, trainer: str) -> list[str]:
    case = plan.case
    losses = repro_case.losses(case)
    options: dict[str, Expression] = {}
    weights = [literal(loss.weight) for loss in case.losses if loss.weight is not None]
    if weights:
        options["loss_weights"] = weights[0] if len(losses) == 1 else f"[{', '.join(weights)}]"
    metrics = [
        [f"keras.metrics.{kind}(name={literal(name)})" for name, kind in m.items()] for m in repro_case.metrics(case)
    ]
    reported = plan.log is not None and plan.log != "loss" and not plan.log.endswith("_loss")
    if any(metrics) and (plan.raises or reported):
        options["metrics"] = listed(metrics[0] if len(metrics) == 1 else [listed(m) for m in metrics])
    executions = plan.executions(trainer)
    if "eager" in executions:
        options["run_eagerly"] = "True" if len(executions) == 1 else 'execution == "eager"'
    if plan.xla:
        options["jit_compile"] = str("xla" in executions) if len(executions) == 1 else 'execution == "xla"'
    if case.schedule.steps_per_execution > 1:
        options["steps_per_execution"] = str(case.schedule.steps_per_execution)
    loss = losses[0] if len(losses) == 1 else listed(losses)
    return statement("", call("model.compile", "optimizer", loss, **options), depth=2)


def finalized(plan: Plan) -> list[str]:
    """What only `fit` does by itself: write the averages into the weights at the end, where there are any.

    A script that looks at what a step has left ends before.
    """
    averaged = plan.case.optimizer.config.get("use_ema", False)
    if plan.expected is not None and plan.divergence.step is not None:
        return []
    return ["optimizer.finalize_variable_values(model.trainable_variables)"] if averaged else []


def rows(plan: Plan) -> str:
    """The tuple of the data's names."""
    return "(x, y, w)" if plan.case.data.sample_weight else "(x, y)"
