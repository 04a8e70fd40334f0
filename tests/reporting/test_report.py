"""A report says all that its study says, whatever stands in it, and its page needs nothing else."""

import re
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.errors import KdopsError, UsageError
from kdops.reporting.compare import compare_studies, show_comparison
from kdops.reporting.latex import latex_text
from kdops.reporting.report import report_figures, report_html, report_latex, report_markdown, write_report
from kdops.tracking.stored_study import StoredStudy
from kdops.utils.text import markdown_line
from kdops.verdicts.answer import read_answer
from tests.shelves import NASTY, answer, finding, png, row, settings

RESULTS = pd.DataFrame(
    {
        "role": ["teacher", "student", "student"],
        "reused": [True, False, False],
        "model": ["models:/a/1", "models:/b/1", "models:/b/2"],
    }
)


def study(name, *, parts=(), figures=None, results=RESULTS, described=None, run_id="0123456789abcdef" * 2, **told):
    import json

    return StoredStudy(
        run_id=run_id,
        name=f"{name} digits",
        study=name,
        status="FINISHED",
        started=datetime(2024, 5, 6, 7, 8, tzinfo=UTC),
        tags={},
        **(described or settings()),
        results=results,
        answer=read_answer(json.dumps(answer(name, **told))),
        basis="What it rests on.",
        figures=figures or {},
        parts=parts,
    )


def paper(word="not symmetric", extra=""):
    """A whole of three parts, with `extra` in all of its texts."""
    x = extra
    return study(
        "paper",
        title=f"The whole{x}",
        figures={"figure-1-students.png": png(1)},
        parts=(
            study(
                "students",
                sentences=[f"Students learn{x}.", f"More of students{x}."],
                rows=[row(f"student, hard labels{x}", 0.55), row("alone", 0.5, n=1)],
                findings=[
                    finding(f"hard labels{x}", "other data"),
                    finding("gain", "yes", 0.3, "difference"),
                    finding("alike", "open", 0.6, "share"),
                    finding("T above 4", "no", None),
                    finding("single", "no", 0.7, n=1),
                ],
                figures={"figure-1-students.png": png(1)},
            ),
            study(
                "symmetry",
                word=f"{word}{x}",
                sentences=[f"Not symmetric, by this much{x}."],
                claims=[{"name": f"symmetry{x}", "word": word, "sentence": "s"}],
                statistics={f"symmetry_low{x}": -0.0123456},
                rows=[row("reversed", 0.84)],
                findings=[finding("near the teacher", "no")],
                figures={"figure-2-symmetry.png": png(2)},
                described=settings(temperatures=[1.0, 10.0]),
            ),
            study("transitivity", word="transitive", sentences=["Transitive."], figures={"figure-10-x.png": png(3)}),
        ),
    )


class Page(HTMLParser):
    """What is on a page: tags, attributes, and the text of each cell and paragraph."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "every tag is closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.text.append((self.open[-1], data.strip()))

    def of(self, tag):
        return [text for name, text in self.text if name == tag]


def tables_of(markdown):
    """Return the tables of a Markdown text as lists of rows of cells."""
    found = []
    for block in markdown.split("\n\n"):
        if block.startswith("|"):
            found.append([re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in block.strip().splitlines()])
    return [[[cell.strip() for cell in line] for line in table] for table in found]


def unescaped(text):
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).replace("&amp;", "&")


def test_the_answers_come_first_then_paper_against_measured_then_figures_and_tables():
    text = report_markdown(paper())
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Answers", "The paper and these measurements", "Figures", "Models", "What this rests on"]
    assert text.startswith("# The whole: digits\n")
    assert "transfer shared, seeds 0 to 2 (3 replicates)" in text
    assert "**Symmetry: not symmetric.** Not symmetric, by this much." in text
    assert "**Students:** Students learn." in text
    assert text.index("More of students.") > text.index("## Models"), "what is not the main answer stands with its part"


def test_the_verdict_is_not_said_twice():
    text = report_markdown(
        study("transitivity", word="not transitive", sentences=["Not transitive: over 6 of them.", "x"])
    )
    assert "**Not transitive.** Over 6 of them.\n\nx\n" in text


def test_findings_of_all_parts_are_one_table_in_their_order():
    table = tables_of(report_markdown(paper()))[0]
    assert table[0] == ["statement", "paper", "measured", "replicates?"]
    whats = ["hard labels", "gain", "alike", "T above 4", "single", "near the teacher"]
    assert [line[0] for line in table[2:]] == whats
    assert [line[2] for line in table[2:6]] == [
        "0.9500 (95 %: 0.9400 to 0.9600, n = 3)",
        "+30.00 points (95 %: +29.00 to +31.00, n = 3)",
        "60.0 % (95 %: 59.0 to 61.0, n = 3)",
        "-",
    ]
    assert table[6][2] == "0.7000 (n = 1)", "one replicate has no interval"
    assert [line[3] for line in table[2:]] == ["other data", "yes", "open", "no", "no", "no"]
    assert "6 statements: 1 replicated, 3 not, 1 left open by the data, 1 with a number" in report_markdown(paper())


def test_figures_come_once_and_by_their_number():
    names = [figure.name for figure in report_figures(paper())]
    assert names == ["figure-1-students.png", "figure-2-symmetry.png", "figure-10-x.png"]
    positions = [report_markdown(paper()).index(f"](figures/{name})") for name in names]
    assert positions == sorted(positions)


def test_different_figures_of_one_name_keep_both_images():
    one, other = paper(), paper()
    clash = replace(one, parts=(one.parts[0], replace(other.parts[1], figures={"figure-1-students.png": png(9)})))
    assert {figure.name: figure.image for figure in report_figures(clash)} == {
        "figure-1-students.png": png(1),
        "symmetry-figure-1-students.png": png(9),
    }


@pytest.mark.parametrize("name", ["../../etc/x.png", "/abs/x.png", "a b\n.png", "..", ".hidden.png", ""])
def test_a_figure_stays_in_its_folder(name, tmp_path):
    written = write_report(study("teacher", figures={name: png(1)}), tmp_path / "report")
    *pages, figure = (path.resolve() for path in written)
    assert {path.parent for path in pages} == {(tmp_path / "report").resolve()}
    assert figure.parent == (tmp_path / "report" / "figures").resolve()
    assert len(written) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report"]


def test_each_part_has_its_closing_table():
    tables = tables_of(report_markdown(paper()))
    closing = [table[2:] for table in tables if table[0] == ["models", "count", "mean", "95 % interval", "replicates"]]
    assert closing == [
        [
            ["student, hard labels", "3", "0.5500", "0.5400 to 0.5600", "3"],
            ["alone", "3", "0.5000", "needs 2 replicates", "1"],
        ],
        [["reversed", "3", "0.8400", "0.8300 to 0.8500", "3"]],
    ]


def test_what_it_rests_on_is_complete():
    text = unescaped(report_markdown(paper()))
    cells = {tuple(line) for table in tables_of(text) for line in table}
    assert {
        ("digest", "ab" * 32),
        ("digest", "cd" * 32),
        ("transfer", "12, 12"),
        ("recipes.student.epochs", "40"),
        ("temperatures", "1, 10"),
        ("torch", "2.15.0"),
        ("system", "Linux"),
        ("student", "2", "2", "0"),
        ("all", "3", "2", "1"),
    } <= cells
    assert "What it rests on." in text
    assert "not other splits" in text


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_report_of_what_is_left_says_so(status):
    text = report_markdown(replace(paper(), status=status, unread=("ensemble (FAILED)",)))
    assert f"The study ended as {status}" in text
    assert "nothing to read of ensemble (FAILED)" in text


@pytest.mark.parametrize("name", ["teacher", "anything"])
def test_a_study_with_nothing_but_settings_has_a_report(name):
    bare = study(name, results=pd.DataFrame())
    for text in (report_markdown(bare), report_html(bare), report_latex(bare)):
        assert "recipes.student.epochs" in unescaped(text)


def test_the_page_needs_nothing_and_runs_nothing():
    page = Page(report_html(paper(extra=NASTY)))
    assert not {"script", "link", "iframe", "object", "style"} & set(page.tags) - {"style"}
    assert page.tags.count("style") == 1
    fetched = [(tag, name, value) for tag, name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert {tag for tag, _, _ in fetched} == {"img"}
    images = [b64decode(value.removeprefix("data:image/png;base64,"), validate=True) for _, _, value in fetched]
    assert images == [png(1), png(2), png(3)]
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert ("meta", "name", "viewport") in page.attributes
    policy = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")]
    assert "default-src 'none'" in policy[0]
    assert "width=device-width" in policy[1]


def test_the_page_shows_every_text_as_it_is():
    page = Page(report_html(paper(extra=NASTY)))
    assert f"student, hard labels{NASTY}" in page.of("td")
    assert f"hard labels{NASTY}" in page.of("td")
    assert f"Symmetry: not symmetric{NASTY}." in page.of("strong")
    assert page.of("h1") == page.of("title") == [f"The whole{NASTY}: digits"]
    assert page.tags.count("details") == 2


def test_markdown_tables_keep_their_shape_whatever_is_in_them():
    plain, odd = (tables_of(report_markdown(paper(extra=extra))) for extra in ("", NASTY + "\n# x\n"))
    assert [[len(line) for line in table] for table in odd] == [[len(line) for line in table] for table in plain]
    assert len({len(line) for line in odd[0]}) == 1
    assert unescaped(odd[0][2][0]) == f"hard labels{NASTY} # x"


@given(st.text())
def test_any_text_is_one_line_of_markdown_that_reads_back(text):
    escaped = markdown_line(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>`*_\[\]]", escaped), (
        "nothing is left that Markdown would take as its own"
    )
    assert not re.match(r"(#|[-+] |\d+[.)] |-{3})", escaped)
    assert unescaped(escaped) == " ".join(text.split()) or "&" in text


@given(st.text())
def test_any_text_is_latex_without_live_characters(text):
    bare = latex_text(text)
    for known in (r"\\text\w+\{\}", r"\\[{}$&#%_]", r"\\textsuperscript\{2\}", r"\\ldots\{\}", r"\{[\[\]]\}", r"-\{\}"):
        bare = re.sub(known, "", bare)
    bare = re.sub(r"\$(\\rightarrow|\\geq|\\leq|\\pm|\\times|-)\$", "", bare)
    assert not set(bare) & set("\\{}$&#%_^~<>|\n[]")


def test_latex_has_every_table_with_its_cells():
    text = report_latex(paper(extra=NASTY))
    assert text.count(r"\begin{tabular}") == text.count(r"\toprule") == text.count(r"\bottomrule")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(tables_of(report_markdown(paper())))
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    assert len(labels) == len(set(labels)) == text.count(r"\begin{table}")
    for body in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1


def test_a_report_is_written_whole_and_again(tmp_path):
    folder = tmp_path / "new" / "report"
    (first, again) = (write_report(paper(), folder, with_latex=True) for _ in range(2))
    assert first == again
    names = [
        "report.md",
        "report.html",
        "report.tex",
        "figures/figure-1-students.png",
        "figures/figure-2-symmetry.png",
        "figures/figure-10-x.png",
    ]
    assert [str(path.relative_to(folder)) for path in first] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted({name.partition("/")[0] for name in names})
    assert first[0].read_text("utf-8") == report_markdown(paper())
    assert first[1].read_text("utf-8") == report_html(paper())
    for name in re.findall(r"\]\((\S+?)\)", first[0].read_text("utf-8")):
        assert (folder / name).is_file()


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(UsageError, match="must be a folder"):
            write_report(paper(), folder)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "report" / "report.md").mkdir(parents=True)
    with pytest.raises(KdopsError, match="cannot be written"):
        write_report(paper(), tmp_path / "report")


def test_two_runs_of_the_same_compare_as_equal():
    from tests.shelves import lines_of

    comparison = compare_studies(paper(), replace(paper(), run_id="f" * 32))
    assert not any(comparison.differences.values())
    assert all(pair.equal and pair.points == 0 for pair in comparison.results)
    lines = lines_of(show_comparison, paper(), paper(), comparison)
    assert [line for line in lines if line.endswith("equal")] == [
        f"{topic}: equal" for topic in ("settings", "data", "split", "versions", "machine", "results")
    ]
    assert "verdict of symmetry: both not symmetric" in lines


def test_only_what_differs_is_listed():
    from tests.shelves import lines_of

    one, other = paper(), paper("symmetric")
    first, *others = other.parts[0].answer.rows
    rows = (replace(first, accuracy=replace(first.accuracy, mean=0.5675, n=5)), *others)
    changed = replace(
        other.parts[0],
        answer=replace(other.parts[0].answer, rows=rows),
        settings={**other.parts[0].settings, "margin": 0.05},
    )
    other = replace(
        other,
        parts=(changed, other.parts[1]),
        versions={"kdops": "0.2.0", "torch": "2.15.0"},
        settings={**other.settings, "transfer": "fresh", "recipes": {"student": {"epochs": 50}}},
    )
    comparison = compare_studies(one, other)
    assert comparison.differences["versions"] == {"kdops": ("0.1.0", "0.2.0")}
    settings_ = comparison.differences["settings"]
    assert settings_["transfer"] == ("shared", "fresh")
    assert settings_["recipes.student.epochs"] == ("40", "50")
    assert settings_["students.margin"][1] == "0.05"
    assert "dataset" not in settings_
    assert not comparison.differences["data"]
    assert comparison.verdicts == {"symmetry": ("not symmetric", "symmetric"), "transitivity": ("transitive", "-")}
    (pair,) = (pair for pair in comparison.results if not pair.equal)
    assert (pair.part, pair.what) == ("students", "student, hard labels")
    assert pair.points == pytest.approx(1.75)
    lines = lines_of(show_comparison, one, other, comparison)
    (line,) = (line for line in lines if "hard labels" in line)
    assert line.split() == ["students:", "student,", "hard", "labels", "0.5500", "(3)", "0.5675", "(5)", "+1.75"]
    assert "2 other lines are equal." in lines
    assert "data: equal" in lines


def test_a_line_that_one_study_lacks_has_no_difference():
    one = study("teacher", rows=[row("teacher", 0.9), row("teacher", 0.8)])
    other = study("teacher", rows=[row("teacher", 0.9)])
    pairs = compare_studies(one, other).results
    assert [(pair.what, pair.points) for pair in pairs] == [("teacher", 0.0), ("teacher", None)], (
        "equal names stay apart"
    )
    assert [pair.points for pair in compare_studies(other, one).results] == [0.0, None]
    assert not pairs[1].equal
