"""The part of a repro script that holds one quantity against the numbers that it should be."""

from __future__ import annotations

import math
import textwrap

from conformance.reports.repro_allowance import allowed
from conformance.reports.repro_plan import OF_REPLICAS, Plan
from conformance.reports.source import WIDTH, indented
from conformance.verdict import Expected

_LEAST, _MOST = 6, 17
"""So many significant digits are written: fewer are hard to recognize, and more say nothing of a float64."""


def compare(show: Plan, trained: str = "seen = train()") -> list[str]:
    """The statements that train, print both and set `differ`."""
    close = f"rtol=0, atol={allowed(show)!r}, equal_nan=True"
    if not (show.mirrored and show.divergence.stage in OF_REPLICAS):
        shown = ['print("seen:    ", *np.ravel(seen))']
        differ = [f"differ = not np.allclose(seen, expected, {close})"]
    else:
        # Each replica has a quantity of its own, and what is expected is one of theirs.
        shown = ["differ = True"]
        near = f"differ &= not np.allclose(copy, expected.ravel(), {close})"
        body = ['print("seen:    ", *copy)', "if copy.size == expected.size:", *indented([near])]
        differ = ["for copy in map(np.ravel, seen):", *indented(body)]
    assert show.expected is not None
    head = [*numbers(show.expected, allowed(show)), *([trained] if trained else [])]
    return [*head, 'print("expected:", *expected.ravel())', *shown, *differ]


def numbers(expected: Expected, allowance: float) -> list[str]:
    """The statement that makes `expected`, in float64, with no more digits than the allowance asks for."""
    texts = [_number(float.fromhex(value), allowance) for value in expected.values]
    line = f"expected = np.array({_nested(texts, expected.shape)})"
    if len(line) <= WIDTH:
        return [line]
    shape = "" if len(expected.shape) < 2 else f".reshape{expected.shape}"
    plain = [text.removeprefix("np.").replace("-np.", "-") for text in texts]
    rows = textwrap.wrap(" ".join(plain), WIDTH, break_on_hyphens=False, break_long_words=False)
    return ['numbers = """', *rows, '"""', f'expected = np.array(numbers.split(), "float64"){shape}']


def _number(value: float, allowance: float) -> str:
    """The shortest of the decimals that lie near enough to a value."""
    if not math.isfinite(value):
        return "np.nan" if math.isnan(value) else ("np.inf" if value > 0 else "-np.inf")
    for digits in range(_LEAST, _MOST):
        short = float(f"{value:.{digits}g}")
        if abs(short - value) <= allowance / 100:
            return repr(short)
    return repr(value)


def _nested(texts: list[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return texts[0]
    size = len(texts) // shape[0] if shape[0] else 0
    parts = [_nested(texts[size * index : size * (index + 1)], shape[1:]) for index in range(shape[0])]
    return f"[{', '.join(parts)}]"
