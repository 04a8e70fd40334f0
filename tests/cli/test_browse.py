"""The commands that read the store: mistakes in one line, nothing heavy, nothing made, nothing changed."""

import csv
import io
import subprocess
import sys

import pytest
import typer

from kdops.cli import app as cli
from kdops.cli import browse
from kdops.config.papers import PAPERS
from tests.shelves import Shelf, answer, family, finding, png, row

COMMANDS = ("runs", "lineage", "report", "compare", "papers")


@pytest.fixture(scope="module")
def shelf(empty_database, tmp_path_factory):
    shelf = Shelf(tmp_path_factory.mktemp("browse")).open(empty_database)
    family(shelf)
    return shelf


@pytest.fixture(scope="module")
def studies(shelf):
    told = answer("teacher", rows=[row("teacher", 0.9)], findings=[finding("teacher")])
    other = answer("teacher", rows=[row("teacher", 0.95)])
    return [
        shelf.study("teacher", told=told, figures={"figure-1-x.png": png(1)}),
        shelf.study("teacher", told=other),
        shelf.study("students", results=None, status="FAILED"),
    ]


@pytest.fixture
def here(shelf, tmp_path, monkeypatch):
    """Work in an empty folder on the store of this module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shelf.uri)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    return tmp_path


@pytest.fixture
def called(capsys):
    """Call a command as the command line does; give exit code, output and what went to stderr."""
    application = cli._application()
    cli.add_commands(application, browse.COMMANDS)

    def call(*arguments):
        code = cli._run(application, "kdops", [str(argument) for argument in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def mistake(result):
    """Return the one line of a mistake."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), result
    return err


def test_the_commands_import_nothing_heavy_before_they_run():
    heavy = ("torch", "mlflow", "pandas", "numpy", "rich")
    code = (
        "import sys, typer\nfrom kdops.cli import app as cli, browse\n"
        "app = cli._application()\ncli.add_commands(app, browse.COMMANDS)\n"
        "for name in ('runs', 'lineage', 'report', 'compare', 'papers'):\n"
        "    assert cli._run(app, 'kdops', [name, '--help']) == 0\n"
        "assert cli._run(app, 'kdops', ['lineage', 'x']) == cli._run(app, 'kdops', ['report', 'x']) == 2\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_torch_is_never_imported(here, studies):
    code = (
        "import sys\nfrom kdops.cli import app as cli, browse\n"
        "app = cli._application()\ncli.add_commands(app, browse.COMMANDS)\n"
        f"for call in (['runs'], ['papers'], ['lineage', 'kdops-digits-teacher/1'], ['report', '{studies[0]}'], "
        f"['compare', '{studies[0]}', '{studies[1]}']):\n"
        "    assert cli._run(app, 'kdops', call) == 0, call\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs", "--source", "teacher"], ["source=teacher", "models:/NAME/VERSION"]),
        (["runs", "--role", "a b"], ["role=a b"]),
        (["runs", "--dataset", "x'y"], ["dataset=x'y"]),
        (["runs", "--role", "student", "--role", "middle"], ["role=middle", "more than once"]),
        (["lineage"], ["MODEL"]),
        (["lineage", "teacher"], ["model=teacher", "models:/NAME@ALIAS"]),
        (["report", "xyz"], ["study=xyz", "first 6 characters"]),
        (["compare", "abcdef", "no"], ["study=no"]),
        (["compare", "abcdef"], ["STUDY"]),
        (["papers", "none"], ["paper=none", "szijarto-2020"]),
    ],
)
def test_a_mistake_is_one_line_before_any_store_is_looked_for(tmp_path, monkeypatch, called, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    line = mistake(called(*arguments))
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["", "sqlite:///sub/other.db", "mlruns", "file:mlruns"])
@pytest.mark.parametrize(
    "arguments", [["runs"], ["lineage", "a/1"], ["report", "abcdef"], ["compare", "abcdef", "abcdef"]]
)
def test_without_a_store_it_is_told_where_it_was_looked_for_and_none_is_made(
    tmp_path, monkeypatch, called, uri, arguments
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code, out, err = called(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    where = "mlruns" if "mlruns" in uri else f"sqlite:///{tmp_path}/{'sub/other.db' if uri else 'mlflow.db'}"
    assert where in err
    assert "kdops main" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no database at all, but text of some length " * 50])
def test_a_file_that_is_no_store_is_told_and_left_alone(tmp_path, monkeypatch, called, content):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(content)
    code, out, err = called("runs")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert (tmp_path / "mlflow.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_runs_prints_a_table_that_grep_reads(here, called):
    code, out, err = called("runs", "--role", "middle")
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if line.startswith("kdops-"))
    assert line.split()[:4] == ["kdops-digits-middle/1", "middle", "teacher>middle", "4"]


def test_runs_prints_csv_and_nothing_else(here, called):
    code, out, err = called("runs", "--csv", "--source", "models:/kdops-digits-teacher/1")
    assert (code, err) == (0, "")
    assert {row["source"] for row in csv.DictReader(io.StringIO(out))} == {"models:/kdops-digits-teacher/1"}


@pytest.mark.parametrize("arguments", [["--role", "boss"], ["--dataset", "gtsrb"], ["--source", "a/1"]])
def test_no_match_is_one_line_and_no_mistake(here, called, arguments):
    code, out, err = called("runs", *arguments)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert arguments[1] in out
    assert "14" in out
    assert called("runs", "--csv", *arguments)[1].count("\n") == 1, "as CSV the heading alone"


def test_lineage_prints_a_tree_or_a_graph(here, called):
    code, out, _ = called("lineage", "models:/kdops-digits-student/8")
    assert code == 0
    assert out.splitlines()[:3] == [
        "kdops-digits-student/8  teacher>middle>student  T=2 seed=0  val 0.8900  test 0.8000",
        "├── came from",
        "│   └── kdops-digits-middle/1  teacher>middle  T=4 seed=0  val 0.9400  test 0.8000",
    ]
    code, out, _ = called("lineage", "kdops-digits-student/8", "--dot")
    assert code == 0
    assert out.startswith("digraph lineage {")
    assert len(called("lineage", "kdops-digits-teacher/1", "--all")[1]) > len(
        called("lineage", "kdops-digits-teacher/1")[1]
    )
    assert "no such version" in mistake(called("lineage", "kdops-digits-student/99"))


def test_report_writes_where_it_is_told(here, called, studies):
    code, out, err = called("report", studies[0][:8])
    assert (code, err) == (0, "")
    names = ["report.md", "report.html", "figures/figure-1-x.png"]
    assert out.splitlines() == [f"report-{studies[0][:8]}/{name}" for name in names]
    assert all((here / line).is_file() for line in out.splitlines())
    assert called("report", studies[0], "--output", "a/b", "--latex")[0] == 0
    assert (here / "a" / "b" / "report.tex").read_text().startswith("% ")


def test_latex_alone_is_printed_and_nothing_written(here, called, studies):
    code, out, err = called("report", studies[0], "--latex")
    assert (code, err) == (0, "")
    assert r"\toprule" in out
    assert not list(here.iterdir())


def test_report_refuses_what_it_cannot_do(here, called, studies):
    (here / "file").write_text("")
    assert "must be a folder" in mistake(called("report", studies[0], "--output", "file"))
    assert "no study has this run id" in mistake(called("report", "0" * 32))
    code, out, err = called("report", studies[2])
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "FAILED" in err
    assert "kdops students" in err


def test_compare_prints_what_differs(here, called, studies):
    code, out, err = called("compare", studies[0], studies[1])
    assert (code, err) == (0, "")
    assert "settings: equal" in out
    assert "+5.00" in out
    assert max(map(len, out.splitlines())) <= 100


def test_reading_changes_nothing(here, called, studies, shelf):
    before = sorted((path, path.stat().st_size) for path in shelf.folder.rglob("*") if "mlflow.db" not in path.name)
    runs = shelf.client.search_runs([shelf.experiment], max_results=100)
    for call in (["runs"], ["lineage", "kdops-digits-teacher/1"], ["report", studies[0]], ["compare", *studies[:2]]):
        assert called(*call)[0] == 0
    after = sorted((path, path.stat().st_size) for path in shelf.folder.rglob("*") if "mlflow.db" not in path.name)
    assert after == before
    assert [r.to_dictionary() for r in shelf.client.search_runs([shelf.experiment], max_results=100)] == [
        r.to_dictionary() for r in runs
    ]


def test_every_command_has_a_help(called):
    for name in COMMANDS:
        code, out, _ = called(name, "--help")
        assert code == 0
        assert out.startswith(f"Usage: kdops {name}")


def test_commands_can_be_added_to_any_application():
    application = typer.Typer()
    cli.add_commands(application, browse.COMMANDS)
    assert {command.name for command in application.registered_commands} == set(COMMANDS)


def test_papers_are_listed_with_the_last_answer_of_the_store(called, shelf, here):
    code, out, err = called("papers")
    assert (code, err) == (0, "")
    assert all(paper.title in out and paper.cost in out for paper in PAPERS.values())
    assert out.count("not answered in this store") == len(PAPERS)
    run = shelf.study("paper", told=answer("paper", findings=[finding("one"), finding("two", answer="open")]))
    shelf.study("paper", results=None, status="FAILED")
    code, out, err = called("papers", "szijarto-2020")
    assert (code, err) == (0, "")
    assert f"run {run[:8]}: 2 statements: 1 replicated, 0 not, 1 left open" in out
    claims = PAPERS["szijarto-2020"].statements().values()
    assert all(f"- {one.what} ({one.source}): {one.words}" in out for one in claims)


def test_papers_are_listed_without_a_store(called, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, out, err = called("papers")
    assert (code, err) == (0, "")
    assert out.count("not answered in this store") == len(PAPERS)
    assert not list(tmp_path.iterdir())
