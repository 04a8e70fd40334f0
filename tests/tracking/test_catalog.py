"""Models of a store: which are listed, in what order, and what came from what."""

import csv
import io
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from mlflow.entities import LoggedModelInput, LoggedModelOutput

from kdops.errors import UsageError
from kdops.reporting.lineage import ALONE, ancestors, descendants, lineage_dot, lineage_lines
from kdops.reporting.tables import choose, models_csv, show_models
from kdops.sweeps import schema
from kdops.tracking.catalog import Catalog, data_of, find_registered
from kdops.tracking.relatives import Relatives, made_from, read_relatives
from tests.shelves import Shelf, family, lines_of, read_catalog


@pytest.fixture(scope="module")
def shelf(empty_database, tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("family")).open(empty_database)


@pytest.fixture(scope="module")
def uris(shelf):
    return family(shelf)


@pytest.fixture(scope="module")
def catalog(shelf, uris):
    return read_catalog(shelf.client)


@pytest.mark.timeout(100)
def test_the_data_of_a_model_are_not_looked_for_in_a_circle(fork):
    """Only a run above knows them, unless somebody made it lead back."""
    model = find_registered(fork.client, "kdops-digits-student/1")
    assert data_of(fork.client, model) == {"dataset": "digits"}
    fork.client.set_tag(model.run_id, schema.PARENT, model.run_id)
    assert data_of(fork.client, model) == {}


def tree(shelf, uri, everything=False):
    relatives = read_relatives(shelf.client, uri)
    return ancestors(relatives, everything), descendants(relatives, everything)


def one_of(catalog, uri):
    (found,) = (model for model in catalog.models if model.uri == uri)
    return found


def all_nodes(node):
    yield node
    for other in node.nodes:
        yield from all_nodes(other)


def test_finished_models_of_every_experiment_are_listed_while_registered(catalog, uris):
    listed = {model.uri for model in choose(catalog)}
    assert uris["far"] in listed, "another experiment of the store counts too"
    assert uris["gone"] not in listed, "its version was deleted"
    assert "models:/kdops-digits-student/11" not in listed, "its run failed"
    assert len(listed) == 2 + 7 + 1 + 1 + 1 + 1 + 1


def test_the_best_by_validation_comes_first_and_what_is_unknown_last(catalog):
    accuracies = [model.val_accuracy for model in choose(catalog)]
    assert accuracies == sorted(accuracies, reverse=True)
    unknown = replace(catalog.models[0], uri="models:/kdops-digits-x/1", metrics={})
    assert choose(Catalog((unknown, *catalog.models), {}))[-1] == unknown


def test_equal_accuracies_are_ordered_as_the_champion_is_chosen(catalog):
    model = catalog.models[0]
    tied = [
        replace(model, uri=f"models:/kdops-a-b/{n}", metrics={"val_accuracy": 0.5, "val_nll": loss})
        for n, loss in ((10, 0.2), (9, 0.2), (11, 0.1))
    ]
    chosen = choose(Catalog(tuple(tied), {}))
    assert [one.name for one in chosen] == ["kdops-a-b/11", "kdops-a-b/9", "kdops-a-b/10"]


def test_models_of_uneven_data_stand_among_others_by_their_balanced_accuracy(catalog):
    uneven = {"val_accuracy": 0.99, "val_nll": 1.0, "val_balanced_accuracy": 0.6, "val_baseline": 0.98}
    even = [{"val_accuracy": 0.7, "val_nll": 1.0}, {"val_accuracy": 0.5, "val_nll": 1.0}]
    models = [
        replace(catalog.models[0], uri=f"models:/kdops-{n}/1", metrics=metrics)
        for n, metrics in enumerate([even[1], uneven, even[0]])
    ]
    chosen = choose(Catalog(tuple(models), {}))
    assert [one.name for one in chosen] == ["kdops-2/1", "kdops-1/1", "kdops-0/1"]
    assert any("balanced where classes differ" in line for line in lines_of(show_models, chosen, width=200))
    assert not any("balanced" in line for line in lines_of(show_models, chosen[::2], width=200))


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"role": "student"}, 9),
        ({"role": "boss"}, 0),
        ({"dataset": "digits"}, 14),
        ({"dataset": "gtsrb"}, 0),
        ({"source": "labels"}, 2),
        ({"source": "models:/kdops-digits-teacher/1"}, 8),
        ({"source": "kdops-digits-teacher/1", "role": "middle"}, 1),
        ({"source": "models:/kdops-digits-student@champion"}, 1),
        ({"source": "models:/kdops-digits-student/77"}, 0),
    ],
)
def test_every_condition_holds(catalog, asked, count):
    assert len(choose(catalog, **asked)) == count


def test_a_member_is_a_source_of_its_ensemble(catalog, uris):
    for member in one_of(catalog, uris["ensemble"]).sources:
        assert uris["ensemble"] in {model.uri for model in choose(catalog, source=member)}


def test_csv_has_all_models_with_full_numbers(catalog, uris):
    models = choose(catalog)
    rows = list(csv.DictReader(io.StringIO(models_csv(models))))
    assert [row["model"] for row in rows] == [model.uri for model in models]
    assert [float(row["val_accuracy"]) for row in rows] == [model.val_accuracy for model in models]
    by_model = {row["model"]: row for row in rows}
    assert by_model[uris["ensemble"]]["source"].split() == list(one_of(catalog, uris["ensemble"]).sources)
    assert by_model[uris["ensemble"]]["temperature"] == "", "what there is not is left empty"
    assert [row["model"] for row in rows if row["champion"] == "true"] == [uris["champion"]]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 130, 200])
def test_in_a_terminal_each_model_is_one_whole_line(catalog, width):
    models = choose(catalog)
    lines = lines_of(show_models, models, width=width, terminal=True)
    table = [line for line in lines if line.startswith("kdops-")]
    assert [line.split()[0] for line in table] == [model.name for model in models]
    assert not any("…" in line for line in lines)
    assert all(f"{model.test_accuracy:.4f}" in line for model, line in zip(models, table, strict=True))
    if width >= 80:
        assert max(map(len, table)) <= width
    left_out = re.search("also shows (.*)\\.", lines[-1])
    assert (left_out is None) == ("source" in lines[0].split() and "role" in lines[0].split())


def test_a_file_gets_every_column_whatever_the_width(catalog, uris):
    lines = lines_of(show_models, choose(catalog), width=40)
    assert lines[0].split() == [
        "model",
        "role",
        "chain",
        "T",
        "seed",
        "method",
        "transfer",
        "architecture",
        "parameters",
        "val",
        "test",
        "source",
    ]
    (line,) = (line for line in lines if line.startswith(uris["champion"].removeprefix("models:/") + " "))
    cells = "kdops-digits-student/7 * student teacher>student 7 0 - shared - 610 0.9700 0.8700 kdops-digits-teacher/1"
    assert " ".join(line.split()) == cells
    assert any("7 members" in line for line in lines)


def test_a_copy_is_refused_with_the_version_that_its_run_made(empty_database, tmp_path):
    shelf = Shelf(tmp_path).open(empty_database)
    uri = shelf.model("teacher", "teacher")
    copy = shelf.client.copy_model_version(uri, "kdops-digits-copy")
    with pytest.raises(UsageError, match=f"is a copy of {uri}"):
        find_registered(shelf.client, f"{copy.name}/{copy.version}")
    unfinished = shelf.model("teacher", "teacher", status="FAILED")
    with pytest.raises(UsageError, match="its run did not finish or was deleted"):
        find_registered(shelf.client, unfinished)
    assert find_registered(shelf.client, uri).uri == uri


@pytest.mark.parametrize("text", ["models:/kdops-digits-student@champion", "kdops-digits-student@champion"])
def test_an_alias_names_a_model(shelf, uris, text):
    assert read_relatives(shelf.client, text).model.uri == uris["champion"]


@pytest.mark.parametrize(
    "text", ["models:/kdops-digits-teacher/1", "kdops-digits-teacher/1", " kdops-digits-teacher/1"]
)
def test_a_version_names_a_model(shelf, uris, text):
    assert read_relatives(shelf.client, text).model.uri == uris["teacher"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["model=(empty)", "models:/NAME/VERSION"]),
        ("kdops-digits-teacher", ["models:/NAME@ALIAS"]),
        ("kdops-digits-teacher/0", ["NAME/VERSION"]),
        ("x' OR 'a'='a/1", ["NAME/VERSION"]),
        ("kdops-digits-teacher/9", ["no such version", "1 to 2"]),
        ("kdops-digits-boss/1", ["no such version", "kdops-digits-teacher"]),
        ("kdops-digits-teacher@champion", ["alias", "kdops-digits-student@champion"]),
    ],
)
def test_a_model_that_is_not_there_is_told_with_what_is(shelf, uris, text, words):
    with pytest.raises(UsageError) as told:
        read_relatives(shelf.client, text)
    assert all(word in str(told.value) for word in words), told.value


def test_the_chain_goes_up_to_the_labels_and_the_data(shelf, uris):
    up, down = tree(shelf, uris["via"])
    names = [node.text.split()[0] for node in all_nodes(up)]
    assert names == ["kdops-digits-student/8", "kdops-digits-middle/1", "kdops-digits-teacher/1", "labels"]
    assert "labels of digits" in list(all_nodes(up))[-1].text
    assert not down.nodes
    assert list(lineage_lines(up, down))[-1] == "└── nothing was distilled from it"


def test_every_node_tells_temperature_seed_and_accuracies(shelf, uris):
    text = tree(shelf, uris["far"])[0].text
    assert text == "kdops-digits-student/9  teacher>student  T=2.5 seed=1  val 0.9100  test 0.8000"


def test_a_deleted_version_does_not_cut_the_lineage(shelf, uris):
    up, _ = tree(shelf, uris["grand"])
    nodes = list(all_nodes(up))
    assert "its version was deleted" in nodes[1].text
    assert [m.uri for node in nodes for m in node.models] == [uris[n] for n in ("grand", "gone", "far", "other")]
    _, down = tree(shelf, uris["other"])
    assert uris["grand"] in {model.uri for node in all_nodes(down) for model in node.models}


def test_many_alike_are_one_group_with_count_and_range(shelf, uris):
    _, down = tree(shelf, uris["teacher"])
    (group,) = (node for node in down.nodes if len(node.models) > 1)
    assert len(group.models) == 7 > ALONE
    assert (
        group.text
        == "7 x student  teacher>student  T=1 to 7 seed=0  val 0.9100 to 0.9700  test 0.8100 to 0.8700"
        + ("  champion among them")
    )
    assert [model.uri for node in group.nodes for model in node.models] == [uris["ensemble"]]
    assert "from 7 of 7" in group.nodes[0].text


def test_all_shows_every_model_by_itself(shelf, uris):
    _, down = tree(shelf, uris["teacher"], everything=True)
    assert all(len(node.models) == 1 for node in all_nodes(down))
    grouped = {m.uri for node in all_nodes(tree(shelf, uris["teacher"])[1]) for m in node.models}
    assert {m.uri for node in all_nodes(down) for m in node.models} == grouped, "grouping hides no model"


def test_an_ensemble_came_from_its_members(shelf, uris):
    up, _ = tree(shelf, uris["ensemble"])
    (members,) = up.nodes
    assert len(members.models) == 7
    assert up.text.startswith("kdops-digits-ensemble/1  teacher>student>ensemble  7 members seed=0  val 0.9600")
    assert [node.text.split()[0] for node in members.nodes] == ["kdops-digits-teacher/1"]
    alone = tree(shelf, uris["ensemble"], everything=True)[0]
    assert len(alone.nodes) == 7
    assert sum("labels" in node.text for node in all_nodes(alone)) == 1, "what was shown is not shown again"


def test_a_source_that_is_no_model_of_the_store_is_named(catalog):
    alien = replace(catalog.models[0], uri="models:/kdops-a-b/1", source="models:/resnet/3 ...")
    up = ancestors(Relatives(alien, {alien.run_id: ("models:/resnet/3",)}, {}))
    assert [node.text for node in up.nodes] == [
        "resnet/3  (no model of this store)",
        "and others, which the store does not list",
    ]


def test_the_graph_has_each_model_once_and_arrows_from_source_to_what_was_made(shelf, uris):
    up, down = tree(shelf, uris["far"])
    text = lineage_dot(up, down)
    names = {m[2]: m[1] for m in re.finditer(r'(n\d+) \[label="(\S+?)[\\ ]', text)}
    assert len(names) == text.count("label=")
    chain = [
        "labels",
        "kdops-digits-teacher/2",
        "kdops-digits-student/9",
        "kdops-digits-student/10",
        "kdops-digits-reversed/1",
    ]
    for source, made in pairwise(chain):
        assert f"{names[source]} -> {names[made]};" in text
    assert text.count("->") == len(chain) - 1
    assert text.count("{") == text.count("}") == 1


def test_the_graph_quotes_its_labels(catalog):
    odd = replace(catalog.models[0], chain='a"b\\c', source="labels")
    relatives = Relatives(odd, {}, {})
    assert 'a\\"b\\\\c' in lineage_dot(ancestors(relatives), descendants(relatives))


def test_a_name_that_was_made_again_has_no_part_in_what_was_made_from_the_one_before(empty_database, tmp_path):
    shelf = Shelf(tmp_path).open(empty_database)
    old = shelf.model("teacher", "teacher", seed=0)
    students = [shelf.model("student", "teacher>student", old, temperature=t) for t in range(1, 9)]
    shelf.client.delete_registered_model("kdops-digits-teacher")
    del shelf.models["kdops-digits-teacher"]
    new = shelf.model("teacher", "teacher", seed=5)
    late = shelf.model("student", "teacher>student", new, temperature=9)
    assert new == old == "models:/kdops-digits-teacher/1"
    _, down = tree(shelf, new)
    assert [model.uri for node in down.nodes for model in node.models] == [late]
    up, _ = tree(shelf, students[0])
    assert "seed=0" in up.nodes[0].text
    assert "its version was deleted" in up.nodes[0].text
    assert "seed=5" in tree(shelf, late)[0].nodes[0].text
    runs = {model.run_id for model in read_catalog(shelf.client).models if model.uri == late}
    assert made_from(shelf.client, new) == runs


def test_the_logged_models_of_a_run_decide_where_a_uri_was_given_twice(empty_database, tmp_path):
    """A study that began with one teacher may go on when another one has its URI."""
    shelf = Shelf(tmp_path).open(empty_database)
    old = shelf.model("teacher", "teacher", seed=0)
    shelf.client.delete_registered_model("kdops-digits-teacher")
    del shelf.models["kdops-digits-teacher"]
    shelf.model("teacher", "teacher", seed=5)
    student = shelf.model("student", "teacher>student", old, temperature=1)
    by_seed = {model.seed: model.run_id for model in read_catalog(shelf.client).models if model.role == "teacher"}
    student_run = read_relatives(shelf.client, student).model.run_id
    logged = shelf.client.create_logged_model(shelf.experiment, source_run_id=by_seed[0])
    for run_id in (by_seed[0], student_run):
        shelf.client.update_run(run_id, status="RUNNING")
    shelf.client.log_outputs(by_seed[0], [LoggedModelOutput(logged.model_id, step=0)])
    shelf.client.log_inputs(student_run, models=[LoggedModelInput(logged.model_id)])
    for run_id in (by_seed[0], student_run):
        shelf.client.set_terminated(run_id, "FINISHED")
    assert "seed=0" in tree(shelf, student)[0].nodes[0].text
    assert not tree(shelf, old)[1].nodes, "that is the later teacher"


def test_a_run_that_cannot_be_read_is_told_and_left_out_of_the_lineage_of_others(empty_database, tmp_path):
    shelf = Shelf(tmp_path).open(empty_database)
    teacher = shelf.model("teacher", "teacher")
    students = [shelf.model("student", "teacher>student", teacher, temperature=t) for t in (1, 2)]
    damaged = read_relatives(shelf.client, students[0]).model.run_id
    shelf.client.set_tag(damaged, "kdops.fleet", "0,a")
    with pytest.raises(UsageError, match=f"run {damaged} cannot be read"):
        read_relatives(shelf.client, students[0])
    assert [node.models[0].uri for node in tree(shelf, teacher)[1].nodes] == students[1:]
