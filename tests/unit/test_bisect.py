"""In which version something changed: the search, what follows from it, installations, and the command."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import bisect, cases, cli, installation
from conformance.bisection import Trying, limited, searched
from conformance.cli.bisect import line
from conformance.errors import ConformanceError, UsageError
from conformance.finding import Finding
from conformance.history import ABSENT, BEGAN, ENDED, ERROR, SEVERAL, THERE, UNKNOWN, History, Trial, by_age
from conformance.history import numbers as numbers_in
from conformance.installation import Installations, InstallError
from conformance.releases import PACKAGES, beside, concerning, offered, requirement
from conformance.releases import given as given_versions
from conformance.reports import markdown
from conformance.reports.finding_page import finding_page
from conformance.reports.folder import write_finding
from conformance.reports.history_file import NAME, read_histories, write_history
from conformance.reports.html import finding_html
from conformance.reports.render import render
from conformance.verdict import CONFORMS, DIVERGES

Make = Callable[..., Finding]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"3.{number}.0" for number in range(count))


def found(outcomes: Sequence[str], *, every: bool = False) -> History:
    """The history that a search makes where the versions have these outcomes, oldest first."""
    of = dict(zip(names(len(outcomes)), outcomes, strict=True))
    told = searched(of, lambda name: trial(name, of[name]), every=every)
    return History(package="keras", versions=tuple(of), whole=True).taking(
        [item for item in told if isinstance(item, Trial)]
    )


def trial(version: str, outcome: str, **others: Any) -> Trial:
    return msgspec.convert({"version": version, "outcome": outcome, **others}, Trial)


# The search.


@pytest.mark.parametrize("ends", [(CONFORMS, DIVERGES), (DIVERGES, CONFORMS)], ids=[BEGAN, ENDED])
@pytest.mark.parametrize("count", [2, 3, 4, 6, 7, 17, 40])
def test_each_possible_boundary_is_found_by_halving(count: int, ends: tuple[str, str]) -> None:
    for boundary in range(1, count):
        history = found([ends[0]] * boundary + [ends[1]] * (count - boundary))
        assert len(history.trials) <= math.ceil(math.log2(count)) + 2
        (change,) = history.changes
        assert (change.before.version, change.after.version) == (f"3.{boundary - 1}.0", f"3.{boundary}.0")
        assert (change.failed, change.untried) == ((), ())
        assert history.status == (BEGAN if ends[1] == DIVERGES else ENDED)


@given(st.lists(st.sampled_from([CONFORMS, DIVERGES, ERROR]), max_size=24))
def test_what_is_claimed_was_seen_on_both_sides_with_nothing_untried_between(outcomes: list[str]) -> None:
    history = found(outcomes)
    of = dict(zip(names(len(outcomes)), outcomes, strict=True))
    decided = [item.version for item in history.decided]
    assert all(item.outcome == of[item.version] for item in history.trials)
    assert (history.status == UNKNOWN) == (set(outcomes) <= {ERROR})
    if decided and of[decided[0]] != of[decided[-1]]:
        assert history.changes
    for change in history.changes:
        assert not change.untried
        low, high = history.versions.index(change.before.version), history.versions.index(change.after.version)
        assert all(outcomes[place] == ERROR for place in range(low + 1, high))
        assert change.failed == history.versions[low + 1 : high]


@given(st.integers(2, 20), st.data())
def test_versions_that_cannot_be_run_are_skipped_and_named(count: int, data: st.DataObject) -> None:
    boundary = data.draw(st.integers(1, count - 1))
    broken = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 2))
    whole = [CONFORMS] * boundary + [DIVERGES] * (count - boundary)
    outcomes = [ERROR if place in broken else outcome for place, outcome in enumerate(whole)]
    if {CONFORMS, DIVERGES} <= set(outcomes):
        (change,) = found(outcomes).changes
        low = max(place for place in range(boundary) if place not in broken)
        high = min(place for place in range(boundary, count) if place not in broken)
        assert (change.before.version, change.after.version) == (f"3.{low}.0", f"3.{high}.0")
        assert all(name in str(change) for name in change.failed[:4]) or len(change.failed) > 4


@pytest.mark.parametrize(("outcome", "status"), [(DIVERGES, THERE), (CONFORMS, ABSENT)])
def test_where_the_ends_agree_nothing_is_searched_and_no_change_is_claimed(outcome: str, status: str) -> None:
    inside = CONFORMS if outcome == DIVERGES else DIVERGES
    history = found([ERROR, outcome, inside, inside, outcome])
    assert [item.version for item in history.decided] == ["3.1.0", "3.4.0"]
    assert (history.status, history.changes) == (status, ())
    assert history.untried == ("3.2.0", "3.3.0")
    assert "between them not tried: 3.2.0, 3.3.0" in str(history)


@pytest.mark.parametrize("count", [2, 3, 6, 17])
def test_the_version_from_which_on_it_diverges_by_other_numbers_is_found_and_called_no_beginning(count: int) -> None:
    for boundary in range(1, count):
        told = searched(
            names(count),
            lambda name, first=f"3.{boundary}.0": trial(
                name, DIVERGES, numbers=(1.0, 2.0 if by_age(name) < by_age(first) else 3.0)
            ),
        )
        history = History(package="keras", versions=names(count)).taking(
            [item for item in told if isinstance(item, Trial)]
        )
        assert len(history.trials) <= math.ceil(math.log2(count)) + 2
        assert (history.status, history.changes) == (THERE, ())
        (shift,) = history.shifts
        assert (shift.before.version, shift.after.version) == (f"3.{boundary - 1}.0", f"3.{boundary}.0")
        told = (
            f"; other numbers in 3.{boundary}.0 than in 3.{boundary - 1}.0; by other numbers it may be something else"
        )
        assert f"{told} that diverges" in str(history)


@pytest.mark.parametrize(
    ("numbers", "said", "same"),
    [
        ((0.25, -2.0, 4.0), "Keras 3.9.0 DIVERGES: more than 1e-06 apart", True),
        ((0.2501, -2.001, 4.001), "Keras 3.9.0 DIVERGES: more than 1e-06 apart", True),
        ((0.25, -2.0), "Keras 3.9.0 DIVERGES: more than 1e-06 apart", False),
        ((0.5, -2.0, 4.0), "Keras 3.9.0 DIVERGES: more than 1e-06 apart", False),
        ((0.25, -2.0, 4.0), "Keras 3.9.0 DIVERGES: ValueError shape (2, 3)", False),
    ],
)
def test_what_is_rounded_otherwise_is_the_same_and_what_is_off_by_something_else_is_not(
    numbers: tuple[float, ...], said: str, same: bool
) -> None:
    here = trial("3.8.0", DIVERGES, numbers=(0.25, -2.0, 4.0), said="Keras 3.8.0 DIVERGES: more than 1e-06 apart")
    assert here.like(trial("3.9.0", DIVERGES, numbers=numbers, said=said)) == same
    assert not here.like(trial("3.9.0", CONFORMS, numbers=numbers, said=said))


def test_a_ratio_to_nearly_nothing_hides_no_other_number() -> None:
    here, there = (trial("3.8.0", DIVERGES, numbers=(number, 0.5, 3e9)) for number in (0.25, 0.75))
    assert not here.like(there)


def test_numbers_are_those_that_were_printed_and_no_versions_or_places() -> None:
    printed = (
        "/envs/keras-3.5.0-a98826f3/keras/src/core.py:12: UserWarning: since 3.4.1\n"
        "loss: [0.6369 -1.] instead of [3.1e-05], ratio [2.]\n"
    )
    assert numbers_in(printed) == (0.6369, -1.0, 3.1e-5, 2.0)


def test_every_version_is_tried_oldest_first_when_all_are_asked_for() -> None:
    history = found([CONFORMS, DIVERGES, ERROR, DIVERGES, CONFORMS], every=True)
    assert [item.version for item in history.trials] == list(names(5))
    assert history.status == SEVERAL
    assert str(history) == "keras: began in 3.1.0 (3.0.0 conforms); ended in 3.4.0 (3.3.0 diverges)"
    assert str(found([DIVERGES] * 3, every=True)).startswith("keras: there in all 3 versions")


def test_each_trial_is_announced_with_its_number() -> None:
    told = list(searched(names(9), lambda name: trial(name, DIVERGES if name >= "3.5" else CONFORMS)))
    assert [type(item) for item in told] == [Trying, Trial] * (len(told) // 2)
    assert [item.number for item in told if isinstance(item, Trying)] == list(range(1, len(told) // 2 + 1))


@pytest.mark.parametrize(
    ("good", "bad", "kept"),
    [
        (None, None, "3.0.0 3.1.0 3.2.0 3.3.0"),
        ("3.1.0", None, "3.1.0 3.2.0 3.3.0"),
        (None, "3.1.0", "3.0.0 3.1.0"),
        ("3.1.0", "3.2.0", "3.1.0 3.2.0"),
        ("3.2.0", "3.0.0", "3.0.0 3.1.0 3.2.0"),
    ],
)
def test_the_search_keeps_within_what_is_said_to_conform_and_to_diverge(
    good: str | None, bad: str | None, kept: str
) -> None:
    assert " ".join(limited(names(4), good, bad)) == kept


# What follows.


def test_a_change_with_another_tensorflow_beside_it_says_so() -> None:
    told = History(package="keras", versions=(), whole=True).taking(
        [
            trial("3.4.1", CONFORMS, beside={"tensorflow": "2.16.2", "numpy": "1.26.4"}),
            trial("3.5.0", DIVERGES, beside={"tensorflow": "2.21.0", "numpy": "1.26.4"}),
        ]
    )
    assert str(told) == (
        "keras: began in 3.5.0 (3.4.1 conforms; but 3.4.1 ran with tensorflow 2.16.2 and 3.5.0 with tensorflow 2.21.0)"
    )


def test_a_search_that_was_broken_off_names_what_it_did_not_try() -> None:
    told = History(package="keras", versions=names(5)).taking([trial("3.0.0", CONFORMS), trial("3.4.0", DIVERGES)])
    assert str(told) == (
        "keras: began after 3.0.0 and not later than 3.4.0 (3.0.0 conforms, 3.4.0 diverges; between them not tried:"
        " 3.1.0, 3.2.0, 3.3.0)"
    )


def test_between_versions_that_somebody_has_named_others_may_lie() -> None:
    told = History(package="keras", versions=()).taking([trial("3.5.0", CONFORMS), trial("3.8.0", DIVERGES)])
    assert str(told) == "keras: began after 3.5.0 and not later than 3.8.0 (3.5.0 conforms, 3.8.0 diverges)"
    whole = told.taking((), ("3.5.0", "3.8.0"), whole=True)
    assert str(whole) == "keras: began in 3.8.0 (3.5.0 conforms)"
    assert whole.taking([trial("3.9.0", CONFORMS)]).whole


def test_versions_are_sorted_as_they_came_out() -> None:
    order = ["3.9.2", "3.10.0.dev1", "3.10.0rc1", "3.10.0rc2", "3.10.0", "3.10.0.post1", "3.11.0"]
    assert sorted([*order[3:], *order[:3]], key=by_age) == order


# What can be had.

TEXT = "keras (3.10.0)\nAvailable versions: 3.10.0, 3.9.2, 3.0.0, 2.15.0\n  INSTALLED: 3.9.2\n"


def test_versions_are_read_as_pip_prints_them_in_words_and_as_json() -> None:
    as_json = json.dumps({"name": "keras", "versions": ["3.10.0", "3.9.2", "3.0.0", "2.15.0"], "latest": "3.10.0"})
    assert offered(TEXT) == offered(as_json) == ("3.10.0", "3.9.2", "3.0.0", "2.15.0")
    assert concerning("keras", offered(TEXT)) == ("3.0.0", "3.9.2", "3.10.0")


@pytest.mark.parametrize("text", ["", "keras\n", "[]", "{}", '{"versions": 3}', '{"versions": [3]}'])
def test_where_pip_names_no_versions_that_is_said(text: str) -> None:
    with pytest.raises(ConformanceError, match="--versions"):
        offered(text)


def test_what_is_no_release_yet_is_tried_only_when_asked_for() -> None:
    there = ("3.1.0rc0", "3.1.0", "3.2.0.dev5")
    assert concerning("keras", there) == ("3.1.0",)
    assert concerning("keras", there, pre=True) == there


def test_what_goes_with_a_version_is_what_the_table_says() -> None:
    told = partial(beside, tensorflow="tensorflow-cpu", keras="3.15.1")
    assert told("keras", "3.4.1")[0].startswith("tensorflow-cpu>=2.16")
    assert told("keras", "3.5.0") == ()
    assert told("tensorflow", "2.18.0") == ("keras==3.15.1",)
    assert beside("keras", "3.5.0", tensorflow=None, keras=None) == ("tensorflow",)


def test_every_package_says_what_goes_with_each_version_from_its_first_on() -> None:
    for package in PACKAGES.values():
        for version in (package.first, f"{package.first}.9", "9.0.0"):
            assert any(concerned.holds(version) for concerned, _ in package.beside)


def test_what_is_no_version_and_no_requirement_is_refused() -> None:
    assert given_versions(" 3.10.0, 3.9.0,3.9.0") == ("3.9.0", "3.10.0")
    assert requirement(" tensorflow-cpu == 2.18.1 ") == "tensorflow-cpu==2.18.1"
    for text in ("", ",", "3.5.0,latest", "--pre", "3.5.0;x"):
        with pytest.raises(UsageError):
            given_versions(text)
    for text in ("", "-r file", "--index x", "keras @ x", "a;b"):
        with pytest.raises(UsageError):
            requirement(text)


# Installations.


class Pip:
    """Stands for pip and venv: what it installs is a module with a version, and some of it fails."""

    def __init__(self, offers: Sequence[str] = (), fails: Mapping[str, BaseException] | None = None) -> None:
        self.offers, self.fails = offers, fails or {}
        self.made: list[str] = []

    def __call__(self, command: Sequence[str]) -> str:
        told = [str(word) for word in command]
        if told[-2] == "venv":
            python = Path(told[-1], "bin", "python")
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
            (python.parents[1] / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
            return ""
        if "-c" in told:
            return json.dumps({"tensorflow-cpu": "2.16.2", "keras": "3.15.1", "numpy": "1.26.4", "six": "1"})
        if "index" in told:
            if "--json" in told:
                raise InstallError("no such option: --json")
            return f"Available versions: {', '.join(self.offers)}\n"
        if "install" in told:
            self._install(told[told.index("--no-input") + 1 :])
        return ""

    def _install(self, words: list[str]) -> None:
        self.made.append(words[-1])
        place = Path(words[words.index("--target") + 1]) if "--target" in words else None
        if place is not None:
            package = place / "keras"
            package.mkdir(parents=True)
            (package / "__init__.py").write_text(f"__version__ = {words[-1].partition('==')[2]!r}\n")
        for word in words:
            if word in self.fails:
                raise self.fails[word]


def test_an_installation_is_made_once_and_used_again(tmp_path: Path) -> None:
    pip = Pip()
    first = Installations(tmp_path, pip).overlay("keras==3.5.0", ("tensorflow",))
    assert pip.made == ["tensorflow", "keras==3.5.0"]
    assert first.versions == {
        "tensorflow": "2.16.2",
        "keras": "3.15.1",
        "numpy": "1.26.4",
        "python": first.versions["python"],
    }
    assert Installations(tmp_path, pip).overlay("keras==3.5.0", ("tensorflow",)) == first
    assert len(pip.made) == 2


def test_what_was_broken_off_is_made_again(tmp_path: Path) -> None:
    for end in (KeyboardInterrupt(), InstallError("no space")):
        with pytest.raises(type(end)):
            Installations(tmp_path, Pip(fails={"keras==3.5.0": end})).overlay("keras==3.5.0", ())
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    pip = Pip()
    (place,) = Installations(tmp_path, pip).overlay("keras==3.5.0", ()).first
    (place / "complete.json").unlink()
    (place / "rest").write_text("of an older one")
    assert Installations(tmp_path, pip).overlay("keras==3.5.0", ()).first == (place,)
    assert len(pip.made) == 2
    assert not (place / "rest").exists()


def test_what_another_process_has_made_meanwhile_is_taken(tmp_path: Path) -> None:
    class Slow(Pip):
        def _install(self, words: list[str]) -> None:
            super()._install(words)
            Installations(tmp_path, other).overlay("keras==3.5.0", ())

    pip, other = Slow(), Pip()
    (place,) = Installations(tmp_path, pip).overlay("keras==3.5.0", ()).first
    assert (place / "complete.json").exists()
    assert pip.made == other.made == ["keras==3.5.0"]
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_an_environment_whose_interpreter_is_gone_is_made_again(tmp_path: Path) -> None:
    pip = Pip()
    python = Installations(tmp_path, pip).whole(("tensorflow",)).python
    python.unlink()
    assert Installations(tmp_path, pip).whole(("tensorflow",)).python == python
    assert python.exists()


def test_what_many_versions_need_and_cannot_be_had_is_tried_once(tmp_path: Path) -> None:
    pip = Pip(fails={"tensorflow<2": InstallError("ERROR: no matching distribution")})
    installations = Installations(tmp_path, pip)
    for version in ("3.0.0", "3.1.0"):
        with pytest.raises(InstallError, match="no matching"):
            installations.overlay(f"keras=={version}", ("tensorflow<2",))
    assert pip.made == ["tensorflow<2"]


def test_a_python_without_pip_is_helped_out_with_one_of_ours(tmp_path: Path) -> None:
    class Without(Pip):
        def __call__(self, command: Sequence[str]) -> str:
            if command[0] == sys.executable and "pip" in command:
                raise InstallError("No module named pip")
            return super().__call__(command)

    assert Installations(tmp_path, Without(offers=("3.5.0",))).offered("keras") == "Available versions: 3.5.0\n"


def test_what_pip_says_last_is_what_is_told(tmp_path: Path) -> None:
    said = "import sys; sys.exit('ERROR: no such \\x1b[31mversion\\nnotice: a new pip')"
    with pytest.raises(InstallError, match=r"^ERROR: no such version$"):
        installation.called([sys.executable, "-c", said])
    with pytest.raises(InstallError, match="No such file"):
        installation.called([str(tmp_path / "nothing")])


# A script in a version.

SCRIPT = """import sys

import keras

code, text = {table}[keras.__version__]
print("loss:", float(code) / 3)
print("Keras", keras.__version__, text)
sys.exit(code)
"""


def script(path: Path, table: Mapping[str, tuple[int, str]]) -> Path:
    path.write_text(SCRIPT.format(table=dict(table)))
    return path


WAYS = {DIVERGES: (1, "DIVERGES: 2 apart"), CONFORMS: (0, "CONFORMS"), ERROR: (2, "broke")}


def outcomes(**of: str) -> dict[str, tuple[int, str]]:
    return {f"3.{name.removeprefix('v')}.0": WAYS[outcome] for name, outcome in of.items()}


@pytest.mark.parametrize("there", ["tensorflow", None], ids=["with what is installed", "where nothing is"])
def test_the_version_in_front_is_the_one_that_runs_and_nothing_of_the_outside_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    monkeypatch.setattr(bisect, "distribution", lambda *names: there)
    other = tmp_path / "outside" / "keras"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("__version__ = 'outside'\n")
    monkeypatch.setenv("PYTHONPATH", str(other.parent))
    path = script(tmp_path / "repro.py", outcomes(v5=DIVERGES))
    done = bisect.tried(path, "keras", "3.5.0", Installations(tmp_path / "envs", Pip()))
    assert (done.outcome, done.said, done.numbers) == (DIVERGES, "Keras 3.5.0 DIVERGES: 2 apart", (1 / 3,))


def test_an_exit_code_alone_is_no_divergence() -> None:
    assert bisect.outcome_of(1, "Keras 3.5.0 DIVERGES: 2 apart\n") == DIVERGES
    assert bisect.outcome_of(1, "ModuleNotFoundError: No module named 'tree'\n") == ERROR
    assert bisect.outcome_of(2, "DIVERGES\n") == ERROR
    assert bisect.outcome_of(None, "DIVERGES\n[killed after 300 seconds]\n") == ERROR
    assert bisect.outcome_of(0, "CONFORMS\n") == CONFORMS


def test_an_exception_that_goes_on_for_lines_is_told_by_its_first(tmp_path: Path) -> None:
    path = tmp_path / "repro.py"
    said = "DIVERGES: ValueError in user code:\n\n  File 1.5"
    path.write_text(f"import sys\nprint('loss: 0.5')\nprint({said!r})\nsys.exit(1)\n")
    done = bisect.tried(path, "keras", "3.5.0", Installations(tmp_path / "envs", Pip()))
    assert (done.outcome, done.said, done.numbers) == (DIVERGES, "DIVERGES: ValueError in user code:", (0.5,))


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_version_ran_with_is_told_and_the_package_itself_is_not(tmp_path: Path, package: str) -> None:
    path = tmp_path / "repro.py"
    path.write_text("print('CONFORMS')\n")
    done = bisect.tried(path, package, "3.5.0", Installations(tmp_path / "envs", Pip()), ("numpy<2",))
    assert done.outcome == CONFORMS
    assert done.beside.keys() == {"tensorflow", "keras", "numpy", "python"} - {PACKAGES[package].holds}


def test_the_names_of_distributions_are_read_however_they_are_written(tmp_path: Path) -> None:
    info = tmp_path / "tensorflow_macos-2.18.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow_macos\nVersion: 2.18.1\n")
    code = f"import sys; sys.path[:] = [{str(tmp_path)!r}, *sys.path]; {installation.ASK}"
    assert json.loads(installation.called([sys.executable, "-c", code]))["tensorflow-macos"] == "2.18.1"


def test_what_cannot_be_installed_is_an_error_with_what_pip_said(tmp_path: Path) -> None:
    pip = Pip(fails={"keras==3.5.0": InstallError("ERROR: no such thing")})
    done = bisect.tried(
        script(tmp_path / "repro.py", {}), "keras", "3.5.0", Installations(tmp_path / "envs", pip), ("x",)
    )
    assert (done.outcome, done.said, done.beside) == (ERROR, "ERROR: no such thing", {})


# The command.


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `conformance bisect ARGUMENTS` with a pip that offers 3.5 to 3.9; its exit code and both its outputs."""

    def call(*arguments: str | Path, pip: Pip | None = None) -> tuple[int, str, str]:
        offers = Pip(offers=("3.9.0", "3.8.0", "3.7.0", "3.6.0", "3.5.0"))
        monkeypatch.setattr(installation, "Installations", partial(Installations, call=pip or offers))
        with pytest.raises(SystemExit) as exit_:
            cli.main(["bisect", *map(str, arguments), "--envs", str(tmp_path / "envs")])
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


BEGINS = outcomes(v5=CONFORMS, v6=CONFORMS, v7=CONFORMS, v8=DIVERGES, v9=DIVERGES)


def test_the_command_tells_each_version_and_where_it_began(run: Any, tmp_path: Path) -> None:
    code, out, err = run(script(tmp_path / "repro.py", BEGINS))
    lines = out.splitlines()
    assert (code, err, lines[-1]) == (cli.OK, "", "keras: began in 3.8.0 (3.7.0 conforms)")
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["3.9.0", DIVERGES],
        ["3.5.0", CONFORMS],
        ["3.7.0", CONFORMS],
        ["3.8.0", DIVERGES],
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"repro.py", "envs"}


def test_what_a_script_prints_is_one_harmless_line(hostile: str) -> None:
    told = line(trial("3.5.0", DIVERGES, said=hostile, beside={"numpy": hostile}))
    assert told.isprintable()


def test_ends_that_agree_are_told_with_what_would_tell_more(run: Any, tmp_path: Path) -> None:
    table = dict.fromkeys(BEGINS, WAYS[DIVERGES])
    code, out, _ = run(script(tmp_path / "repro.py", table))
    assert (code, len(out.splitlines())) == (cli.OK, 3)
    assert "--all tries every version" in out
    code, out, _ = run(tmp_path / "repro.py", "--all")
    assert out.splitlines()[-1] == ("keras: there in all 5 versions in which the script was run, from 3.5.0 to 3.9.0")


def test_json_is_one_object_with_every_version(run: Any, tmp_path: Path) -> None:
    table = {**BEGINS, "3.7.0": WAYS[ERROR]}
    code, out, _ = run(script(tmp_path / "repro.py", table), "--json", "--versions", "3.9.0,3.7.0,3.5.0")
    data = json.loads(out)
    assert (code, data["status"], data["package"], data["signature"]) == (cli.OK, BEGAN, "keras", None)
    assert data["changes"] == [
        {"began": True, "version": "3.9.0", "before": "3.5.0", "next_to": False, "failed": ["3.7.0"], "untried": []}
    ]
    assert [(item["version"], item["outcome"]) for item in data["versions"]] == [
        ("3.5.0", CONFORMS),
        ("3.7.0", ERROR),
        ("3.9.0", DIVERGES),
    ]
    assert data["versions"][1]["said"] == "exit code 2: Keras 3.7.0 broke"


def test_what_is_known_is_kept_and_told_in_the_report_of_the_finding(
    run: Any, made_finding: Make, tmp_path: Path
) -> None:
    folder = write_finding(made_finding(), SCRIPT.format(table=BEGINS), tmp_path / "findings")
    code, *_ = run(tmp_path, "--bad", "3.8.0")
    assert code == cli.OK
    (history,) = read_histories(folder)
    assert (history.status, [item.version for item in history.trials]) == (BEGAN, ["3.5.0", "3.6.0", "3.7.0", "3.8.0"])
    told = "began in 3.8.0 (3.7.0 conforms)"
    assert told in (folder / "report.md").read_text()
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    render(folder)
    assert told in (folder / "report.html").read_text() == before
    # A later search adds to it, and one of another package leaves it alone.
    run(folder / "repro.py", "--versions", "3.6.0,3.9.0", "--all")
    write_history(folder, History(package="tensorflow", versions=("2.16.1",)))
    assert [len(item.trials) for item in read_histories(folder)] == [5, 0]


def test_ctrl_c_tells_and_keeps_what_is_known(run: Any, made_finding: Make, tmp_path: Path) -> None:
    pip = Pip(fails={"keras==3.7.0": KeyboardInterrupt()})
    folder = write_finding(made_finding(), SCRIPT.format(table=BEGINS), tmp_path / "findings")
    code, out, _ = run(folder, "--versions", "3.5.0,3.6.0,3.7.0,3.8.0,3.9.0", pip=pip)
    assert code == cli.INTERRUPTED
    assert out.splitlines()[-1].endswith("between them not tried: 3.6.0, 3.7.0, 3.8.0); broken off")
    assert [item.version for item in read_histories(folder)[0].trials] == ["3.5.0", "3.9.0"]
    assert len(list((tmp_path / "envs").glob("*/*/complete.json"))) >= 2


def test_where_no_version_can_be_run_the_run_has_failed(run: Any, tmp_path: Path) -> None:
    pip = Pip(fails={f"keras==3.{minor}.0": InstallError("ERROR: no route") for minor in (5, 6)})
    code, out, err = run(script(tmp_path / "repro.py", {}), "--versions", "3.5.0,3.6.0", pip=pip)
    assert code == cli.FAILED
    assert err == "conformance: in no version of keras could the script be run, of 2 tried; 3.6.0: ERROR: no route\n"
    assert [line.split()[1] for line in out.splitlines()[:2]] == [ERROR, ERROR]


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing there": (("nowhere",), "nowhere does not exist"),
    "no script": (("notes.txt",), "is no script"),
    "a folder without findings": (("empty",), "holds no finding"),
    "no version": (("repro.py", "--versions", "3.5.0,new"), "'new' is no version"),
    "a version that is not there": (("repro.py", "--good", "3.4.9"), "--good '3.4.9' is none of 3.5.0, 3.6.0"),
    "a good version that is not": (("repro.py", "--good", "3.8.0"), "--good 3.8.0 diverges"),
    "a bad version that is not": (("repro.py", "--bad", "3.7.0"), "--bad 3.7.0 conforms"),
    "two ways to say which": (("repro.py", "--pre", "--versions", "3.5.0"), "--pre is about what pip offers"),
    "no requirement": (("repro.py", "--with", "-r x"), "is no requirement"),
    "no package": (("repro.py", "--package", "torch"), "torch"),
}


@pytest.mark.parametrize(("arguments", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_asked_is_refused_in_one_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "repro.py", BEGINS)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    code, _, err = run(*arguments)
    assert code == cli.USAGE
    assert told in err
    assert len(err.splitlines()) == 1


def test_a_report_with_several_findings_asks_for_one(run: Any, made_finding: Make, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_finding(made_finding(), "x", tmp_path / name)
    code, _, err = run(tmp_path)
    assert (code, "holds 2 findings; give the folder of one" in err) == (cli.USAGE, True)


# The corpus.


def test_what_the_corpus_says_of_other_versions_agrees_with_what_it_says_of_these() -> None:
    for entry in cases.entries():
        versions = [trial.version for item in entry.tried for trial in item.trials]
        assert len(versions) == len(set(versions)), entry.name
        assert not versions or cases.repro(entry.name).exists(), entry.name
        for item in entry.tried:
            for known in entry.verdicts:
                if known.tensorflow == item.tensorflow and known.keras in versions:
                    assert known.keras in (item.diverges if known.signatures else item.conforms), entry.name
        # `otherwise` is meant against the newest.
        assert not any(trial.said for trial in entry.history.decided[-1:]), entry.name


# The file.


def test_what_an_older_script_showed_is_not_told_of_a_newer_one(made_finding: Make, tmp_path: Path) -> None:
    folder = write_finding(made_finding(), "print(1)\n", tmp_path)
    write_history(folder, History(package="keras", versions=()).taking([trial("3.5.0", DIVERGES)]))
    assert len(read_histories(folder)) == 1
    (folder / "repro.py").write_text("print(2)\n")
    assert read_histories(folder) == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "malformed"),
        ("[]", "malformed"),
        ('{"format": "1"}', "format '1'"),
        ('{"format": 2}', "from a newer release"),
        ('{"format": 1, "script": "", "histories": [{"package": 1}]}', "malformed"),
        (
            '{"format": 1, "script": "", "histories": [{"package": "k", "versions": [], "trials": [{}]}]}',
            "malformed",
        ),
    ],
)
def test_a_history_that_is_none_is_refused_in_one_line(
    made_finding: Make, tmp_path: Path, text: str, told: str
) -> None:
    folder = write_finding(made_finding(), "print(1)\n", tmp_path)
    (folder / NAME).write_text(text)
    with pytest.raises(UsageError) as caught:
        render(folder)
    assert str(caught.value).startswith(str(folder / NAME))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_strangers_history_says_shows_as_text(made_finding: Make, hostile: str) -> None:
    history = History(package=hostile, versions=()).taking(
        [trial("3.5.0" + hostile, CONFORMS, beside={hostile: "1"}), trial("3.6.0", DIVERGES, beside={hostile: hostile})]
    )
    page = finding_page(made_finding(), "", (history,))
    for text in (finding_html(page), markdown.written(page)):
        assert "<img" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
