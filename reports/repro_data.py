"""The data of a case as source: short NumPy expressions, or literals where the arrays are tiny.

It mirrors `conformance.data.arrays` and must give the same bits; the tests hold the two against each other.
"""

from __future__ import annotations

import textwrap

import numpy as np

from conformance.case import Case, shapes
from conformance.data import Array, Arrays, arrays
from conformance.losses import LOSSES
from conformance.reports.repro_weights import digits
from conformance.reports.source import INDENT, WIDTH

_TINY = 8
"""Arrays of so many numbers are spelled out even where a short expression makes them."""

_SMALL = 40
"""Arrays of fewer numbers together are not drawn."""

_LONGEST = 90


def data(case: Case, kept: int | None = None) -> list[str]:
    """The statements that make `x`, `y` and, where rows are weighted, `w`; an array each, or a tuple of arrays.

    Args:
        case: the case.
        kept: how many of the first rows to keep; all by default.
    """
    known = shapes(case.model)
    rows, pattern = case.data.rows, case.data.pattern
    kept = rows if kept is None else kept
    if (spelled := _spelled(case, kept)) is not None:
        return spelled
    if not _drawn(case):
        # What is not drawn at random depends on the rows before it, and on nothing behind.
        rows = kept
    x = [
        _reals(pattern, (rows, *item.shape))
        if item.below is None
        else _labels(pattern, (rows, *item.shape), item.below)
        for item in case.model.inputs
    ]
    y = [
        _targets(LOSSES[loss.name].target, pattern, (rows, *known[name]))
        for loss, name in zip(case.losses, case.model.outputs, strict=True)
    ]
    w = [] if case.data.sample_weight is None else [_absolute(_reals(case.data.sample_weight, (rows,))) for _ in y]
    groups = {"x": x, "y": y, "w": w}
    lines = [f"rng = np.random.default_rng({case.data.seed})"] if _drawn(case) else []
    for name, group in groups.items():
        if len(group) == 1:
            lines.append(f"{name} = {group[0]}")
        elif group:
            lines += [f"{name} = (", *(f"{INDENT}{text}," for text in group), ")"]
    if kept < rows:
        made = ", ".join(name for name, group in groups.items() if group)
        lines.append(f"{made} = tf.nest.map_structure(lambda a: a[:{kept}], ({made}))")
    return lines


def _drawn(case: Case) -> bool:
    """Whether any values are drawn at random."""
    return {case.data.pattern, case.data.sample_weight or "ones"} & {"normal", "small_integers"} != set()


def _spelled(case: Case, kept: int) -> list[str] | None:
    """Every array as a literal, where they are small; the draws follow on one another, so it is all of them or none."""
    made = arrays(case).map(lambda array: array[:kept])
    groups = {"x": made.x, "y": made.y, "w": made.sample_weight or ()}
    sizes = [array.size for group in groups.values() for array in group]
    if sum(sizes) >= _SMALL if _drawn(case) else max(sizes) > _TINY:
        return None
    lines: list[str] = []
    for name, group in groups.items():
        lone = f"{name} = {_line(group[0])}" if len(group) == 1 else ""
        texts = [_line(array) for array in group] if not lone else []
        if max(map(len, [lone, *texts])) > (WIDTH if lone else _LONGEST):
            return _table(made)
        lines += [lone] if lone else []
        lines += [f"{name} = (", *(f"{INDENT}{text}," for text in texts), ")"] if texts else []
    return lines


def _table(made: Arrays) -> list[str] | None:
    """All numbers in one text, a row after the other; None where not all arrays are two-dimensional floats."""
    groups = {"x": made.x, "y": made.y, "w": made.sample_weight or ()}
    lone = {name: group[0] for name, group in groups.items() if len(group) == 1}
    if len(lone) < sum(map(bool, groups.values())) or any(
        array.ndim != 2 or array.dtype != np.float32 for array in lone.values()
    ):
        return None
    table = np.concatenate(list(lone.values()), axis=1)
    ends = np.cumsum([array.shape[1] for array in lone.values()])[:-1].tolist()
    texts = [text.removesuffix(".0") for text in digits(table.ravel())[1:-1].split(", ")]
    numbers = textwrap.wrap(" ".join(texts), WIDTH, break_on_hyphens=False)
    made_table = f'np.array(numbers.split(), "float32").reshape{table.shape}'
    return ['numbers = """', *numbers, '"""', f"{', '.join(lone)} = np.hsplit({made_table}, {ends})"]


def _line(array: Array) -> str:
    # A float32 is named by the shortest decimal that rounds to it; as a float64 it would take twice the digits.
    return f'np.array({digits(array)}, "{array.dtype}")'


def _reals(pattern: str, shape: tuple[int, ...]) -> str:
    if pattern == "ones":
        return f'np.ones({shape}, "float32")'
    if pattern == "ramp":
        return _shaped(f"(np.arange(1, {int(np.prod(shape)) + 1}) / 8 % 2)", shape) + '.astype("float32")'
    if pattern == "small_integers":
        return f'rng.integers(-3, 4, {shape}).astype("float32")'
    return f'rng.standard_normal({shape}).astype("float32")'


def _shaped(flat: str, shape: tuple[int, ...]) -> str:
    return flat if len(shape) == 1 else f"{flat}.reshape{shape}"


def _labels(pattern: str, shape: tuple[int, ...], below: int, dtype: str = "int32") -> str:
    if pattern in ("small_integers", "normal"):
        return f'rng.integers(0, {below}, {shape}).astype("{dtype}")'
    return _shaped(f"(np.arange({int(np.prod(shape))}) % {below})", shape) + f'.astype("{dtype}")'


def _targets(kind: str, pattern: str, shape: tuple[int, ...]) -> str:
    if kind == "real":
        return _reals("ramp" if pattern == "ones" else pattern, shape)
    if kind == "positive":
        return _absolute(_reals(pattern, shape))
    if kind == "binary":
        return _labels(pattern, shape, 2, "float32")
    labels = _labels(pattern, shape[:-1], shape[-1])
    return labels if kind == "label" else f'np.eye({shape[-1]}, dtype="float32")[{labels}]'


def _absolute(values: str) -> str:
    return f"np.abs({values})" if "rng." in values else values
