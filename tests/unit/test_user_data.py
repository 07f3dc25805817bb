"""A user's data is read twice: what gives other batches the second time is said, with the reason.

TensorFlow's datasets have their tests beside the trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from conformance import user_data
from conformance.errors import UsageError
from conformance.rereading import FROZEN

X = np.arange(30, dtype=np.float32).reshape(10, 3)
Y = np.arange(10, dtype=np.float32).reshape(10, 1)


def batches(order: Any = None, *, x: Any = X, y: Any = Y, sizes: tuple[int, ...] = (4, 4, 2)) -> list[Any]:
    rows = np.arange(10) if order is None else order
    starts = np.cumsum((0, *sizes[:-1]))
    parts = [rows[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return [(x[part], y[part]) for part in parts]


def function(*readings: Any) -> Callable[[], Iterator[Any]]:
    """A generator function that gives one reading after the other."""
    left = iter(readings)
    return lambda: iter(next(left))


class Sequence:
    """A PyDataset as the harness reads one: by index, with the end of an epoch said."""

    def __init__(self, *epochs: Any) -> None:
        self.epochs = list(epochs)

    def __len__(self) -> int:
        return len(self.epochs[0])

    def __getitem__(self, index: int) -> Any:
        return self.epochs[0][index]

    def on_epoch_end(self) -> None:
        self.epochs.append(self.epochs.pop(0))


REVERSED = np.arange(10)[::-1]
TWO_BATCHES_SWAPPED = [batches()[1], batches()[0], batches()[2]]
EXHAUSTED = iter(batches())


DIFFERENT = {
    "rows in another order": (
        function(batches(), batches(REVERSED)),
        "batch 0 differs; the same rows in another order: every call shuffles anew",
    ),
    "batches in another order": (
        function(batches(), TWO_BATCHES_SWAPPED),
        "batch 0 differs; the same batches in another order",
    ),
    "one generator for all calls": (
        lambda: EXHAUSTED,
        "batch 0 is missing; an exhausted generator: the function gives the same one each time",
    ),
    "a generator": (iter(batches()), "batch 0 is missing; an exhausted generator: give the function that makes it"),
    "fewer batches": (
        function(batches(), batches()[:2]),
        "batch 2 is missing; the first reading has 3 batches, the second 2",
    ),
    "more batches": (function(batches()[:2], batches()), "the first reading has 2 batches, the second 3"),
    "other inputs": (
        function(batches(), batches(x=X + 1)),
        "the same targets with other inputs of the same shape: a random augmentation without a fixed seed",
    ),
    "other targets": (function(batches(), batches(y=Y + 1)), "the same inputs with other targets"),
    "inputs and targets shuffled apart": (
        function(batches(), batches(x=X[::-1])),
        "the same inputs with other targets: the two are shuffled apart",
    ),
    "other rows": (function(batches(), batches(x=X + 1, y=Y + 1)), "other rows of the same shape"),
    "other shapes": (
        function(batches(), batches(x=X[:, :2])),
        "its rows are x float32(3,), y float32(1,) at the first reading, x float32(2,), y float32(1,) at the second",
    ),
    "a shuffle at the end of an epoch": (
        Sequence(batches(), batches(REVERSED)),
        "the same rows in another order: it is shuffled by on_epoch_end",
    ),
    "a last batch that alone differs": (
        function(batches(), [*batches()[:2], batches(REVERSED)[0]]),
        "batch 2 differs",
    ),
}


@pytest.mark.parametrize(("data", "told"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_data_that_gives_other_batches_is_said_with_the_reason(data: Any, told: str) -> None:
    given = user_data.read(data, 32)
    (remark,) = given.remarks
    assert remark.startswith("the data gives other batches each time it is read: batch ")
    assert told in remark
    assert remark.endswith(FROZEN)


SAME = {
    "arrays": (X, Y),
    "a list": batches(),
    "a generator function": lambda: iter(batches()),
    "a sequence": Sequence(batches()),
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME.keys())
def test_nothing_is_said_of_data_that_stays_the_same(data: Any) -> None:
    given = user_data.read(data, 4)
    assert given.remarks == ()
    assert (given.batch_size, given.rows.rows) == (4, 10)


def test_the_rows_are_those_of_the_first_reading() -> None:
    given = user_data.read(function(batches(), batches(REVERSED)), 32)
    np.testing.assert_array_equal(given.rows.x[0], X)
    np.testing.assert_array_equal(given.rows.y[0], Y)


def test_what_fails_when_it_is_read_again_is_said() -> None:
    def second() -> Iterator[Any]:
        raise OSError("no such\x1b[31m file")
        yield

    left = iter([iter(batches()), second()])
    (remark,) = user_data.read(lambda: next(left), 32).remarks
    assert remark == f"the data cannot be read twice: OSError: no such file; {FROZEN}"


def test_a_number_that_is_no_number_is_the_same_number() -> None:
    assert user_data.read(lambda: iter(batches(x=X * np.nan)), 32).remarks == ()


def test_fit_is_fed_as_the_data_was_given() -> None:
    feeds = [user_data.read(data, 4).feed for data in ((X, Y), batches(), lambda: iter(batches()), iter(batches()))]
    assert feeds == ["arrays", "dataset", "generator", "generator"]


def endless() -> Iterator[Any]:
    while True:
        yield X[:1], Y[:1]


REFUSED = {
    "unequal sizes in the middle": (
        batches(sizes=(4, 3, 3)),
        "the data's batches have [4, 3, 3] rows: batch 1 has 3 and not 4; all but the last should have the same",
    ),
    "a last batch that is the largest": (batches(sizes=(3, 3, 4)), "batch 2 has 4 and not 3"),
    "many batches": ([*batches()] * 4, "have [4, 4, 2, 4, 4, 2, 4, 4] rows: batch 2 has 2 and not 4"),
    "rows of many shapes": (
        [(X[:2], Y[:2]), (X[:2, :2], Y[:2])],
        "batch 1 has x float32(2,), y float32(1,), batch 0 x float32(3,), y float32(1,)",
    ),
    "weights in some batches": ([(X[:2], Y[:2], Y[:2, 0]), (X[:2], Y[:2])], "batch 1 has x float32(3,), y float32(1,)"),
    "no end": (endless, "more than 10000 batches; limit an endless dataset with take(n)"),
    "batches of other names": (
        [({"a": X[:2]}, Y[:2]), ({"b": X[:2]}, Y[:2])],
        "batch 1 has x 'b' float32(3,), y float32(1,), batch 0 x 'a' float32(3,), y float32(1,)",
    ),
    "words": ((np.array(["a", "b"]), Y[:2]), "data of dtype <U1; every array should hold numbers"),
    "a dictionary for a batch": ([{"x": X, "y": Y}], "a batch is a dictionary; it should be (x, y)"),
}


@pytest.mark.parametrize(("data", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_training_can_be_given_is_refused_in_one_line(data: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        user_data.read(data, 32)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


NAMED = ({"b": X, "a": X + 1}, {"second": Y, "first": Y + 1}, {"second": Y[:, 0], "first": Y[:, 0] + 1})


def test_inputs_by_name_keep_their_names_in_the_order_in_which_dictionaries_are_flattened() -> None:
    rows = user_data.read(NAMED, 4).rows
    assert (rows.x_names, rows.y_names, rows.weight_names) == (("a", "b"), ("first", "second"), ("first", "second"))
    x, y, weights = rows.structure()
    assert list(x) == ["a", "b"]
    np.testing.assert_array_equal(x["a"], X + 1)
    np.testing.assert_array_equal(y["second"], Y)
    np.testing.assert_array_equal(weights["first"], Y[:, 0] + 1)


def test_targets_and_weights_by_name_are_put_into_the_order_of_the_outputs() -> None:
    rows = user_data.ordered(user_data.read(NAMED, 4).rows, "the targets", ["second", "first"])
    assert rows.y_names == rows.weight_names == ("second", "first")
    np.testing.assert_array_equal(rows.y[0], Y)
    np.testing.assert_array_equal(rows.sample_weight[0], Y[:, 0])
    np.testing.assert_array_equal(rows.structure()[1]["first"], Y + 1)
    assert rows.x_names == ("a", "b")


def test_every_change_of_the_rows_keeps_their_names() -> None:
    rows = user_data.read(NAMED, 4).rows
    for changed in (rows.copy(), rows.map(lambda array: array[:2])):
        assert changed.x_names == ("a", "b")
        assert changed.y_names == changed.weight_names == ("first", "second")
    batch = next(rows.batches(4))
    assert [list(part) for part in batch] == [["a", "b"], ["first", "second"], ["first", "second"]]


def test_batches_by_name_are_joined_by_name() -> None:
    listed = [({"a": x, "b": -x}, y) for x, y in batches()]
    rows = user_data.read(listed, 32).rows
    assert rows.x_names == ("a", "b")
    np.testing.assert_array_equal(rows.x[1], -X)


def test_targets_of_other_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the targets \['first', 'second'\] are not the model's outputs \['first'\]"):
        user_data.ordered(user_data.read(NAMED, 4).rows, "the targets", ["first"])


def test_validation_data_by_other_names_is_refused() -> None:
    rows = user_data.read(NAMED[:2], 4).rows
    held_out, _ = user_data.validation(NAMED[:2], rows, 4)
    assert held_out is not None
    assert held_out.rows.y_names == ("first", "second")
    for other in ((NAMED[0], {"second": Y, "third": Y}), ({"a": X, "c": X}, NAMED[1]), ((X, X), NAMED[1])):
        with pytest.raises(UsageError, match=r"are not the model's outputs|with other names than data"):
            user_data.validation(other, rows, 4)
