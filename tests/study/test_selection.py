"""What is changed about the images is another training, and is recorded."""

from tests.conftest import FAST

TINY = {
    **FAST,
    **{"seeds": "1", "temperatures": "1", "epochs": "1"},
    **{"student": "mlp(hidden=3)", "teacher": "mlp(hidden=4)"},
}


def test_a_selection_is_another_training_and_is_recorded(store):
    def trained(**given):
        parent = store.run("students", **TINY, **given)
        return {run.data.tags["kdops.weights"]: run.data for run in store.children(parent)}

    usual = trained()
    fewer = trained(leave_out="3")
    assert {data.tags["kdops.role"] for data in fewer.values()} == {"student"}
    changed = trained(label_noise="0.3", bootstrap="true")
    assert {data.tags["kdops.role"] for data in changed.values()} == {"teacher", "student"}
    for data in changed.values():
        assert (data.params["label_noise"], data.params["bootstrap"]) == ("0.3", "true")
    assert not usual.keys() & changed.keys()
    assert not usual.keys() & fewer.keys()
