"""Calibrations are sums: what adding them up keeps, how they are shown, and which signatures are known."""

from __future__ import annotations

import itertools
import json
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import cases
from conformance.calibration import BINS, EDGES, Calibration, Item, Ratios, Worst, bin_of, ratios
from conformance.events import CaseCalibrated, Event, Problem, RunEnded, RunStarted, WorkerDied, from_line, to_line
from conformance.finding import Environment
from conformance.reports import calibration as reports
from conformance.reports.calibration import calibrated, conclusion, page, text, to_data
from conformance.reports.terminal import Terminal
from conformance.search import draw
from conformance.stage import STAGES

NAMES = st.sampled_from(["a", "b", "c"])
STAGE_NAMES = st.sampled_from([stage.value for stage in STAGES])
PLACES = st.builds(
    Worst,
    value=st.floats(0, 1),
    path=NAMES,
    arm=NAMES,
    stage=NAMES,
    step=st.integers(-1, 3),
    name=NAMES,
)
HISTOGRAMS = st.lists(PLACES, min_size=1, max_size=5).map(ratios)
COUNTS = st.dictionaries(NAMES, st.integers(1, 5))
ITEMS = st.lists(st.builds(Item, signature=NAMES, path=NAMES, arm=NAMES, message=NAMES), max_size=3)
CALIBRATIONS = st.builds(
    Calibration,
    cases=st.integers(0, 5),
    arms=st.integers(0, 5),
    repeated=st.integers(0, 5),
    compared=st.integers(0, 5),
    stages=st.dictionaries(STAGE_NAMES, HISTOGRAMS),
    known=COUNTS,
    news=ITEMS.map(sorted).map(tuple),
    raised=COUNTS,
    unsupported=COUNTS,
    skipped=COUNTS,
    failures=ITEMS.map(sorted).map(tuple),
)


@given(CALIBRATIONS, CALIBRATIONS, CALIBRATIONS)
def test_merging_is_associative_and_commutative(a: Calibration, b: Calibration, c: Calibration) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(Calibration()) == Calibration().merged(a) == a


@given(CALIBRATIONS, CALIBRATIONS)
def test_counts_add_up_and_the_worst_is_kept(a: Calibration, b: Calibration) -> None:
    both = a.merged(b)
    for name in {*a.stages, *b.stages}:
        parts = [one.stages.get(name, Ratios()) for one in (a, b)]
        assert both.stages[name].counts == tuple(x + y for x, y in zip(*(part.counts for part in parts), strict=True))
        assert both.stages[name].worst == max(part.worst for part in parts if part.worst)
    assert both.worst == max((one.worst for one in (a, b) if one.worst), default=None)
    for field in ("known", "raised", "unsupported", "skipped"):
        assert sum(getattr(both, field).values()) == sum(sum(getattr(one, field).values()) for one in (a, b))
    assert len(both.news) == len(a.news) + len(b.news)
    assert both.compared == a.compared + b.compared


@given(st.lists(PLACES, max_size=20), st.integers(0, 20))
def test_a_histogram_does_not_depend_on_how_its_ratios_were_shared_out(items: list[Worst], cut: int) -> None:
    assert ratios(items[:cut]).merged(ratios(items[cut:])) == ratios(items)
    assert ratios(items).count == len(items)


@pytest.mark.parametrize(
    ("value", "name"),
    [(0.0, "0"), (5e-324, "<1e-4"), (0.0999, "<0.1"), (0.1, "<0.2"), (0.5, "<=1"), (1.0, "<=1")],
)
def test_a_ratio_has_the_bin_whose_name_says_so(value: float, name: str) -> None:
    assert BINS[bin_of(value)] == name


def test_a_bin_begins_where_the_one_before_it_ends() -> None:
    assert [float(name[1:]) for name in BINS[1:-1]] == list(EDGES)
    for number, edge in enumerate(EDGES):
        assert bin_of(edge * (1 - 1e-15)) == number + 1
        assert bin_of(edge) == number + 2


@given(CALIBRATIONS)
def test_a_calibration_crosses_a_process_border_unchanged(calibration: Calibration) -> None:
    event = CaseCalibrated(index=0, seconds=0.5, path="a.json", calibration=calibration)
    assert from_line(to_line(event)) == event


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (Calibration(cases=1, compared=1), "conforms"),
        (Calibration(cases=1, compared=1, known={"a": 1}), "known"),
        (Calibration(cases=1, compared=1, known={"a": 1}, news=(Item("b", "", "", ""),)), "diverges"),
        (Calibration(cases=1, unsupported={"a": 1}), "unsupported"),
        (Calibration(cases=1, failures=(Item("failed", "", "", ""),)), "failed"),
    ],
)
def test_a_case_has_the_gravest_outcome(seen: Calibration, outcome: str) -> None:
    assert seen.outcome == outcome


# Showing.

PLACE = Worst(0.25, "out/cases/3.case.json", "fit/single/graph", "gradient", 7, "dense_1/kernel")
SILENT = Calibration(
    cases=2,
    arms=4,
    repeated=10,
    compared=1003,
    stages={"weights": ratios([msgspec.structs.replace(PLACE, value=0.0, stage="weights", step=-1)])}
    | {"gradient": ratios([PLACE, *[msgspec.structs.replace(PLACE, value=0.05)] * 999])},
    known={"both/loss/replica_loss_not_scaled": 1},
)


def told(*seen: Calibration, asked: int | None = None) -> list[Event]:
    """The events of a run in which this was seen."""
    total = len(seen) if asked is None else asked
    return [
        RunStarted(arms=("fit/single/graph",), seed=3, workers=1, report="out", examples=total, calibration=True),
        *(
            CaseCalibrated(index=index, seconds=0.5, path=f"{index}.json", calibration=one)
            for index, one in enumerate(seen)
        ),
        RunEnded(outcomes={"conforms": len(seen)}, signatures={}, findings=0, seconds=1.0, report="out"),
    ]


def test_bars_are_as_long_as_the_counts_and_what_is_there_at_all_is_seen() -> None:
    lines = text(calibrated(told(SILENT))).splitlines()
    start = lines.index("gradient: 1,000 quantities by seen / allowed")
    chart = lines[start + 1 : start + 4]
    assert [line.split()[0] for line in chart] == ["<0.1", "<0.2", "<0.5"]
    assert [line.count("━") for line in chart] == [43, 0, 1]
    assert [line.split()[-3:-1] for line in chart if "━" in line] == [["999", "99.9"], ["1", "0.1"]]
    assert lines[start + 4] == "worst 0.25: gradient, dense_1/kernel, step 7, fit/single/graph, out/cases/3.case.json"


@given(CALIBRATIONS)
def test_charts_are_at_most_eighty_columns_wide(calibration: Calibration) -> None:
    for name, item in calibration.stages.items():
        assert sum(item.counts) == item.count, name
        assert all(len(line) <= 80 for line in reports._chart(item, "utf-8"))


def test_without_line_drawing_bars_are_ascii() -> None:
    shown = text(calibrated(told(SILENT)), "ascii")
    assert shown.isascii()
    assert "-" * 40 in shown


@pytest.mark.parametrize(
    ("seen", "asked", "ending"),
    [
        ([SILENT], 1, "nothing departs but what the corpus knows"),
        ([msgspec.structs.replace(SILENT, known={})], 1, "nothing departs"),
        ([SILENT, SILENT], 5, "only 4 of 5 cases"),
        (
            [msgspec.structs.replace(SILENT, news=(Item("a", "x", "", ""), Item("a", "y", "", "")))],
            2,
            "2 departures under 1 signature that the corpus does not know",
        ),
        ([msgspec.structs.replace(SILENT, failures=(Item("failed", "", "", ""),))], 2, "the harness failed in 1 case"),
    ],
)
def test_the_last_line_says_the_worst_and_whether_anything_is_news(
    seen: list[Calibration], asked: int, ending: str
) -> None:
    made = calibrated(told(*seen, asked=asked))
    worst = "gradient, dense_1/kernel, step 7, fit/single/graph, out/cases/3.case.json"
    assert conclusion(made) == f"worst seen / allowed: 0.25, below 1 by a factor of 4 ({worst}); {ending}"
    assert text(made).endswith(f"\n{conclusion(made)}\n")
    assert to_data(made)["conclusion"] == conclusion(made)


def test_what_judged_nothing_does_not_say_that_nothing_departs() -> None:
    lost = WorkerDied(reason="killed by SIGKILL", case="{}", path="crashes/a.json")
    started, *_, ended = told(Calibration(cases=1, unsupported={"xla": 1}))
    last = conclusion(calibrated([started, lost, ended]))
    wanted = "1 worker lost, nothing was held against the referee, only 0 of 1 cases"
    assert last == f"no seen / allowed was measured; {wanted}"
    assert "killed by SIGKILL; crashes/a.json" in page(calibrated([started, lost, ended]))


def test_the_object_holds_everything() -> None:
    news = Item("referee/loss/unexplained", "out/cases/1.case.json", "fit/single/graph", "said")
    seen = msgspec.structs.replace(SILENT, news=(news,), raised={"r": 1}, unsupported={"u": 2}, skipped={"s": 3})
    data = to_data(calibrated([*told(seen), Problem(message="p")]))
    assert json.loads(json.dumps(data)) == data
    assert data["bins"] == list(BINS)
    assert list(data["stages"]) == ["gradient", "weights"]
    gradient = data["stages"]["gradient"]
    assert (gradient["count"], gradient["counts"]) == (1000, [0, 0, 0, 0, 999, 0, 1, 0])
    assert data["worst"] == gradient["worst"]
    assert msgspec.convert(data["worst"], Worst) == PLACE
    assert (data["factor"], data["seed"], data["examples"], data["cases"]) == (4.0, 3, 1, 2)
    assert (data["raised"], data["unsupported"], data["skipped"]) == ({"r": 1}, {"u": 2}, {"s": 3})
    assert data["news"] == [msgspec.to_builtins(news)]
    assert data["problems"] == ["p"]


def test_strangers_text_does_nothing_to_its_reader(tmp_path: Path) -> None:
    hostile = "\x1b[31m<b>| x |\n# y"
    item = Item(hostile, hostile, hostile, hostile)
    place = msgspec.structs.replace(PLACE, name=hostile)
    seen = Calibration(cases=1, compared=1, news=(item,), raised={hostile: 1}, stages={"loss": ratios([place])})
    shown = text(calibrated(told(seen)))
    assert "\x1b" not in shown
    assert "\n# y" not in shown
    reports.write(tmp_path, told(seen))
    written = (tmp_path / "calibration.md").read_text("utf-8")
    assert "\x1b" not in written
    assert "\n# y" not in written
    rows = [line for line in written.splitlines() if line.startswith("|") and "loss" in line]
    assert {line.count("|") for line in rows} == {13}
    assert json.loads((tmp_path / "calibration.json").read_bytes())["news"][0]["message"] == hostile


def test_the_many_reasons_that_are_not_shown_are_counted() -> None:
    seen = Calibration(cases=1, compared=1, skipped={f"reason {number:02}": 1 for number in range(25)})
    shown = text(calibrated(told(seen)))
    assert shown.count(" x reason ") == 10
    assert "  and 15 more\n" in shown


def test_each_case_is_a_line_where_nobody_watches() -> None:
    stream = StringIO()
    terminal = Terminal(stream, live=False)
    news = Item("itself/loss", "0.json", "fit/single/graph", "loss is another one")
    for event in told(msgspec.structs.replace(SILENT, news=(news,))):
        terminal(event)
    _, _, case, said, done, *_ = stream.getvalue().splitlines()
    assert case == "diverges 0.json (0.5 s): worst seen / allowed 0.25 (gradient)"
    assert said == "itself/loss: loss is another one; 0.json"
    assert done == "done in 1.0 s: 1 conforms"


def test_where_it_was_measured_is_told() -> None:
    from conformance.events import WorkerReady

    environment = Environment(
        python="3", tensorflow="2", keras="3", numpy="2", conformance="0", platform="Linux", devices="CPU:0"
    )
    made = calibrated([*told(SILENT), WorkerReady(environment=environment)])
    assert to_data(made)["environment"]["devices"] == "CPU:0"
    assert "- devices: `CPU:0`" in page(made)


# Drawing.


def test_the_same_seed_draws_the_same_cases_and_no_two_alike() -> None:
    drawn = draw(30, 7, 2)
    assert len(set(drawn)) == len(drawn) == 30
    assert draw(30, 7, 2) == drawn
    assert draw(10, 7, 2) == drawn[:10]
    assert draw(10, 8, 2) != drawn[:10]


# What the corpus knows.


def entry(name: str, *recorded: tuple[str, str, tuple[str, ...]]) -> cases.Entry:
    """An entry for which signatures are recorded, by versions of Keras and TensorFlow."""
    verdicts = [
        {"keras": keras, "tensorflow": tensorflow, "verdict": "diverges", "signatures": signatures}
        for keras, tensorflow, signatures in recorded
    ]
    texts: dict[str, Any] = dict.fromkeys(("title", "explanation", "cure"), "")
    lists: dict[str, Any] = {"placements": ["single"], "executions": ["graph"]}
    return msgspec.convert({"name": name, **texts, **lists, "verdicts": verdicts}, cases.Entry)


@pytest.mark.parametrize(
    ("versions", "taken", "known"),
    [
        (("3.9.2", "2.19.0"), ("3.9.2", "2.19.0"), {"a", "b"}),
        (("3.15.1", "2.21.0"), ("3.15.1", "2.21.0"), {"c"}),
        (("3.15.1", "2.20.0"), ("3.15.1", "2.21.0"), {"c"}),
        (("not installed", "not installed"), ("3.15.1", "2.21.0"), {"c"}),
    ],
)
def test_known_is_what_is_recorded_for_these_versions_or_else_for_the_newest(
    versions: tuple[str, str], taken: tuple[str, str], known: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = ("3.9.2", "2.19.0"), ("3.15.1", "2.21.0")
    corpus = (entry("one", (*old, ("a",)), (*new, ("c",))), entry("two", (*old, ("a", "b")), (*new, ())))
    monkeypatch.setattr(cases, "entries", lambda: corpus)
    assert cases.recorded_versions(*versions) == taken
    assert cases.known_signatures(*versions) == known


def test_every_recorded_signature_is_known_for_its_versions() -> None:
    recorded = list(itertools.chain.from_iterable(entry.verdicts for entry in cases.entries()))
    assert recorded
    for item in recorded:
        assert set(item.signatures) <= cases.known_signatures(item.keras, item.tensorflow)
