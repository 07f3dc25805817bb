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


def single_rows() -> Iterator[Any]:
    yield from zip(X, Y, strict=True)


def single_numbers() -> Iterator[Any]:
    yield from zip(X, Y[:, 0], strict=True)


def failing() -> Iterator[Any]:
    yield X, Y
    raise OSError("no such\x1b[31m file")


class Endless:
    """As a PyDataset that has no end."""

    num_batches = None

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("it was read")


class Large:
    """Of arrays that hold more than there are bytes of."""

    def __iter__(self) -> Iterator[Any]:
        large = np.broadcast_to(np.float32(0), (2**18, 2**8))
        while True:
            yield large, large


class RaggedTensor:
    """As TensorFlow's."""


class Distributed:
    """As a dataset that a strategy has split."""

    element_spec, cardinality = None, 3


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
    "sequences of many lengths": (
        [(X[:2], Y[:2]), (X[:2, :2], Y[:2])],
        "pad to the longest of all: dataset.padded_batch(2, padded_shapes=([3], [1]))",
    ),
    "weights in some batches": ([(X[:2], Y[:2], Y[:2, 0]), (X[:2], Y[:2])], "batch 1 has x float32(3,), y float32(1,)"),
    "no end": (endless, "more than 10000 batches; limit an endless dataset with take(n)"),
    "batches of other names": (
        [({"a": X[:2]}, Y[:2]), ({"b": X[:2]}, Y[:2])],
        "batch 1 has x 'b' float32(3,), y float32(1,), batch 0 x 'a' float32(3,), y float32(1,)",
    ),
    "words": ((np.array(["a", "b"]), Y[:2]), "data of dtype <U1; every array should hold numbers"),
    "a dictionary for a batch": ([{"x": X, "y": Y}], "a batch is a dictionary; it should be (x, y)"),
    "single rows": (
        single_rows,
        "every array should have the same number; single rows are no batch: batch them, as in dataset.batch(32)",
    ),
    "the shapes of single rows": (
        single_rows,
        "the data's batch 0: data with [1, 3] rows: x (3,); y (1,); every array",
    ),
    "single rows with a number each": (single_numbers, "data with a single number: x (3,); y ()"),
    "arrays of many rows": ((X, Y[:3]), "data with [3, 10] rows: x (10, 3); y (3, 1)"),
    "no targets": (
        lambda: iter([X]),
        "the data's batch 0 is one array of shape (10, 3) without targets; it should be (x, y) or",
    ),
    "no targets in a tuple": (lambda: iter([(X,)]), "the data's batch 0 is one array of shape (10, 3) without targets"),
    "arrays in a list": (
        [X, Y],
        "without targets; it should be (x, y) or (x, y, sample_weight); arrays are given as a",
    ),
    "no targets but None": ((X, None), "y is None; give (x, y) or (x, y, sample_weight)"),
    "what fails": (failing, "the data cannot be read: batch 1 raises OSError: no such file"),
    "no generator": (lambda: 3, "gave int; a function should give a generator of batches"),
    "an endless sequence": (Endless(), "the data has no end; give Endless a __len__, its number of batches"),
    "more than the memory": (Large(), "has more than 1024 MiB in its first 3 batches; give fewer, as in take(3)"),
    "lists of numbers": (([[1.0], [2.0]], Y[:2]), "x holds a list of Python's; a list is taken for several inputs"),
    "a ragged tensor": ((RaggedTensor(), Y), "x is a RaggedTensor; give a dense one: to_tensor()"),
    "a distributed dataset": (Distributed(), "data=Distributed is distributed already; give the dataset of global"),
    "one array": (X, "data=ndarray (10, 3) is neither (x, y[, sample_weight]), a dataset of batches"),
    "a dictionary": ({"x": X, "y": Y}, "data={'x': array([[ 0., 1., 2.], [ 3., 4., 5.], [ 6., 7., 8.], [ 9., 10"),
    "a path": ("train.tfrecord", "data='train.tfrecord' is neither"),
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


def test_batches_of_validation_data_keep_their_rows() -> None:
    rows = user_data.read((X, Y), 4).rows
    for given in (batches(sizes=(3, 5, 2)), lambda: iter(batches(sizes=(3, 5, 2)))):
        held_out, _ = user_data.validation(given, rows, 4)
        assert held_out is not None
        assert (held_out.sizes, held_out.feed) == ((3, 5, 2), "dataset")
        np.testing.assert_array_equal([batch.x[0][0] for batch in held_out.batches()], X[[0, 3, 8]])


@pytest.mark.parametrize("given", [(X, Y), [X, Y]], ids=["tuple", "list"])
def test_arrays_of_validation_data_are_cut_into_batches_as_data_is(given: Any) -> None:
    held_out, remarks = user_data.validation(given, user_data.read((X, Y), 4).rows, 4)
    assert held_out is not None
    assert (held_out.sizes, held_out.feed, remarks) == ((4, 4, 2), "arrays", ())
    structure = held_out.given()
    np.testing.assert_array_equal(structure[0], X)
    assert not np.shares_memory(structure[0], X)


def test_validation_data_is_read_twice_too_and_what_fit_makes_of_a_generator_is_said() -> None:
    rows = user_data.read((X, Y), 4).rows
    _, remarks = user_data.validation(function(batches(), batches(REVERSED)), rows, 4)
    assert remarks[0].startswith("validation_data gives other batches each time it is read: batch 0 differs")
    assert remarks[1:] == (user_data.GENERATED,)
    assert user_data.validation(Sequence(batches()), rows, 4)[1] == ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (3, "validation_data=int is neither (x, y[, sample_weight])"),
        (single_rows, "validation_data's batch 0: data with [1, 3] rows"),
        (lambda: iter([]), "validation_data has no batches"),
        (
            batches(x=X[:, :2]),
            "validation_data with x of shape (10, 2); rows should be as in data, where it is (10, 3)",
        ),
    ],
)
def test_validation_data_that_cannot_be_used_is_refused_by_its_name(given: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        user_data.validation(given, user_data.read((X, Y), 4).rows, 4)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
