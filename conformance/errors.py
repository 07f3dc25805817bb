"""What can go wrong outside of a training, one class a kind of answer.

Everything a user can cure derives from `UsageError`: the command line prints its one line on standard error and exits
with 2, the Python API raises it. What a training itself raises is never one of these; it is recorded in the arm's
trace and judged like any other observation.
"""

from __future__ import annotations


class ConformanceError(Exception):
    """The base of every error this package raises on its own account."""


class UsageError(ConformanceError, ValueError):
    """Input that cannot be used, said in one line: the value first, then what to do."""


class CaseError(UsageError):
    """A case that is malformed, from a newer format, or names something unknown."""


class DeviceError(UsageError):
    """The devices an arm needs cannot be had in this process."""


class UnsupportedError(ConformanceError):
    """A combination that cannot be run or watched; the verdict is `unsupported` with this reason."""


class RetracedError(AssertionError):
    """Raised by `assert_conforms` where functions of the user's loop were traced more often than a session allows.

    Attributes:
        verdict: the `conformance.verdict.Verdict`, which conforms.
    """

    __module__ = "conformance"

    def __init__(self, message: str, verdict: object = None) -> None:
        super().__init__(message)
        self.verdict = verdict


ABORTED = (
    "an exception on one replica has ended TensorFlow's collective operations in this process, and nothing trains on"
    " replicas in it any more; a new process cures that"
)
"""What is said of an arm on replicas that nothing can be said of."""


class AbortedError(UnsupportedError):
    """An arm that nothing can be said of in this process, for an earlier exception has ended what it needs."""


class RaisedError(ConformanceError):
    """What a training raised, as the traceback Python prints: the cause of a `DivergenceError` that says where.

    It is text, for the exception itself holds on to every model on its stack.
    """


class DivergenceError(AssertionError):
    """Raised by `assert_conforms`; `verdict` holds the whole judgement.

    Attributes:
        verdict: the `conformance.verdict.Verdict` that did not conform.
    """

    # Where users import it from, and shorter in pytest's summary, whose lines are cut.
    __module__ = "conformance"

    def __init__(self, message: str, verdict: object = None) -> None:
        super().__init__(message)
        self.verdict = verdict
