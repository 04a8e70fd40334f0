"""The benchmarks compare like with like, count honestly, and write their table where it belongs."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import accuracy, recorded, sweep
from benchmarks.__main__ import PARTS, main
from benchmarks.convolution import plain_epochs
from benchmarks.loops import best_batch_size, kept, normalized, plain
from benchmarks.pairs import Figure, Options, in_turn
from benchmarks.work import flops_of_forward, flops_of_student, fresh, prepare
from kdops.models.classifier import digest_of


@pytest.fixture(autouse=True)
def _drawn_images(monkeypatch):
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)


def test_fleet_and_both_loops_train_the_same():
    assert sweep.furthest(Options(), count=150) < 1e-4


def test_losses_tell_temperatures_and_seeds_of_the_comparison_apart():
    """Else the law above could hold because nothing is compared."""
    work = prepare(100, logits=True)
    first, second = kept(work, (1.0, 8.0), 32), plain(work, (1.0, 8.0), 32)
    assert first[0] != pytest.approx(first[1], rel=0.05)
    assert first == pytest.approx(second, rel=1e-4)
    assert kept(work, (1.0,), 16)[0] != pytest.approx(first[0], rel=1e-4)


def test_the_loop_of_a_teacher_starts_where_kdops_teachers_start_and_goes_on_epoch_by_epoch():
    work = prepare(20)
    recipe = work.recipe("teacher")
    start, loop = fresh(work, recipe, 0.0, "teacher"), plain_epochs(work, 10)
    first = dict(next(loop).named_parameters())
    moved = max((values - first[name]).abs().max().item() for name, values in start.named_parameters())
    # Two steps of AdamW, each by the rate at most, and a little decay.
    assert 0 < moved < 2.1 * recipe.learning_rate
    weights = {digest_of(next(loop).state_dict()) for _ in range(2)}
    assert len(weights) == 2


def test_the_time_to_an_accuracy_needs_the_real_images(capsys):
    assert list(accuracy.measure(Options())) == []
    assert "KDOPS_DATA_ROOT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("own", "plain", "ending"),
    [(0.95, 0.95, "shared"), (0.95, 0.9, "shared: more than"), (0.9, 0.95, "shared (not reached)")],
)
def test_a_time_to_an_accuracy_that_was_not_reached_is_told_as_such(own, plain, ending):
    tries = [{"seconds": 60.0, "epochs": 3, "accuracy": 0.9}, {"seconds": 120.0, "epochs": 4, "accuracy": own}]
    line = accuracy.figure(tries, {"seconds": 300.0, "epochs": 6, "accuracy": plain})
    assert line.what.endswith(ending)
    # The training that was too short is named and not counted.
    assert line.ratios == (2.5,)
    assert "3 epochs 1.0 min 0.9000, 4 epochs 2.0 min" in line.told


def test_operations_are_counted_as_torch_counts_them():
    """One training step of one image, by PyTorch's own counter."""
    work = prepare(64)
    net = fresh(work, work.recipe(), 4.0).net
    with FlopCounterMode(display=False) as counter:
        net(normalized(work)).sum().backward()
    assert counter.get_total_flops() == 64 * flops_of_student()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(normalized(work))
    assert counter.get_total_flops() == 64 * flops_of_forward()


def test_things_are_measured_in_turn():
    order = []

    def thing(name, seconds):
        return lambda: order.append(name) or seconds

    assert in_turn(3, thing("a", 1.0), thing("b", 2.0)) == [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0)]
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_the_fastest_batch_size_is_chosen():
    assert best_batch_size({64: 3.0, 256: 1.0, 1024: 2.0}) == 256


def test_a_table_replaces_what_is_between_the_markers_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{recorded.BEGIN}\nstale\n{recorded.END}\nafter\n")
    figures = [Figure("sweep", "a / b", (3.0, 1.0, 2.0), "3", "told")]
    for _ in range(2):
        recorded.record(page, figures, {"cores": 2})
    text = page.read_text()
    assert text.startswith(f"before\n{recorded.BEGIN}\n| part |")
    assert text.endswith(f"Measured on\n\n- sweep: cores 2.\n{recorded.END}\nafter\n")
    assert "| sweep | a / b | 2 | 1 to 3 | 3 | 3 | told |" in text
    assert "stale" not in text
    (tmp_path / "bare.md").write_text("nothing\n")
    with pytest.raises(ValueError, match="benchmarks: begin"):
        recorded.record(tmp_path / "bare.md", figures, {})


def test_what_is_not_measured_again_stays_on_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{recorded.BEGIN}\n{recorded.END}\n")
    first = [Figure(part, "a / b", (1.0,)) for part in ("sweep", "start", "sweep")]
    recorded.record(page, first, {"cores": 2})
    recorded.record(page, [Figure("start", "c / d", (2.0,)), Figure("memory", "e / f", (3.0,))], {"cores": 4})
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")][2:]
    told = ["sweep | a / b", "sweep | a / b", "start | c / d", "memory | e / f"]
    assert [" | ".join(row.split(" | ")[:2]).removeprefix("| ") for row in rows] == told
    assert "- sweep: cores 2.\n- start, memory: cores 4.\n" in page.read_text()


@pytest.mark.slow
def test_the_command_measures_and_prints_json(capsys):
    assert main(["--only", "scaling", "--pairs", "1", "--images", "40", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["torch"] == torch.__version__.split("+")[0] or told["machine"]["torch"] == torch.__version__
    assert len(told["figures"]) == 4
    assert all(figure["minimum"] == figure["median"] > 0 for figure in told["figures"])


def test_a_page_without_markers_is_refused_before_anything_is_measured(tmp_path, capsys):
    assert main(["--record", str(tmp_path / "missing.md")]) == 2
    assert "missing.md" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--only", "sweep,nothing"], ["--pairs", "0"], ["--images", "-1"]])
def test_a_mistake_is_told_in_one_line(capsys, wrong):
    assert main(wrong) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(part in err for part in PARTS)
