"""The line of a user's loop that a finding is about.

A finding names the stage of a step that is wrong, and a loop makes most stages by a call that everybody writes alike:
the outputs by calling the model, the loss by calling the loss, the gradients by asking the tape. The first such call in
the function is pointed at, and the line of its `def` where there is none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from conformance.place import Place
from conformance.stage import Stage

_CALLS: dict[Stage, tuple[str, ...]] = {
    Stage.OUTPUTS: ("model", "model.call"),
    Stage.LOSS: ("loss_fn", "loss", "compute_loss", "model.compute_loss"),
    Stage.LOCAL_GRADIENT: ("tape.gradient",),
    Stage.GRADIENT: ("tape.gradient",),
    Stage.UPDATE: ("optimizer.apply_gradients", "optimizer.apply"),
    Stage.WEIGHTS: ("optimizer.apply_gradients", "optimizer.apply"),
}
"""What makes a stage, by how the call is written; `self.` in front of it does not matter."""


def line_of(place: Place, stage: Stage) -> int:
    """The line to point at, from 1.

    Args:
        place: the function.
        stage: the stage that is wrong.
    """
    try:
        tree = ast.parse(Path(place.file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return place.line
    function = _function(tree, place)
    if function is None:
        return place.line
    wanted = _CALLS.get(stage, ())
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _written(node) in wanted]
    return min((call.lineno for call in calls), default=function.lineno)


def _function(tree: ast.Module, place: Place) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None:
    """The definition that is written there; its own line is that of its `def`, below its decorators."""
    return next((node for node in _definitions(tree) if _first(node) == place.line), None)


def _definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def _first(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _written(call: ast.Call) -> str:
    return ast.unparse(call.func).removeprefix("self.")
