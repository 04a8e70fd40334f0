"""The command line: quick, and every mistake is told in one line with exit code 2."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops import __version__
from kdops.cli.app import main, pipeline_main
from kdops.config.architectures import parse_architecture
from kdops.config.parameters import ENTRY_POINTS, PARAMETERS
from kdops.config.settings import parse_temperatures
from kdops.errors import KdopsError, UsageError

HEAVY = ("torch", "mlflow", "pandas", "sklearn", "scipy", "matplotlib", "numpy")

BAD = [
    ("dataset", "mnist"),
    ("dataset", ""),
    ("data_root", "no/such/folder"),
    ("temperatures", "0"),
    ("temperatures", "20-1"),
    ("temperatures", "1,,2"),
    ("temperatures", "-3"),
    ("temperatures", "nan"),
    ("temperatures", "1001"),
    ("temperatures", "two\nlines"),
    ("seeds", "0"),
    ("seeds", "2.5"),
    ("seeds", "-1"),
    ("seed", "-1"),
    ("seed", "x"),
    ("split_seed", "99999999999"),
    ("teacher", "vit"),
    ("teacher", "cnn(filters=0)"),
    ("teacher", "cnn(layers=2,dropout=0.1/0.2/0.3)"),
    ("student", "mlp(width=3)"),
    ("student", "mlp(hidden=3,hidden=4)"),
    ("student", "mlp(dropout=0.1/0.2)"),
    ("middle", "mlp(dropout=1)"),
    ("epochs", "0"),
    ("epochs", "boss=3"),
    ("epochs", "teacher=3,teacher=4"),
    ("batch_size", "1e3"),
    ("learning_rate", "nan"),
    ("learning_rate", "0"),
    ("learning_rate", "inf"),
    ("optimizer", "adam(momentum=1)"),
    ("schedule", "zigzag"),
    ("weight_decay", "-1"),
    ("label_smoothing", "1.5"),
    ("train_temperature", "0"),
    ("class_weights", "unfair"),
    ("normalize", "maybe"),
    ("augment", "fly=true"),
    ("views", "0"),
    ("init", "zero"),
    ("transfer", "stolen"),
    ("leave_out", "3,,7"),
    ("frames", "0"),
    ("label_noise", "2"),
    ("keep_epochs", "3-1"),
    ("bootstrap", "perhaps"),
    ("alpha", "1.1"),
    ("method", "dkd(beta=-1)"),
    ("method", "magic"),
    ("alpha", "nan"),
    ("t_squared", "yes"),
    ("order", "random"),
    ("select_on", "train"),
    ("select_by", "luck"),
    ("margin", "0"),
    ("margin", "-0.02"),
    ("device", "tpu"),
    ("engine", "spark"),
    ("workers", "-1"),
    ("fresh", "1"),
    ("dry_run", ""),
    ("name", "../up"),
    ("image_size", "0"),
    ("channels", "2"),
    ("skip_bad", "perhaps"),
    ("upright", "6"),
    ("owner", "somebody\x00"),
    ("notes", "a\x1b[31mred"),
    ("label", "species"),
    ("group", "animal"),
    ("split", "part"),
    ("ignore", "id"),
    ("categorical", "zip"),
    ("numeric", "age"),
]


def one_line(capsys):
    """Return the one line that stands on stderr."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err.rstrip("\n")


def run_pipeline(arguments, body=lambda settings: None, entry_point="students"):
    with pytest.raises(SystemExit) as ending:
        pipeline_main(entry_point, body, arguments)
    return ending.value.code


def dashed(name):
    return "--" + name.replace("_", "-")


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, kdops.cli.app\n"
        "assert kdops.cli.app.main(['--help']) == 0\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = os.times()
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in ENTRY_POINTS)
    assert seconds < 2.0, "about 0.12 s of the processor"


def test_no_command_shows_the_help(capsys):
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kdops {__version__}\n"


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_help_lists_every_option_with_its_default(entry_point, capsys):
    assert main([entry_point, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for parameter in ENTRY_POINTS[entry_point].parameters():
        assert f"{dashed(parameter.name)} TEXT" in text
        assert not parameter.default or f"[default: {parameter.default}]" in text


def test_every_parameter_has_a_bad_value():
    assert {name for name, _ in BAD} == {p.name for p in PARAMETERS}


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_value_ends_with_one_line(name, value, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["students", dashed(name), value]) == 2
    line = one_line(capsys)
    assert line.startswith(f"kdops: {name}=")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(value.split()))
    assert shown in line
    assert not list(tmp_path.iterdir()), "no store is made for a mistake"


@pytest.mark.parametrize(("name", "value"), [pair for pair in BAD if pair[0] != "data_root"])
def test_bad_value_in_the_project_command_ends_with_one_line(name, value, capsys):
    assert run_pipeline([dashed(name), value], body=pytest.fail) == 2
    assert one_line(capsys).startswith(f"students: {name}=")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study"], ["'study'", "kdops --help"]),
        (["--quiet"], ["quiet: no such parameter", "kdops --help"]),
        (["students", "--epoch", "3"], ["epoch=3: no such parameter", "epochs", "kdops students --help"]),
        (["students", "--learning_rate", "1"], ["--learning_rate", "write --learning-rate"]),
        (["students", "--seeds"], ["--seeds", "requires an argument"]),
        (["students", "1", "2"], ["(1 2)", "kdops students --help"]),
        (["students", "--seeds", "1", "--seeds=2"], ["seeds=2", "more than once"]),
        (["students", "--seeds", "1", "--seed", "--seeds"], ["seed=--seeds"]),
        (["ui", "--port", "0"], ["port=0", "65535"]),
        (["ui", "--port", "http"], ["port=http"]),
        (["ui", "--port", "1", "--port", "2"], ["port=2", "more than once"]),
    ],
)
def test_mistake_ends_with_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    line = one_line(capsys)
    assert all(word in line for word in words), line


def test_unknown_option_that_mlflow_passes_on(capsys):
    assert run_pipeline(["--seeds", "1", "--sedes", "2"], body=pytest.fail) == 2
    assert "sedes=2: no such parameter; there are dataset, " in one_line(capsys)


def test_pipeline_gets_checked_settings_with_its_own_defaults():
    seen = []
    assert run_pipeline(["--seeds", "2", "--data-root", "", "--fresh", "true"], seen.append) == 0
    (settings,) = seen
    assert (settings.seeds, settings.data_root, settings.fresh) == (2, "", True)
    assert settings.temperatures == tuple(range(1, 30))


@pytest.mark.parametrize("name", [p.name for p in PARAMETERS if p.default in ("true", "false")])
@pytest.mark.parametrize("rest", [["--dataset", "imagefolder:x"], []])
def test_a_switch_needs_no_value(name, rest):
    seen, before = [], [] if rest else ["--dataset", "imagefolder:x"]
    for written in ([dashed(name)], [dashed(name), "true"], [f"{dashed(name)}=true"]):
        assert run_pipeline([*before, *written, *rest], seen.append) == 0
    assert seen[0] == seen[1] == seen[2]
    assert run_pipeline([*before, dashed(name), "false", *rest], seen.append) == 0
    assert seen[3] != seen[0]


def test_a_switch_before_a_file_needs_no_value(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    told = []
    for switch in (["--skip-bad"], ["--skip-bad", "true"]):
        assert main(["predict", "kdops-digits-student/1", *switch, "a.png"]) != 0
        told.append(capsys.readouterr().err)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KdopsError("no\nspace"), 1, "students: no space"),
        (UsageError("margin", "0.5", "too wide"), 2, "students: margin=0.5: too wide"),
        (KeyboardInterrupt(), 1, "students: interrupted"),
    ],
)
def test_what_a_pipeline_raises_is_told_in_one_line(raised, code, line, capsys):
    def body(settings):
        raise raised

    assert run_pipeline([], body) == code
    assert one_line(capsys) == line


def test_a_command_that_only_reads_ends_as_a_shell_expects_of_ctrl_c(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("kdops.cli.browse._last_answers", interrupt)
    assert main(["papers"]) == 130


def test_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        pipeline_main("students", lambda settings: 1 / 0, [])


temperature_text = st.one_of(st.text(), st.text(alphabet="0123456789-,. \u0663²"))


@given(temperature_text)
def test_any_text_gives_temperatures_or_a_usage_error(text):
    try:
        temperatures = parse_temperatures(text)
    except UsageError:
        return
    assert temperatures == tuple(sorted(set(temperatures)))
    assert all(0 < t <= 1000 for t in temperatures)


option_text = st.sampled_from(["hidden", "depth", "dropout", "filters", "layers", "", "x"])
value_text = st.one_of(st.integers(-1, 12).map(str), st.sampled_from(["0.1", ".000001", "0.1/0.2", "0", "/", ""]))
architecture_text = st.builds(
    lambda family, options: f"{family}({','.join(f'{name}={value}' for name, value in options)})",
    st.sampled_from(["mlp", "cnn", "CNN", ""]),
    st.lists(st.tuples(option_text, value_text), max_size=4),
)


@given(st.one_of(st.text(), st.text(alphabet="mlpcn()=,/.0123 "), architecture_text))
def test_any_text_gives_an_architecture_or_a_usage_error(text):
    try:
        architecture = parse_architecture(text)
    except UsageError:
        return
    assert parse_architecture(str(architecture)) == architecture, "its own text reads back"
    assert architecture.parameters((3, 32, 32), 43) > 0
