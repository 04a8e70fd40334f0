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
    lacking = [data for weights, data in fewer.items() if weights not in usual]
    assert {data.tags["kdops.role"] for data in lacking} == {"student"}
    assert {data.params["leave_out"] for data in lacking} == {"3"}
    assert not any("leave_out" in data.params for data in usual.values())
    changed = trained(label_noise="0.3", bootstrap="true")
    assert {data.tags["kdops.role"] for data in changed.values()} == {"teacher", "student"}
    for data in changed.values():
        assert (data.params["label_noise"], data.params["bootstrap"]) == ("0.3", "true")
    assert not usual.keys() & changed.keys()
    # The teacher that was trained on labels with noise is no source of a study of the labels as they are.
    store.run("distill", **TINY, transfer="disjoint")
    teacher = next(weights for weights, data in usual.items() if data.tags["kdops.role"] == "teacher")
    distilled = [run.data for run in store.children() if run.data.params.get("temperature") == "1"]
    sources = {data.tags["kdops.source"] for data in distilled if "label_noise" not in data.params}
    assert {store.weights_of(uri) for uri in sources} == {teacher}
