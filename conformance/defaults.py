"""What a session of tests asks for where a test does not say: set by the pytest plugin, read by `conformance.given`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """The arms of a judgement that names none.

    Attributes:
        replicas: numbers of replicas, as `conformance.check` takes them.
        executions: names of executions, as `conformance.check` takes them.
    """

    replicas: tuple[int, ...] = (1,)
    executions: tuple[str, ...] = ("graph",)


_current = Defaults()


def current() -> Defaults:
    """The defaults of this process."""
    return _current


def use(defaults: Defaults) -> None:
    """Make these the defaults of this process."""
    global _current  # noqa: PLW0603 - a process runs one session at a time, and a decorator has nobody to ask
    _current = defaults
