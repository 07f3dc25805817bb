"""Baselines: what an entry may say, which versions it concerns, how one is written, and how findings are accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import cases, cli
from conformance.baseline import Baseline, Known, is_link, load_baseline, save_baseline
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.errors import UsageError
from conformance.finding import NOT_REPRODUCED, REPRODUCED, Environment, Finding
from conformance.frozen import FrozenMap
from conformance.reports.folder import write_finding
from conformance.stage import Stage
from conformance.verdict import ArmReport, Cause, Divergence, Observation, Verdict
from conformance.versions import parse_range, parse_ranges

SIGNATURE = "distribution/gradient/clip_order/clipnorm"
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \u202e <b>`x`|\n" + "long " * 500
HERE = {"keras": "3.15.1", "tensorflow": "2.21.0"}


# Versions.


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("keras==3.15.1", ["3.15.1", "3.15.1rc0", "3.15.1.dev20260101"], ["3.15.2", "3.15", "3.15.10"]),
        ("keras>=3.5,<3.16", ["3.5", "3.5.0", "3.15.1"], ["3.4.9", "3.16", "3.16.0.dev20260101", "4"]),
        ("keras > 3.5, <= 3.16", ["3.5.1", "3.16.0", "3.10"], ["3.5.0", "3.16.1"]),
        ("tensorflow>=2", ["2.0.0", "2.21.0+local"], ["1.15", "not installed", ""]),
    ],
)
def test_a_range_holds_for_what_lies_in_it(text: str, inside: list[str], outside: list[str]) -> None:
    found = parse_range(text)
    assert {version: found.holds(version) for version in (*inside, *outside)} == {
        **dict.fromkeys(inside, True),
        **dict.fromkeys(outside, False),
    }
    assert parse_range(str(found)) == found


@pytest.mark.parametrize("text", ["", "keras", "3.15", "keras~=3.5", "keras==3.*", "jax>=1", "keras>=3.5,", "keras=3"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no range of versions of keras or tensorflow; write keras==3\.15\.1"):
        parse_range(text)


def test_ranges_stand_between_semicolons() -> None:
    assert [str(item) for item in parse_ranges("keras>=3.5, <3.16; tensorflow==2.21")] == [
        "keras>=3.5,<3.16",
        "tensorflow==2.21",
    ]


def test_an_entry_is_known_only_on_the_versions_it_concerns() -> None:
    baseline = Baseline(
        (
            Known("everywhere", "s"),
            Known("here", "s", versions=("keras>=3.5,<3.16", "tensorflow==2.21")),
            Known("elsewhere", "s", versions=("keras>=3.5", "tensorflow<2.21")),
        )
    )
    assert baseline.concerning(HERE).signatures == ("everywhere", "here")


# The file.


def test_the_first_format_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text('{"format": 1, "findings": [{"signature": "a/b", "sentence": "said", "link": "https://x.y"}]}')
    assert load_baseline(path).findings == (Known("a/b", "said", link="https://x.y"),)


FULL = Known("b", "said", "https://x.y", ("keras>=3",), "somebody", "2026-01-31")
BAD = {
    "two of one signature": ([{}, {}], "findings[1] 'a/b': is there twice"),
    "a wildcard": ([{"signature": "both/*"}], "findings[0] 'both/*': a signature has no wildcards"),
    "no signature": ([{"signature": " "}], "findings[0] ' ': the signature is empty"),
    "another scheme": ([{"link": "javascript:alert(1)"}], "link 'javascript:alert(1)' should be an http or https"),
    "a range that is none": ([{"versions": ["keras~3"]}], "versions: 'keras~3' is no range"),
    "a day that is none": ([{"accepted_on": "2026-02-30"}], "accepted_on '2026-02-30' should be a date"),
    "another way to write one": ([{"accepted_on": "31.1.2026"}], "accepted_on '31.1.2026' should be a date"),
    "versions that are no list": (
        [{"versions": "keras>=3"}],
        "Expected `array`, got `str` - at `$.findings[0].versions`",
    ),
}


@pytest.mark.parametrize(("entries", "told"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_with_path_and_value(entries: list[dict[str, Any]], told: str, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    findings = [{"signature": "a/b", "sentence": "said", **entry} for entry in entries]
    path.write_text(json.dumps({"format": 2, "findings": findings}))
    with pytest.raises(UsageError) as refused:
        load_baseline(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "not a baseline"),
        (b"\xff\xfe", "not a baseline"),
        ('{"format": 0}', "format 0 should be a whole number of at least 1"),
        ('{"format": 3, "colours": []}', "format 3 is from a newer release"),
    ],
    ids=["too deep", "no text", "format 0", "fields of a newer format"],
)
def test_what_is_no_baseline_at_all_is_refused(text: str | bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=told):
        load_baseline(path)


def test_a_baseline_is_written_in_one_way_only(tmp_path: Path) -> None:
    for name, findings in (("one", (FULL, Known("a", "s"))), ("two", (Known("a", "s"), FULL))):
        save_baseline(Baseline(findings), tmp_path / name)
    text = (tmp_path / "one").read_text("utf-8")
    assert text == (tmp_path / "two").read_text("utf-8")
    assert load_baseline(tmp_path / "one").findings == (Known("a", "s"), FULL)
    # What is not said takes no line, and each field has one of its own.
    assert text.count("link") == 1
    assert max(line.count('":') for line in text.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_baseline_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    save_baseline(Baseline((FULL,)), path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="has no wildcards"):
        save_baseline(Baseline((Known("a*", "s"),)), path)
    assert path.read_bytes() == before


def test_a_link_to_a_baseline_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    save_baseline(Baseline((FULL,)), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert load_baseline(tmp_path / "real.json").findings == (FULL,)


@given(st.text())
def test_no_text_breaks_the_file(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "known.json")
        if any("\ud800" <= char <= "\udfff" for char in text):
            return
        save_baseline(Baseline((Known("a", text, accepted_by=text),)), path)
        assert load_baseline(path).findings[0].sentence == text


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://example.com/issues/1?a=b#c", True),
        ("http://localhost:8080/", True),
        ("ftp://example.com", False),
        ("javascript:alert(1)", False),
        ("https://", False),
        ("example.com", False),
        ("https://x.y/ onmouseover=1", False),
        ('https://x.y/"><script>', False),
        ("https://[", False),
        ("https://x.y/\x1b[31m", False),
    ],
)
def test_a_link_is_an_address_of_the_web(text: str, is_one: bool) -> None:
    assert is_link(text) is is_one


# The corpus's own.


def test_the_corpus_is_a_baseline_with_a_sentence_and_the_versions_it_was_seen_on() -> None:
    known = cases.baseline("3.15.1", "2.21.0")
    assert set(known.signatures) == cases.known_signatures("3.15.1", "2.21.0")
    assert list(known.signatures) == sorted(known.signatures)
    for entry in known.findings:
        assert entry.sentence
        assert entry.versions == ("keras==3.15.1", "tensorflow==2.21.0")
        assert entry.concerns(HERE)
        assert cases.entries_showing(entry.signature)


def test_a_finding_of_several_cases_is_told_by_the_one_that_is_about_it() -> None:
    entry = cases.baseline("3.15.1", "2.21.0").entry("distribution/logs/replica_reported_loss")
    assert entry is not None
    assert entry.sentence == next(item.title for item in cases.entries() if item.name == "reported_loss")


# conformance accept.


def dense() -> Case:
    return Case(
        model=Model(
            inputs=(Input(name="x", shape=(3,)),),
            nodes=(Node(name="dense", layer="Dense", config=FrozenMap(units=1), inputs=("x",)),),
            outputs=("dense",),
        ),
        losses=(Loss(name="mean_squared_error"),),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=16, batch_size=8),
    )


def made(
    report: Path, signature: str = SIGNATURE, *, status: str = REPRODUCED, text: str = "Clipped too soon."
) -> Path:
    """The folder of a finding in a report."""
    arms = ("fit/mirrored:2/graph", "fit/single/graph")
    divergence = Divergence(
        arms=arms,
        axis="distribution",
        step=0,
        stage=Stage.GRADIENT,
        variable="dense/kernel",
        magnitude=0.5,
        allowed=0.0,
        message=text,
    )
    seen = Observation(
        divergence=divergence,
        cause=Cause(name="clip_order", explanation=text, advice=text),
        signature=signature,
        wrong_arm=arms[0],
    )
    reports = tuple(ArmReport(arm=arm, status="ran") for arm in arms)
    finding = Finding(
        verdict=Verdict(case=dense(), verdict="diverges", arms=reports, observations=(seen,)),
        original=None,
        environment=Environment("3.11", "2.21.0", "3.15.1", "2.4", "0.1", "linux", "CPU"),
        repro_status=status,
    )
    return write_finding(finding, "", report / "findings")


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def accept(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `conformance accept ARGUMENTS --baseline known.json` as a user called me."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("conformance.cli.accept.shutil.which", lambda name: None)
    monkeypatch.setenv("USER", "me")

    def call(*arguments: str | Path, baseline: str = "known.json") -> Ran:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["accept", *map(str, arguments), "--baseline", baseline])
        return Ran(int(exit_.value.code or 0), *capsys.readouterr())

    return call


def entries(path: str = "known.json") -> tuple[Known, ...]:
    return load_baseline(path).findings


def test_a_finding_is_accepted_with_what_its_cause_says(accept: Any, tmp_path: Path) -> None:
    ran = accept(made(tmp_path / "report"))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"accepted {SIGNATURE}: Clipped too soon.\n"
    (entry,) = entries()
    assert (entry.signature, entry.sentence, entry.link) == (SIGNATURE, "Clipped too soon.", "")
    assert (entry.versions, entry.accepted_by) == (("keras>=3.15.1", "tensorflow>=2.21.0"), "me")
    assert entry.accepted_on
    # What is written is what a run reads.
    assert load_baseline("known.json").concerning(HERE).signatures == (SIGNATURE,)


def test_what_was_asked_for_is_what_is_written(accept: Any, tmp_path: Path) -> None:
    asked = ("--sentence", "Ours.", "--link", "https://x.y/1", "--by", "them", "--versions", "keras>=3.5,<3.16")
    assert accept(made(tmp_path / "report"), *asked).code == 0
    (entry,) = entries()
    assert entry == Known(SIGNATURE, "Ours.", "https://x.y/1", ("keras>=3.5,<3.16",), "them", entry.accepted_on)


def test_a_report_accepts_all_of_its_findings(accept: Any, tmp_path: Path) -> None:
    for signature in ("b/x", "a/x", "c/x"):
        made(tmp_path / "report", signature)
    assert accept(tmp_path / "report").code == 0
    assert [entry.signature for entry in entries()] == ["a/x", "b/x", "c/x"]


def test_a_folder_that_is_still_being_written_is_no_finding_yet(accept: Any, tmp_path: Path) -> None:
    made(tmp_path / "report" / ".partial-x")
    assert "holds no finding" in accept(tmp_path / "report").err
    made(tmp_path / "report", "a/x")
    assert accept(tmp_path / "report").code == 0
    assert [entry.signature for entry in entries()] == ["a/x"]


def test_an_entry_that_is_there_is_said_to_be_and_stays_as_it_is(accept: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "report")
    accept(folder, "--sentence", "Mine.", "--by", "them")
    before = Path("known.json").read_bytes()
    ran = accept(folder)
    assert (ran.code, ran.out) == (0, f"there already: {SIGNATURE}\n")
    assert accept(folder, "--sentence", "Mine.").code == 0
    assert Path("known.json").read_bytes() == before


def test_an_entry_that_says_something_else_gives_way_only_when_asked(accept: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "report")
    accept(folder, "--sentence", "Mine.")
    refused = accept(folder, "--sentence", "Other.")
    assert (refused.code, refused.out) == (2, "")
    assert f"{SIGNATURE} is there already, with sentence 'Mine.'; --replace takes 'Other.'" in refused.err
    assert accept(folder, "--sentence", "Other.", "--replace").code == 0
    assert entries()[0].sentence == "Other."


def test_an_entry_for_other_versions_does_not_pass_for_one(accept: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "report")
    accept(folder, "--versions", "keras<3.15")
    refused = accept(folder)
    assert refused.code == 2
    assert "for keras<3.15 and not for keras 3.15.1, tensorflow 2.21.0" in refused.err


def test_an_entry_of_somebody_else_is_kept(accept: Any, tmp_path: Path) -> None:
    save_baseline(Baseline((FULL,)), "known.json")
    accept(made(tmp_path / "report"))
    assert FULL in entries()


REFUSED = {
    "no finding": (("nothing",), "nothing holds no finding"),
    "a bad link": (("report", "--link", "ftp://x.y"), "--link 'ftp://x.y' should be an http or https address"),
    "no link": (("report", "--link", ""), "--link '' should be an http or https address"),
    "no sentence": (("report", "--sentence", " "), "--sentence is empty"),
    "bad versions": (("report", "--versions", "3.*"), "'3.*' is no range of versions"),
    "a script that shows nothing": (("report", "bad"), "its script is 'not reproduced'"),
}


@pytest.mark.parametrize(("arguments", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_accepted_is_refused_and_nothing_is_written(
    accept: Any, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    made(tmp_path / "report")
    made(tmp_path / "bad", "bad/x", status=NOT_REPRODUCED)
    (tmp_path / "nothing").mkdir()
    ran = accept(*arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran.err
    assert told in ran.err
    assert not Path("known.json").exists()


def test_a_finding_that_did_not_reproduce_is_accepted_when_asked(accept: Any, tmp_path: Path) -> None:
    assert accept(made(tmp_path / "r", status=NOT_REPRODUCED), "--even-if-not-reproduced").code == 0
    assert len(entries()) == 1


def test_a_baseline_that_cannot_be_read_is_not_overwritten(accept: Any, tmp_path: Path) -> None:
    Path("known.json").write_text('{"format": 99}')
    assert accept(made(tmp_path / "report")).code == 2
    assert Path("known.json").read_text() == '{"format": 99}'


def test_the_baseline_of_the_package_is_nobodys_to_write(accept: Any, tmp_path: Path) -> None:
    ran = accept(made(tmp_path / "report"), baseline="corpus")
    assert ran.code == 2
    assert "--baseline corpus is that of the package" in ran.err


def test_text_of_a_finding_is_accepted_harmlessly(accept: Any, tmp_path: Path) -> None:
    ran = accept(made(tmp_path / "report", text=HOSTILE))
    assert ran.code == 0
    (entry,) = entries()
    for text in (ran.out.rstrip("\n"), entry.sentence):
        assert text.isprintable()
        assert "\x1b" not in text
    assert entry.sentence.startswith("red")
