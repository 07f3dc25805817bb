"""The options of a session: a row each, on the command line, in the ini file and in `[tool.conformance]`.

One table, so that the three places know the same names. What is said on the command line goes before the ini file, and
that before the table. A path is relative to the place that says it: the command line to the directory of the call, the
others to the file they stand in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from conformance.baseline import Baseline
    from conformance.defaults import Defaults

SUFFIX = ".case.json"
"""What the name of a case file ends with."""

TABLE = "tool.conformance"
CORPUS = "corpus"
"""`conformance.baseline.CORPUS`, which is not cheap to import; a test holds them together."""


class Option(NamedTuple):
    """A row of the table.

    Attributes:
        name: its name in `[tool.conformance]`; `--conformance-NAME` and `conformance_NAME` in the other places.
        metavar: what stands for its value in the help; empty for a switch.
        help: what it does.
        read: makes a value of what is written, which may be a string or what TOML has; raises `ValueError`, whose
            message says what it should be.
        path: whether it names a file or folder.
    """

    name: str
    metavar: str
    help: str
    read: Callable[[Any], Any]
    path: bool = False

    @property
    def ini(self) -> str:
        """Its name in the ini file, and among the parsed options of the command line."""
        return f"conformance_{self.name}"

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.ini.replace("_", "-")


_DIGITS = 9
"""Numbers of more digits are none that anybody means."""

_SHOWN = 80


def _shown(value: Any) -> str:
    """A value as it was written, the rest of a long one left out."""
    told = repr(value)
    return told if len(told) <= _SHOWN else f"{told[:_SHOWN]}... ({len(told):,} characters)"


def _text(given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ValueError("should be a path")
    return given


def _items(given: Any) -> list[str]:
    """The parts of `1,2` or of a list."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    return [str(part).strip() for part in parts if str(part).strip()]


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def _replicas(given: Any) -> tuple[int, ...]:
    from conformance.arm import MAX_REPLICAS

    found = _items(given)
    if not found or any(not _is_count(text) or not 1 <= int(text) <= MAX_REPLICAS for text in found):
        raise ValueError(f"should be whole numbers from 1 to {MAX_REPLICAS}, as in 1,2")
    return tuple(dict.fromkeys(int(text) for text in found))


def _executions(given: Any) -> tuple[str, ...]:
    from conformance.arm import EXECUTIONS

    found = _items(given)
    if not found or any(text not in EXECUTIONS for text in found):
        raise ValueError(f"should be names among {', '.join(EXECUTIONS)}, as in graph,eager")
    return tuple(dict.fromkeys(found))


def _count(given: Any) -> int:
    if isinstance(given, bool) or not _is_count(str(given).strip()):
        raise ValueError("should be a whole number of at least 0")
    return int(given)


def _switch(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    if str(given).lower() not in ("true", "false"):
        raise ValueError("should be true or false")
    return str(given).lower() == "true"


OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option(
            "report", "DIR", "write every verdict into DIR, and a folder with its repro a finding", _text, path=True
        ),
        Option(
            "sarif", "FILE", "write the findings into FILE as SARIF 2.1.0, at the lines of the loops", _text, path=True
        ),
        Option(
            "baseline",
            f"FILE|{CORPUS}",
            "known findings, by signature: they pass, with a line in the summary",
            _text,
            path=True,
        ),
        Option("replicas", "N,N", "numbers of replicas where a test names none [default: 1]", _replicas),
        Option("executions", "NAME,NAME", "executions where a test names none [default: graph]", _executions),
        Option(
            "collect_cases",
            "true|false",
            "whether *.case.json files are collected as tests [default: true]",
            _switch,
        ),
        Option(
            "max_retraces",
            "N",
            "fail where a loop traces its functions more than N times beyond the first [default: no limit]",
            _count,
        ),
    )
}
"""Every option by its name."""


class Settings(NamedTuple):
    """What a session was told.

    Attributes:
        report: the directory for verdicts and findings, or None.
        sarif: the SARIF file, or None.
        baseline: the file of the known findings, `corpus`, or None.
        replicas: numbers of replicas where a test names none; None where nobody said, which is one device.
        executions: names of executions where a test names none; None where nobody said, which is `graph`.
        collect_cases: whether case files are tests.
        max_retraces: how often a loop may trace its functions beyond the first time; None for no limit.
    """

    report: Path | None = None
    sarif: Path | None = None
    baseline: str | None = None
    replicas: tuple[int, ...] | None = None
    executions: tuple[str, ...] | None = None
    collect_cases: bool = True
    max_retraces: int | None = None

    @property
    def defaults(self) -> Defaults:
        """The arms of a test that names none."""
        from conformance.defaults import Defaults

        usual = Defaults()
        return Defaults(
            self.replicas or usual.replicas, self.executions or usual.executions, max_retraces=self.max_retraces
        )


def add(parser: pytest.Parser) -> None:
    """Add every option to the command line, in a group of their own, and to the ini file."""
    group = parser.getgroup("conformance", "conformance of Keras training")
    for option in OPTIONS.values():
        # Strings, and paths absolute: they are sent to the workers of pytest-xdist as they are.
        read: Callable[[str], str] = _absolute if option.path else str
        group.addoption(option.flag, dest=option.ini, metavar=option.metavar, type=read, help=option.help)
        parser.addini(option.ini, f"{option.help}; as {option.flag}", type=None, default=None)


def settings(config: pytest.Config) -> Settings:
    """What the command line, the ini file and the table say, in this order.

    Raises:
        pytest.UsageError: for a name or a value that is not known, in one line that says where and what is allowed.
    """
    table = _table(config.rootpath / "pyproject.toml")
    said: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        value, where, folder = _said(config, option, table)
        if value is None:
            continue
        try:
            read = option.read(value)
        except ValueError as error:
            raise pytest.UsageError(f"{where} = {_shown(value)} {error}") from None
        said[name] = _placed(read, folder) if option.path else read
    for name in ("report", "sarif"):
        if name in said:
            said[name] = Path(said[name])
    return Settings(**said)


def known(settings: Settings) -> Baseline:
    """The known findings that concern the installed versions.

    Raises:
        pytest.UsageError: when they cannot be read.
    """
    from conformance.environment import known_findings
    from conformance.errors import UsageError

    try:
        return known_findings(settings.baseline)
    except UsageError as error:
        raise pytest.UsageError(f"the baseline: {error}") from None


def _said(config: pytest.Config, option: Option, table: Mapping[str, Any]) -> tuple[Any, str, Path]:
    """What is said of an option, where, and what a path is relative to there."""
    root = config.rootpath
    value = config.getoption(option.ini, default=None)
    if value is not None:
        return value, option.flag, root
    value = config.getini(option.ini)
    if value:
        return value, f"{option.ini} in {config.inipath or 'the ini file'}", (config.inipath or root / "x").parent
    return table.get(option.name), f"{option.name} in [{TABLE}]", root


def _table(path: Path) -> Mapping[str, Any]:
    """The table of a `pyproject.toml`; nothing where there is none."""
    try:
        raw = path.read_bytes()
    except OSError:
        return {}
    if b"conformance" not in raw:
        # Parsing costs a session that has no such table more than looking.
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        # pytest itself brings it where Python does not.
        import tomli as tomllib
    try:
        table = tomllib.loads(raw.decode()).get("tool", {}).get("conformance", {})
    except (ValueError, AttributeError):
        # Not ours to complain of: pytest reads the same file.
        return {}
    if not isinstance(table, dict):
        raise pytest.UsageError(f"{path}: tool.conformance should be a table, [{TABLE}]")
    unknown = sorted(set(table) - set(OPTIONS))
    if unknown:
        named = ", ".join(repr(name) for name in unknown)
        raise pytest.UsageError(f"{path}: [{TABLE}] does not know {named}; it takes {', '.join(OPTIONS)}")
    return table


def _absolute(path: str) -> str:
    # An empty one stays empty, and is refused; it would be the current directory.
    return path if path in (CORPUS, "") else os.path.abspath(path)  # noqa: PTH100 - a Path would not be sent to a worker


def _placed(path: str, folder: Path) -> str:
    return path if path == CORPUS else str(folder / path)
