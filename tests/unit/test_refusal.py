"""What is read off TensorFlow's messages, as TensorFlow 2.21 writes them."""

from __future__ import annotations

import pytest

from conformance.raised import rewritten_kind, shortened
from conformance.refusal import Refusal, refusal

TRACED = (
    "Dimensions must be equal, but are 5 and 2 for '{{node sub_1/mine/add}} = AddV2[T=DT_FLOAT](sub_1/mine/MatMul,"
    " sub_1/mine/strided_slice)' with input shapes: [?,5], [4]."
)
EAGER = (
    "{{function_node __wrapped__AddV2_device_/job:localhost/replica:0/task:0/device:CPU:0}} Incompatible shapes: [4,5]"
    " vs. [4,2] [Op:AddV2] name: "
)
COMPILED = """Graph execution error:

Detected at node replica_1/model_1/mine_1/GatherV2 defined at (most recent call last):
  File "/usr/lib/python3.11/threading.py", line 1002, in _bootstrap

  File "/home/me/layers.py", line 28, in call

Detected at node replica_1/model_1/mine_1/GatherV2 defined at (most recent call last):
  File "/home/me/other.py", line 1, in other

2 root error(s) found.
  (0) INVALID_ARGUMENT:  indices = 7 is not in [0, 3)
\t [[{{node replica_1/model_1/mine_1/GatherV2}}]]
\t [[GroupCrossDeviceControlEdges_0/optional/_13]]
  (1) CANCELLED:  Function was cancelled before it was started
0 successful operations.
0 derived errors ignored. [Op:__inference_multi_step_on_iterator_3492]"""
WRAPPED = (
    "Exception encountered when calling Mine.call().\n\n\x1b[1mCould not automatically infer the output shape of 'mine'"
    " (of type Mine). Error encountered:\n\nno rows\x1b[0m\n\nArguments received by Mine.call():\n"
    "  • inputs=tf.Tensor(shape=(4, 10), dtype=float32)"
)
REWRITTEN = (
    'in user code:\n\n    File "/home/me/loop.py", line 3, in step  *\n        loss = a + b\n\n'
    "    ValueError: no rows\n"
)
FRAMES = 'in user code:\n\n    File "/home/me/loop.py", line 3, in step  *\n        case: int = inner(x)\n'
NESTED = FRAMES + (
    "\n    ValueError: in user code:\n"
    '    \n        File "/home/me/loop.py", line 9, in inner  *\n            raise error\n'
    "    \n        StaleError: the table is old\n"
)
PARAGRAPHS = FRAMES + "\n    ValueError: two tables:\n    \n      Note: they differ\n    \n      Hint: join them\n"
WORDLESS = FRAMES + "\n    AssertionError: \n"
MISTYPED = "Input 'b' of 'MatMul' Op has type float64 that does not match type float32 of argument 'a'."


@pytest.mark.parametrize(
    ("message", "operation", "operands", "node"),
    [
        (TRACED, "AddV2", "(None, 5) float32, (4,) float32", "sub_1/mine/add"),
        (EAGER, "AddV2", "(4, 5), (4, 2)", None),
        (COMPILED, "GatherV2", None, "replica_1/model_1/mine_1/GatherV2"),
        (MISTYPED, "MatMul", None, None),
        ("Matrix size-incompatible: In[0]: [4,10], In[1]: [3,4] [Op:MatMul] name: ", "MatMul", "(4, 10), (3, 4)", None),
        (
            "indices[0] = 7 is not in [0, 3) [[{{node a/ResourceGather_1}}]]",
            "ResourceGather",
            None,
            "a/ResourceGather_1",
        ),
    ],
    ids=["traced", "eager", "compiled", "of two dtypes", "matmul", "numbered"],
)
def test_the_operation_what_met_in_it_and_its_node_are_read(
    message: str, operation: str, operands: str | None, node: str | None
) -> None:
    told = refusal(message)
    assert (told.operation, told.operands, told.node) == (operation, operands, node)


def test_of_a_compiled_graph_the_stack_of_the_first_node_is_read() -> None:
    assert refusal(COMPILED).made == (("/usr/lib/python3.11/threading.py", 1002), ("/home/me/layers.py", 28))


@pytest.mark.parametrize("message", ["", "no rows", "[1, 2] is a list", "x" * 100_000, "[" * 5_000 + "{{node"])
def test_of_what_tensorflow_did_not_write_nothing_is_known(message: str) -> None:
    assert refusal(message) == Refusal()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (TRACED, "Dimensions must be equal, but are 5 and 2 with input shapes: [?,5], [4]."),
        (EAGER, "Incompatible shapes: [4,5] vs. [4,2]"),
        (COMPILED, "indices = 7 is not in [0, 3)"),
        (WRAPPED, "no rows"),
        (REWRITTEN, "no rows"),
        (NESTED, "the table is old"),
        (PARAGRAPHS, "two tables: Note: they differ Hint: join them"),
        (WORDLESS, ""),
        ("Could not infer the shape of 'mine'. Error encountered:\n\n", ""),
        ("Error encountered:", "Error encountered:"),
        ("indices [[1, 2]] and [Op:7", "indices [[1, 2]] and [Op:7"),
    ],
    ids=[
        *("traced", "eager", "compiled", "wrapped by Keras twice", "rewritten by AutoGraph", "rewritten twice"),
        *("of several paragraphs", "without words", "wordless in Keras", "nothing within", "odd"),
    ],
)
def test_a_message_is_told_without_what_wraps_it(message: str, said: str) -> None:
    assert shortened(message) == said


def test_of_a_long_message_the_middle_is_left_out() -> None:
    told = shortened("the tables differ: " + "x" * 500 + " so join them")
    assert len(told) == 300
    assert told.startswith("the tables differ: xxx")
    assert " [...] " in told
    assert told.endswith("xxx so join them")


@pytest.mark.parametrize(
    ("message", "kind"), [(NESTED, "StaleError"), (REWRITTEN, "ValueError"), (WRAPPED, None), ("", None)]
)
def test_the_class_of_an_error_that_autograph_could_not_make_anew_is_read(message: str, kind: str | None) -> None:
    assert rewritten_kind(message) == kind
