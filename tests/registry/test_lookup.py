"""What is found in the registry, and the runs above a run."""

from mlflow.entities import Run, RunData, RunInfo, RunTag

from kdops.registry.lookup import with_parents
from kdops.sweeps import schema


def test_runs_above_a_run_end_at_the_top_at_what_cannot_be_read_and_where_they_lead_round():
    above = {
        "top": "",
        "part": "top",
        "model": "part",
        "orphan": "gone",
        "one": "other",
        "other": "one",
        "self": "self",
    }
    runs = {
        name: Run(
            RunInfo(name, "0", "nobody", "RUNNING", 0, None, "active"),
            RunData(tags=[RunTag(schema.PARENT, parent)] if parent else []),
        )
        for name, parent in above.items()
    }
    found = {name: [run.info.run_id for run in with_parents(run, runs.get)] for name, run in runs.items()}
    assert found["model"] == ["model", "part", "top"]
    assert found["orphan"] == ["orphan"]
    assert found["other"] == ["other", "one"]
    assert found["self"] == ["self"]
    assert list(with_parents(None, runs.get)) == []
