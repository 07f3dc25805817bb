"""One session a check. `nox` runs those that are quick; `nox -s nightly` the long ones."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "typing", "tests", "packaging"]
nox.options.default_venv_backend = "virtualenv"

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, against the package as it is installed from a wheel."""
    session.install(".[tensorflow-cpu,test]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: lint and format."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Types of the package, and of a file that uses it as its users do."""
    session.install("-e", ".[test]")
    session.run("mypy")
    session.run("mypy", "tests/typing_example.py")


@nox.session
def packaging(session: nox.Session) -> None:
    """What is in the wheel, that it installs, and that the example passes its tests with it."""
    session.install("-e", ".[tensorflow-cpu,test]")
    session.run("pytest", "-m", "packaging", "tests/packaging", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """The tests that take minutes."""
    session.install(".[tensorflow-cpu,test]")
    session.run("pytest", "-n", "2", "-m", "nightly", *session.posargs)
