"""A page is decided once and written twice, and whatever a stranger wrote shows as text in both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from conformance.baseline import Known
from conformance.case import Case
from conformance.cases import Tried, entries
from conformance.errors import UsageError
from conformance.events import BaselineCompared, Event, Occurrence, Problem, RunStarted, to_line
from conformance.finding import Environment, Finding
from conformance.margin import Margin, Margins
from conformance.reports import folder as folder_module
from conformance.reports import known, markdown, summary
from conformance.reports.campaign_page import NOT_MINIMIZED, campaign_page
from conformance.reports.chart import heat, level, plot
from conformance.reports.finding_page import finding_page
from conformance.reports.folder import load_finding, write_finding
from conformance.reports.graph import NAMED, SHOWN, graph, marked
from conformance.reports.html import campaign_html, finding_html
from conformance.reports.known import recorded
from conformance.reports.render import render
from conformance.reports.text import pieces, prose, shortened
from conformance.stage import STAGES, Stage

Make = Callable[..., Finding]
Run = Callable[..., list[Event]]

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
VOID = {"meta"}
_NAMES = (
    "html head meta title style body a header main section nav footer script p h1 h2 h3 ul li div span em strong code"
    " pre table caption thead tbody tr th td button details summary svg g path rect circle line polyline text"
)
TAGS = set(_NAMES.split())


class Read(HTMLParser):
    """What a page is made of; a tag that is not closed in its place is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def both(finding: Finding, events: list[Event]) -> tuple[str, str]:
    return finding_html(finding_page(finding, "import keras\n")), campaign_html(campaign_page(events))


# HTML.


def test_no_stranger_adds_a_tag_an_attribute_or_a_control_character_to_a_page(
    made_finding: Make, made_run: Run, hostile: str
) -> None:
    plain = [Read(page).tags for page in both(made_finding("x/y", raised=True), made_run("x/y"))]
    for number, page in enumerate(both(made_finding(hostile, raised=True), made_run(hostile))):
        read = Read(page)
        assert not CONTROLS.search(page)
        assert {tag for tag, _ in read.tags} <= TAGS
        assert {name for _, attrs in read.tags for name in attrs} <= {
            name for _, attrs in plain[number] for name in attrs
        }
        assert len([tag for tag, _ in read.tags if tag == "script"]) == 1


def test_what_a_stranger_wrote_is_there_to_be_read(made_finding: Make) -> None:
    text = "".join(Read(finding_html(finding_page(made_finding("a <b>&amp; \u05e9"), ""))).texts)
    assert text.count("a <b>&amp; \u05e9") >= 6


def test_a_page_forbids_itself_everything_but_its_own_style_and_script(made_finding: Make, made_run: Run) -> None:
    for page in both(made_finding(), made_run()):
        policy = next(
            attrs["content"] for _, attrs in Read(page).tags if attrs.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        assert "default-src 'none'" in policy
        assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy)
        assert "http" not in policy


def test_a_page_loads_nothing(made_finding: Make, made_run: Run) -> None:
    for page in both(made_finding(), made_run()):
        loading = [
            (tag, name)
            for tag, attrs in Read(page).tags
            for name in attrs
            if name in ("src", "srcset", "data", "action", "xlink:href") or (name == "href" and tag != "a")
        ]
        assert loading == []
        assert not re.search(r"url\(|@import|@font-face", page)


def test_addresses_lead_within_the_report_or_to_the_sources_of_clauses(
    made_finding: Make, made_run: Run, hostile: str
) -> None:
    for page in both(made_finding(hostile), made_run(hostile)):
        for tag, attrs in Read(page).tags:
            if tag == "a":
                assert re.match(
                    r"#|findings/|https://(keras\.io|www\.tensorflow\.org|github\.com)/", attrs["href"] or ""
                )


def test_every_table_has_headings_with_a_scope_and_every_chart_a_name(made_finding: Make, made_run: Run) -> None:
    for page in both(made_finding(), made_run()):
        tags = Read(page).tags
        assert [attrs for tag, attrs in tags if tag == "th" and attrs.get("scope") not in ("row", "col")] == []
        pictures = [attrs for tag, attrs in tags if tag == "svg" and attrs.get("aria-hidden") != "true"]
        assert [attrs for attrs in pictures if not attrs.get("aria-label")] == []
        levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))


def test_no_two_parts_of_a_page_have_one_name_and_every_link_within_it_leads_somewhere(
    made_finding: Make, made_run: Run
) -> None:
    for page in both(made_finding(), made_run()):
        tags = Read(page).tags
        names = [attrs["id"] for _, attrs in tags if "id" in attrs]
        assert len(set(names)) == len(names)
        within = {(attrs["href"] or "")[1:] for tag, attrs in tags if tag == "a" and (attrs["href"] or "")[0] == "#"}
        assert within <= set(names)


# Both formats.


def test_both_formats_say_the_same_sentences(made_finding: Make) -> None:
    page = finding_page(made_finding("plain words"), "import keras\n")
    said = [page.verdict, *page.happened, *page.expected, page.reason.explanation, page.recorded.since, page.tried]
    shown = " ".join("".join(Read(finding_html(page)).texts).split())
    text = re.sub(r"\\(.)", r"\1", markdown.written(page)).replace("`", "")
    for sentence in said:
        assert sentence.replace("`", "") in shown
        assert sentence.replace("`", "") in text


def test_the_markdown_of_a_stranger_does_nothing(made_finding: Make, made_run: Run, hostile: str) -> None:
    for text in (
        markdown.written(finding_page(made_finding(hostile, raised=True), "import keras\n")),
        summary.written(campaign_page(made_run(hostile))),
    ):
        fenced = re.sub(r"(?s)(?m:^)(`{3,})\w*\n.*?\n\1(?m:$)", "", text)
        outside = re.sub(r"(?<!\\)`[^`\n]*`", "", fenced)
        assert not CONTROLS.search(text)
        assert set(re.findall(r"<(/?\w+)", outside)) <= {
            "details",
            "/details",
            "summary",
            "/summary",
            "findings",
            "https",
        }
        assert not re.search(r"(?<!\\)\](?!\(<findings/)[(\[]", outside)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a `b*c` d_e", "a `b*c` d\\_e"),
        ("`b`", "`b`"),
        ("one ` alone", "one \\` alone"),
        ("`a|b` | <i>", "`a\N{BROKEN BAR}b` \\| &lt;i&gt;"),
        ("", ""),
    ],
)
def test_in_a_sentence_what_stands_in_backticks_is_code(text: str, wanted: str) -> None:
    assert prose(text) == wanted
    assert "".join(piece for _, piece in pieces(text)) == text.replace("`", "" if text.count("`") == 2 else "`")


def test_of_an_arm_that_raised_the_exception_is_told_and_no_amount(made_finding: Make) -> None:
    page = finding_page(made_finding("boom", raised=True), "")
    told = {row[0].text: row[1].text for row in page.numbers.rows}
    assert told["exception"] == "`boom`"
    assert not {"off by", "allowed", "when"} & set(told)
    assert "ends with an exception" in page.happened[0]


def test_where_the_two_arms_of_a_finding_could_not_be_compared_that_is_said(made_finding: Make) -> None:
    made = made_finding()
    fewer = msgspec.structs.replace(made.verdict, comparisons=made.verdict.comparisons[1:])
    others = msgspec.structs.replace(made, verdict=fewer)
    for text in (finding_html(finding_page(others, "")), markdown.written(finding_page(others, ""))):
        assert "cannot be held against one another step by step" in text
    assert "cannot be held against" not in finding_html(finding_page(made, ""))


def test_what_is_cut_says_so() -> None:
    assert prose("x" * 2_003) == "x" * 2_000 + " \\[3 more characters\\]"
    assert prose("x" * 2_000) == "x" * 2_000
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde\N{HORIZONTAL ELLIPSIS}"


def test_a_finding_without_case_script_or_comparisons_has_both_pages(made_finding: Make) -> None:
    bare = made_finding()
    bare = msgspec.structs.replace(bare, verdict=msgspec.structs.replace(bare.verdict, case=None, comparisons=()))
    page = finding_page(msgspec.structs.replace(bare, original=None), "")
    assert (page.graph, page.plot, page.heats) == (None, None, ())
    assert "No script can be written" in finding_html(page)
    assert "No script can be written" in markdown.written(page)
    assert "Nothing is recorded of what was seen and allowed" in finding_html(page)


# What is on record.

HERE = Environment("3.11", "2.21.0", "3.15.1", "2.4", "0.1", "Linux", "CPU")


def test_a_known_signature_names_the_function_in_the_source_and_the_versions() -> None:
    found = recorded("both/loss/replica_loss_not_scaled", HERE)
    assert "keras.src.losses.loss.reduce_values" in found.where
    assert "Keras 3.15.1 with TensorFlow 2.21.0" in found.since
    assert "case `scalar_loss` of the corpus" in found.notes[0]


def test_what_the_script_of_a_case_did_in_other_versions_is_told_of_the_signature_that_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (entry,) = (each for each in entries() if each.name == "rows_43_in_16")
    tried = (Tried(tensorflow="2.21.0", conforms=("3.5.0",), diverges=("3.8.0", "3.15.1")),)
    entry = msgspec.structs.replace(entry, tried=tried)
    monkeypatch.setattr(known, "entries", lambda: (entry,))
    first, second = entry.verdicts[0].signatures
    told = (
        "The script of its case `rows_43_in_16` was tried in other versions of keras: began after 3.5.0 and not later"
        " than 3.8.0 (3.5.0 conforms, 3.8.0 diverges)."
    )
    assert told in recorded(first, HERE).since
    assert "is not recorded" not in recorded(first, HERE).since
    assert told not in recorded(second, HERE).since
    bare = msgspec.structs.replace(entry, tried=())
    monkeypatch.setattr(known, "entries", lambda: (bare,))
    assert "on which version it began is not recorded" in recorded(first, HERE).since


def test_of_an_unknown_signature_nothing_is_said_but_that() -> None:
    found = recorded("both/loss/no_such_cause", HERE)
    assert (found.where, found.notes) == ((), ())
    assert "no other version is recorded" in found.since


def test_a_case_that_shows_a_signature_before_all_else_tells_of_it() -> None:
    found = recorded("distribution/logs/replica_reported_loss", HERE)
    assert ["case `reported_loss`" in note for note in found.notes] == [True]


def test_where_nobody_is_wrong_no_function_of_keras_is_blamed() -> None:
    for entry in entries():
        for item in entry.verdicts:
            for signature in item.signatures:
                if not entry.explanation.startswith("Keras is wrong"):
                    assert recorded(signature, HERE).where == ()


# Charts.


def row(stage: Stage, step: int | None, seen: float, allowed: float, epoch: int | None = None) -> Margin:
    ratio = 0.0 if not seen else seen / allowed if allowed else float("inf")
    return Margin(stage=stage, step=step, epoch=epoch, variable="v", seen=seen, allowed=allowed, ratio=ratio)


@pytest.mark.parametrize(
    ("seen", "allowed", "wanted"),
    [
        (0, 0, "same"),
        (0, 1, "same"),
        (0.05, 1, "little"),
        (1, 1, "within"),
        (2, 1, "beyond"),
        (101, 1, "far"),
        (1, 0, "far"),
    ],
)
def test_a_cell_says_how_much_of_what_is_allowed_was_seen(seen: float, allowed: float, wanted: str) -> None:
    assert level(row(Stage.LOSS, 0, seen, allowed)) == wanted


def test_the_map_has_the_stages_in_the_order_of_a_step_and_frames_the_first_that_is_wrong() -> None:
    rows = (
        row(Stage.WEIGHTS, 0, 5, 1),
        row(Stage.LOSS, 1, 3, 1),
        row(Stage.LOSS, 0, 0.5, 1),
        row(Stage.LOGS, None, 9, 1, epoch=0),
        row(Stage.WEIGHTS, None, 9, 1),
    )
    made = heat(Margins(arms=("fit/single/graph", "referee"), rows=rows))
    assert made.title == "fit on one device against the referee"
    assert made.steps == ("0", "1", "end", "epoch 0")
    assert [stage for stage, _ in made.rows] == ["loss", "weights", "logs"]
    assert [(stage, index) for stage, cells in made.rows for index, cell in enumerate(cells) if cell.first] == [
        ("weights", 0)
    ]
    assert made.says.startswith(
        "The first stage beyond what is allowed is the weights, step 0. Where a fault explains it"
    )
    assert [cell.text for cell in made.rows[0][1]] == [".5", "3", "", ""]


def test_the_curves_place_more_above_less_and_nothing_and_the_infinite_at_the_ends() -> None:
    seen = [0.0, 1e-9, 1e-3, 1.0, float("inf")]
    made = plot(
        Margins(arms=("a", "b"), rows=tuple(row(Stage.LOSS, i, s, 1e-6) for i, s in enumerate(seen))), Stage.LOSS
    )
    assert made is not None
    heights = [point.y for point in made.seen]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 5
    assert heights[0] == made.bottom
    assert all(0 <= point.y <= made.bottom and made.left <= point.x <= made.right for point in made.seen)
    assert made.joined


def test_of_one_step_the_curves_go_over_its_stages() -> None:
    rows = tuple(row(stage, 0, 0.0, 0.0) for stage in STAGES)
    made = plot(Margins(arms=("a", "b"), rows=rows), Stage.LOSS)
    assert made is not None
    assert (made.across, len(made.seen), made.joined) == ("stage", len(STAGES), False)
    assert plot(Margins(arms=("a", "b"), rows=rows[:1]), Stage.LOSS) is None


# The model.


def test_no_two_boxes_of_a_model_overlap_and_lines_go_down(made_finding: Make) -> None:
    finding = made_finding()
    assert finding.verdict.case is not None
    made = graph(finding.verdict.case, finding.observation)
    assert len(made.boxes) == 2 + 5 + 2 + 1
    assert len(made.paths) == 7 + 2 + 2
    for index, a in enumerate(made.boxes):
        assert a.x >= 0
        assert a.x + a.width <= made.width
        assert a.y + a.height <= made.height
        for b in made.boxes[index + 1 :]:
            apart = abs(a.x - b.x) >= a.width or abs(a.y - b.y) >= a.height
            assert apart, (a.head, b.head)
    for path in made.paths:
        ends = [float(y) for y in re.findall(r"[ML]?[\d.]+ ([\d.]+)", path)]
        assert ends == sorted(ends)


@pytest.mark.parametrize(
    ("cause", "signature", "stage", "variable", "wanted"),
    [
        ("clip_order", "distribution/gradient/clip_order/clipnorm", Stage.GRADIENT, "x", {"the optimizer": NAMED}),
        ("unexplained", "both/outputs/unexplained/Concatenate", Stage.OUTPUTS, "one", {"joined": NAMED}),
        ("regularization_omitted", "both/loss/regularization_omitted", Stage.LOSS, "loss", {"hidden": NAMED}),
        ("unexplained", "both/weights/unexplained", Stage.WEIGHTS, "model/two/kernel", {"two": SHOWN}),
        ("unexplained", "both/update/unexplained", Stage.UPDATE, "model_hidden_kernel_m", {"hidden": SHOWN}),
        ("unexplained", "both/update/unexplained", Stage.UPDATE, "iteration", {"the optimizer": SHOWN}),
        ("unexplained", "both/loss/unexplained", Stage.LOSS, "loss", {"loss 0": SHOWN, "loss 1": SHOWN}),
        ("unexplained", "both/batch/unexplained", Stage.BATCH, "x", {}),
    ],
)
def test_the_part_that_a_finding_points_at_is_marked(
    made_finding: Make, cause: str, signature: str, stage: Stage, variable: str, wanted: dict[str, str]
) -> None:
    item = made_finding().observation
    item = msgspec.structs.replace(
        item,
        signature=signature,
        cause=msgspec.structs.replace(item.cause, name=cause),
        divergence=msgspec.structs.replace(item.divergence, stage=stage, variable=variable),
    )
    found: Case | None = made_finding().verdict.case
    assert found is not None
    assert marked(found, item) == wanted


# A run.


def test_an_index_counts_the_cases_of_each_signature_and_says_which_was_the_first(made_run: Run) -> None:
    page = campaign_page(made_run("a.json"))
    rows = [tuple(cell.text for cell in line) for line in page.findings.rows]
    assert [line[1] for line in rows] == ["2", "1", "1"]
    assert [line[2] for line in rows] == ["`a.json` (3 s)", "`a.json` (6 s)", "`a.json` (4 s)"]
    assert rows[2][0] == NOT_MINIMIZED
    assert page.findings.rows[0][0].link == "findings/distribution-gradient-clip-order-clipnorm"
    assert page.verdict == "5 cases judged: 3 diverge, 1 conforms, 1 is not supported. 2 findings."


def test_an_index_tells_what_became_of_every_entry_of_a_baseline(made_run: Run) -> None:
    gone, seen, hidden = (Known(f"trainer/logs/{name}", f"{name} is known") for name in ("gone", "seen", "hidden"))
    first = BaselineCompared(
        source="known.json",
        cases=3,
        occurred=(Occurrence(known=seen, cases=2),),
        gone=(Occurrence(known=gone),),
        hidden=(Occurrence(known=hidden),),
    )
    decided = msgspec.structs.replace(first, gone=(Occurrence(known=gone, decided="its case conforms"),))
    page = campaign_page([*made_run(), first, decided])
    assert {row[0].text: row[1].text for row in page.baseline.rows} == {
        "seen is known": "occurs, in 2 cases",
        "gone is known": "no longer occurs: its case conforms",
        "hidden is known": "not to be seen in the arms of this run",
    }
    assert not campaign_page(made_run()).baseline.rows


def test_an_index_tells_what_was_drawn_how_long_arms_took_and_how_much_was_seen(made_run: Run) -> None:
    page = campaign_page(made_run())
    layers = dict(page.coverage)["Layers"]
    assert sorted(tuple(cell.text for cell in line) for line in layers.rows) == [
        ("`Concatenate`", "5", "3"),
        ("`Dense`", "5", "3"),
    ]
    assert "`Conv2D`" in layers.about
    assert [line[2].text for line in page.timing.rows] == ["0.50", "0.25"]
    counts = {line[0].text: (line[1].text, line[2].text) for line in page.margins.rows}
    assert counts["<0.5"][1] != "0"
    assert counts[">100"][1] != "0"
    assert "The same bits were due in" in page.exact


def test_a_report_is_written_again_from_its_data_alone(made_finding: Make, made_run: Run, tmp_path: Path) -> None:
    folder = write_finding(made_finding(), "import keras\n", tmp_path / "findings")
    (tmp_path / "events.jsonl").write_bytes(b"".join(map(to_line, made_run())))
    first = {path: path.read_text() for path in render(tmp_path)}
    assert {path.relative_to(tmp_path).as_posix() for path in first} == {
        f"findings/{folder.name}/report.md",
        f"findings/{folder.name}/report.html",
        "report.md",
        "index.html",
    }
    for path in first:
        path.unlink()
    assert {path: path.read_text() for path in render(tmp_path)} == first
    assert finding_page(made_finding(), "").title in first[tmp_path / "report.md"]
    assert set(render(folder)) == {folder / "report.md", folder / "report.html"}


def test_a_page_that_cannot_be_written_takes_no_finding_with_it(
    made_finding: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(page: object) -> str:
        raise ZeroDivisionError("<b>")

    monkeypatch.setattr(folder_module, "PAGES", {"report.html": stumble})
    folder = write_finding(made_finding(), "import keras\n", tmp_path)
    assert load_finding(folder).signature == made_finding().signature
    assert (folder / "report.md").read_text() == "The pages of this finding could not be written: &lt;b&gt;\n"
    assert (folder / "repro.py").exists()


def test_the_links_of_a_rendered_index_lead_to_files(made_finding: Make, made_run: Run, tmp_path: Path) -> None:
    write_finding(made_finding(), "", tmp_path / "findings")
    (tmp_path / "events.jsonl").write_bytes(b"".join(map(to_line, made_run())))
    render(tmp_path)
    tags = Read((tmp_path / "index.html").read_text()).tags
    links = [attrs["href"] or "" for tag, attrs in tags if tag == "a" and not (attrs["href"] or "#").startswith("#")]
    assert [link for link in links if (tmp_path / link).exists()] == links[:1] != []


def test_lines_that_are_no_events_are_counted_and_told(made_run: Run, tmp_path: Path) -> None:
    told = [to_line(event) for event in made_run()]
    (tmp_path / "events.jsonl").write_bytes(b"".join(told) + b'{"type": "CaseJud')
    render(tmp_path)
    assert f"1 of {len(told) + 1} lines of events.jsonl are no events" in (tmp_path / "index.html").read_text()


def test_a_calibration_is_rendered_as_one(tmp_path: Path) -> None:
    started = RunStarted(arms=("fit/single/graph",), seed=1, workers=1, report="out", examples=1, calibration=True)
    (tmp_path / "events.jsonl").write_bytes(to_line(started) + to_line(Problem(message="said")))
    assert {path.name for path in render(tmp_path)} == {"calibration.json", "calibration.md"}


@pytest.mark.parametrize("held", ["nothing", "a file", "an empty directory", "no events", "a broken finding"])
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, held: str) -> None:
    place = tmp_path / "place"
    if held == "a file":
        place.write_text("x")
    elif held != "nothing":
        place.mkdir()
    if held == "no events":
        (place / "events.jsonl").write_text("{}\n")
    if held == "a broken finding":
        (place / "findings" / "x").mkdir(parents=True)
        (place / "findings" / "x" / "finding.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(UsageError) as caught:
        render(place)
    assert str(caught.value).startswith(str(place))
    assert "\n" not in str(caught.value)
