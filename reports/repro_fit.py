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


def fit(plan: Plan, depth: int = 1) -> Code:
    """Compile, and call `fit`, so deep within functions."""
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
        args = ["endless" if _single(plan) else "endless()"]
        options["steps_per_epoch"] = str(case.steps_per_epoch)
    if case.schedule.epochs > 1:
        options["epochs"] = str(case.schedule.epochs)
    if case.data.feed == "arrays":
        options["shuffle"] = "False"
    options["verbose"] = "0"
    body = ["reports = []"] if plan.log_steps else []
    for line in [*([f"reports.append(logs[{literal(plan.log)}])"] if plan.log_steps else []), *each_step(plan)]:
        keep = call("keras.callbacks.LambdaCallback", on_train_batch_end=f"lambda _, logs: {line}")
        body += statement("keep = ", keep, depth=depth)
        options["callbacks"] = "[keep]"
    trained = call("model.fit", *args, **options)
    of_epochs, report = plan.log and plan.log_epochs, f".history[{literal(plan.log)}]"
    if of_epochs and not plan.log_steps and len(statement("reports = ", trained, report, depth=depth)) == 1:
        body += statement("reports = ", trained, report)
    else:
        body += statement("history = " if of_epochs else "", trained, depth=depth)
        body += [f"reports = history{report}"] if of_epochs and not plan.log_steps else []
    return Code(compiled(plan, "fit"), [*(_endless(plan) if case.data.feed == "generator" else []), *body])


def _endless(plan: Plan) -> list[str]:
    """The definition of the generator that begins again where the data ends."""
    case, size = plan.case, plan.case.data.batch_size
    if not _single(plan):
        return ["", "def endless():", *indented(["while True:", *indented(batches(plan, "yield "))]), ""]
    cut = ", ".join(f"{name}[i : i + {size}]" for name in rows(plan)[1:-1].split(", "))
    starts = f"range(0, {case.data.rows}, {size})" if size > 1 else f"range({case.data.rows})"
    return [f"endless = (({cut}) for i in itertools.cycle({starts}))"]


def imports(plan: Plan) -> list[str]:
    """The modules of Python's that `fit` needs in a script."""
    return ["import itertools"] if plan.case.data.feed == "generator" and _single(plan) else []


def _single(plan: Plan) -> bool:
    return "fit" in plan.trainers and len(plan.case.model.inputs) == len(plan.case.losses) == 1


def on_batch(plan: Plan) -> Code:
    """Compile, and call `train_on_batch` for every batch."""
    each = [*batches(plan, "model.train_on_batch"), *indented(each_step(plan))]
    body = [f"for _ in range({plan.case.schedule.epochs}):", *indented(each)]
    return Code(compiled(plan, "train_on_batch"), [*body, *finalized(plan)])


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


def compiled(
    plan: Plan, trainer: str, optimizer: str = "optimizer", *, lambdas: bool = False, depth: int = 2
) -> list[str]:
    """The call of `compile`.

    Args:
        plan: the plan.
        trainer: the trainer whose executions it has to serve.
        optimizer: the expression of the optimizer.
        lambdas: whether losses that are functions stand in it, and have no definition.
        depth: how deep it stands.
    """
    case = plan.case
    losses = repro_case.losses(case, lambdas=lambdas)
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
    return statement("", call("model.compile", optimizer, loss, **options), depth=depth)


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
