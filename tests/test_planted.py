"""Whatever is done with a model whose program would run code, none of it runs."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow.artifacts import download_artifacts
from PIL import Image

from kdops.cli.app import main
from kdops.errors import UsageError
from kdops.packaging.folder import EXPORTED
from tests.packaging.test_program import planted

TEACHER, STUDENT, FOREIGN = "models:/kdops-digits-teacher/1", "models:/kdops-digits-student/3", "models:/foreign/1"


def plant(folder, marker, made):
    """Write a statement into the program of a model's folder, and bring the digest that tells of damage up to date."""

    def change(text):
        statement = f"__import__('pathlib').Path({str(marker)!r}).touch() or Symbol"
        changed = text.replace('"expr_str": "Symbol', f'"expr_str": {json.dumps(statement)[:-1]}')
        assert changed != text
        return changed

    made.mkdir()
    evil, described = planted(folder / EXPORTED, made, change), (folder / "MLmodel").read_text()
    before, after = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / EXPORTED, evil))
    assert before in described
    (folder / "MLmodel").write_text(described.replace(before, after))
    os.replace(evil, folder / EXPORTED)


@pytest.fixture
def marker(apart, tmp_path):
    """The file that a planted program would make; the teacher, a student and a model of others have one."""
    marker = tmp_path / "marker"
    for number, uri in enumerate((TEACHER, STUDENT)):
        model_id = apart.client.get_model_version(*uri.removeprefix("models:/").split("/")).source
        folder = Path(download_artifacts(model_id))
        assert folder.is_relative_to(apart.folder)
        plant(folder, marker, tmp_path / f"made {number}")
    shutil.copytree(folder, apart.folder / "foreign")
    apart.client.create_registered_model("foreign")
    apart.client.create_model_version("foreign", str(apart.folder / "foreign"))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("one.png")
    return marker


COMMANDS = {
    "predict": ("predict", STUDENT, "one.png"),
    "export": ("export", STUDENT, "--format", "pt2"),
    "candidates": ("candidates",),
    "promote": ("promote", STUDENT),
    "lineage": ("lineage", STUDENT),
    "gc": ("gc", "--yes"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_runs_nothing_of_it(what, marker, capsys):
    """Its weights are those that were stored, so it is loaded from them, or nothing is."""
    assert main(list(COMMANDS[what])) == 0
    assert not marker.exists()


STUDIES = {
    "source": ("students", {"source": FOREIGN}),
    "member": ("ensemble", {"model": f"{FOREIGN},models:/kdops-digits-student/2"}),
    "searched source": ("search", {"source": FOREIGN, "trials": 1, "space": "hidden=8"}),
}


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("what", STUDIES)
def test_a_study_that_names_it_is_refused(what, dry, marker, apart):
    entry_point, given = STUDIES[what]
    with pytest.raises(UsageError, match="might run code"):
        (apart.plan if dry else apart.run)(entry_point, seeds=1, **given)
    assert not marker.exists()


@pytest.mark.parametrize("entry_point", ["search", pytest.param("students", marks=pytest.mark.slow)])
def test_a_study_that_finds_it_as_its_teacher_learns_from_the_weights_alone(entry_point, marker, apart):
    more = {"trials": 1, "space": "hidden=8"} if entry_point == "search" else {"student": "mlp(hidden=9)"}
    apart.plan(entry_point, seeds=1, **more)
    apart.run(entry_point, seeds=1, **more)
    assert not marker.exists()
    assert TEACHER in {run.data.tags.get("kdops.source") for run in apart.children(apart.studies()[0])}
