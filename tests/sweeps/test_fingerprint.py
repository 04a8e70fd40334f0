"""The fingerprint's code: a core that all models share, and the files of a model's own method and families."""

import ast
import inspect
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from types import SimpleNamespace

import pytest

from kdops.config.architectures import FAMILIES, FunctionNet, TorchvisionNet
from kdops.config.method_specs import MethodSpec
from kdops.config.methods import METHODS, parse_method
from kdops.config.recipe_settings import SETTINGS
from kdops.config.settings import Settings
from kdops.sweeps import fingerprint
from kdops.sweeps import unit as unit_module
from kdops.sweeps.fingerprint import (
    CONFIG,
    ROOMS,
    code_digest,
    core_files,
    digest_code,
    helpers_of,
    plugin_files,
    whole_digest,
)
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context, Task, units_of

CODE = {
    f"{room}/{one.name}": one.read_text(encoding="utf-8")
    for room in ROOMS
    for one in files("kdops").joinpath(room).iterdir()
    if one.name.endswith(".py")
}


@pytest.fixture
def tree(monkeypatch):
    """kdops's files as a mapping that a test may change."""
    settings = [f"{CONFIG}/{one.name}" for one in files("kdops").joinpath(CONFIG).iterdir() if one.name.endswith(".py")]
    code = {name: (files("kdops") / name).read_text(encoding="utf-8") for name in (*CODE, *core_files(), *settings)}
    names = ("plugin_files", "core_files", "helpers_of", "code_digest", "_digest_of", "_imports", "_used_by_core")
    caches = [getattr(fingerprint, name) for name in names]

    class Folder:
        def __init__(self, path=""):
            self.path, self.name = path, path.rpartition("/")[2]

        def joinpath(self, name):
            return Folder(f"{self.path}/{name}".strip("/"))

        __truediv__ = joinpath

        def iterdir(self):
            return [Folder(name) for name in code if name.startswith(f"{self.path}/")]

        def read_text(self, encoding):
            return code[self.path]

    def forget():
        for one in caches:
            one.cache_clear()

    monkeypatch.setattr(fingerprint, "files", lambda package: Folder())
    forget()
    yield SimpleNamespace(code=code, forget=forget)
    monkeypatch.undo()
    forget()


def context(split="split", device="cpu", **given):
    settings = Settings.parse("students", **given)
    data = SimpleNamespace(name="toy", shape=(1, 8, 8), classes=tuple("abcd"))
    return Context(settings, data, SimpleNamespace(digest=split), device)


def fingerprints(**given):
    """The fingerprints of a student at T = 0 and T = 4, distilled from a convolutional teacher."""
    here = context(**given)
    source = Model("teacher", 0, 0.0, "teacher", "labels", "models:/x/1", weights="w", params={"architecture": "cnn"})
    task = Task("student", "transfer images", "shared", method=here.settings.method)
    found = units_of(task, {0: source}, (0.0, 4.0), here.trains_together(task), here)
    return {one.record.temperature: one.fingerprint for one in found}


def test_every_file_of_the_rooms_is_core_a_plug_in_or_a_helper_of_one():
    helpers = {name for plugin in plugin_files() for name in helpers_of(plugin)}
    assert set(CODE) == {name for name in {*core_files(), *plugin_files(), *helpers} if name.partition("/")[0] in ROOMS}
    assert {name for name in helpers if name.partition("/")[0] not in ROOMS} == {"config/tree.py"}
    assert not set(core_files()) & plugin_files()
    assert not helpers & {*core_files(), *plugin_files()}
    assert plugin_files() <= set(CODE)


SETTLED = {
    **dict.fromkeys(
        ("config/architectures.py", "config/companies.py", "config/methods.py", "config/method_specs.py"),
        "a table and its parser: the text of what was chosen, with all options, is in the fingerprint",
    ),
    **dict.fromkeys(
        (
            *("config/augmentation.py", "config/image_selection.py", "config/recipes.py"),
            *("config/options.py", "config/specs.py"),
        ),
        "reads and writes texts of settings, and each setting is in the fingerprint",
    ),
    **dict.fromkeys(("config/settings.py", "sweeps/model.py"), "gives seeds and temperatures, which are in it"),
    "config/roles.py": "gives the names of streams, which are in it",
    "config/engines.py": "says where is trained, not what",
    **dict.fromkeys(("data/dataset.py", "data/splits.py"), "gives images and rows, whose digest is in it"),
    **dict.fromkeys(
        ("data/cache.py", "utils/memory.py", "utils/garbage_collection.py", "utils/files.py"),
        "says where bytes are kept",
    ),
    **dict.fromkeys(("sweeps/metrics.py", "sweeps/params.py", "sweeps/fingerprint.py"), "names what is there"),
    **dict.fromkeys(("errors.py", "utils/progress.py", "utils/quiet.py"), "tells what happens"),
    **dict.fromkeys(("utils/imports.py", "utils/process.py", "utils/gpus.py"), "finds code, processes and devices"),
    "utils/peak_memory.py": "measures memory",
    "utils/versions.py": "that of PyTorch is in the fingerprint",
}
"""Files of other rooms that the code of models imports and that are no part of its digest, and why."""


def imported_by(name):
    """Yield the files of kdops that define what a file imports from it, also within functions."""
    for node in ast.walk(ast.parse((files("kdops") / name).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("kdops"):
            continue
        for one in node.names:
            found = getattr(import_module(node.module), one.name, None)
            if inspect.ismodule(found):
                yield file_of(found.__name__)
            elif inspect.isclass(found) or inspect.isfunction(found):
                yield file_of(found.__module__)
            else:
                yield file_of(node.module)


def file_of(module):
    return module.removeprefix("kdops.").replace(".", "/") + ".py"


@pytest.mark.parametrize("name", ["", *sorted(plugin_files())])
def test_what_model_code_imports_from_other_rooms_counts_or_is_settled_by_values_that_do(name):
    core, others = {*core_files()}, {*plugin_files()}
    here = {name, *helpers_of(name)} if name else {one for one in core if not one.startswith((CONFIG, "sweeps"))}
    unseen = {
        (one, other)
        for one in here
        for other in imported_by(one)
        if other not in {*core, *here, *SETTLED} and not (other in others and other.partition("/")[0] in ROOMS)
    }
    assert not unseen, "import it in the plug-in alone, or name it in OTHERS; or say in SETTLED which value is it"


def test_what_is_settled_is_imported_and_the_class_of_each_family_counts():
    every = {*core_files(), *plugin_files(), *(one for plugin in plugin_files() for one in helpers_of(plugin))}
    used = {other for one in every for other in imported_by(one)}
    assert set(SETTLED) <= used
    for family in (*FAMILIES.values(), TorchvisionNet, FunctionNet):
        builder = file_of(family.spec.place.partition(":")[0])
        assert file_of(family.__module__) in {*core_files(), *helpers_of(builder)}


def test_a_changed_file_of_settings_that_only_a_family_imports_retrains_its_models_alone(tree):
    networks = ("tree(depth=2)", "mlp(hidden=8)", "cnn(filters=4)")
    before = {student: fingerprints(student=student) for student in networks}
    workers = whole_digest()
    tree.code["config/tree.py"] += "\nCHANGED = True\n"
    tree.forget()
    assert workers != whole_digest()
    assert {s for s in networks if fingerprints(student=s)[4.0] != before[s][4.0]} == {"tree(depth=2)"}
    assert {s for s in networks if fingerprints(student=s)[0.0] != before[s][0.0]} == {"tree(depth=2)"}


def test_a_plug_in_uses_no_other():
    modules = {name.removesuffix(".py").replace("/", "."): name for name in plugin_files()}
    for name in plugin_files():
        for module, other in modules.items():
            assert other == name or f"kdops.{module} " not in CODE[name], f"{name} uses {other}: move what they share"


@pytest.mark.parametrize("name", core_files())
def test_the_code_of_each_core_file_counts(name, tree):
    before = code_digest(), fingerprints(method="dkd")
    tree.code[name] += "\nCHANGED = True\n"
    tree.forget()
    assert code_digest() != before[0]
    assert all(after != old for after, old in zip(fingerprints(method="dkd").values(), before[1].values(), strict=True))


def test_a_new_file_of_a_method_retrains_nothing(tree, monkeypatch):
    before = {name: fingerprints(method=name) for name in ("logits", "dkd", "rkd")}
    tree.code["distillation/new.py"] = "class New: ..."
    spec = MethodSpec("kdops.distillation.new:New", "nothing", "nobody")
    monkeypatch.setattr(fingerprint, "METHODS", {**METHODS, "new": spec})
    tree.forget()
    assert {name: fingerprints(method=name) for name in ("logits", "dkd", "rkd")} == before


@pytest.mark.parametrize("name", ["training/training_pass.py", "distillation/dkd.py", "distillation/relations.py"])
def test_a_worker_must_share_the_code_of_every_method(name, tree):
    before = whole_digest()
    tree.code[name] += "\nCHANGED = True\n"
    tree.forget()
    assert whole_digest() != before


LEARNED = ("logits", "dkd", "rkd", "pkt", "cc", "shuffled(cc)")


def test_a_new_method_with_a_helper_retrains_nothing(tree, monkeypatch):
    before = {name: fingerprints(method=name) for name in LEARNED}
    tree.code["distillation/new.py"] = "from kdops.distillation.new_parts import part"
    tree.code["distillation/new_parts.py"] = "from kdops.models import new_deeper\npart = new_deeper"
    tree.code["models/new_deeper.py"] = ""
    spec = MethodSpec("kdops.distillation.new:New", "nothing", "nobody")
    monkeypatch.setattr(fingerprint, "METHODS", {**METHODS, "new": spec})
    tree.forget()
    assert {name: fingerprints(method=name) for name in LEARNED} == before
    own = code_digest(("kdops.distillation.new",))
    tree.code["models/new_deeper.py"] = "CHANGED = True"
    tree.forget()
    assert code_digest(("kdops.distillation.new",)) != own


def test_a_changed_helper_retrains_the_models_of_methods_that_import_it(tree):
    before = {name: fingerprints(method=name) for name in LEARNED}
    tree.code["distillation/relations.py"] += "\nCHANGED = True\n"
    tree.forget()
    after = {name: fingerprints(method=name) for name in LEARNED}
    changed = {(n, t) for n in before for t in (0.0, 4.0) if before[n][t] != after[n][t]}
    assert changed == {("pkt", 4.0), ("cc", 4.0), ("shuffled(cc)", 4.0)}


def test_what_the_core_begins_to_import_counts_for_all(tree):
    assert "distillation/maps.py" not in core_files()
    tree.code["training/trainer.py"] += "\ndef late():\n    from kdops.distillation import maps\n"
    tree.forget()
    assert "distillation/maps.py" in core_files()


def test_a_changed_method_retrains_its_own_models_only(tree):
    before = {name: fingerprints(method=name) for name in ("logits", "dkd", "rkd")}
    tree.code["distillation/dkd.py"] += "\nCHANGED = True\n"
    tree.forget()
    after = {name: fingerprints(method=name) for name in ("logits", "dkd", "rkd")}
    assert {(n, t) for n in before for t in (0.0, 4.0) if before[n][t] != after[n][t]} == {("dkd", 4.0)}


@pytest.mark.parametrize(
    ("name", "student", "changes"),
    [
        ("models/mlp.py", "mlp(hidden=8)", {0.0, 4.0}),
        ("models/torchvision.py", "mlp(hidden=8)", set()),
        # Its source is a convolutional network.
        ("models/cnn.py", "mlp(hidden=8)", {4.0}),
        ("models/cnn.py", "cnn(filters=4)", {0.0, 4.0}),
        ("models/mlp.py", "cnn(filters=4)", set()),
    ],
)
def test_a_changed_family_retrains_its_own_models_and_those_that_learn_from_them(name, student, changes, tree):
    before = fingerprints(student=student)
    tree.code[name] += "\nCHANGED = True\n"
    tree.forget()
    after = fingerprints(student=student)
    assert {t for t in before if before[t] != after[t]} == changes


def test_hard_labels_have_one_fingerprint_whatever_the_method():
    methods = ("logits", "dkd", "rkd", "dkd(beta=2)")
    found = [fingerprints(method=name) for name in methods]
    assert len({one[0.0] for one in found}) == 1
    assert len({one[4.0] for one in found}) == len(methods)


def test_a_method_is_told_apart_by_its_full_text():
    """A default that changes later does not make stored models those of the new one."""
    assert parse_method("dkd").full_text == "dkd(alpha=1,beta=8,warmup=0.08)"
    before = fingerprints(method="dkd")
    assert fingerprints(method="dkd(beta=8)") == before


SOURCE = Model("teacher", 0, 0.0, "teacher", "labels", "models:/x/1", weights="w", params={"architecture": "cnn"})
TRANSFER = {"role": "student", "part": "transfer images", "order": "shared"}


def unit_of(
    seed=0, temperature=4.0, source=SOURCE, beside=(), task=TRANSFER, predictions=False, registered="", **given
):
    """Return one unit of a sweep, distilled at ``temperature`` with those of the temperatures ``beside`` it."""
    here = context(**given)
    what = Task(**task, predictions=predictions, registered=registered, method=here.settings.method)
    found = units_of(what, {seed: source}, (temperature, *beside), here.trains_together(what), here)
    return next(one for one in found if one.record.temperature == temperature)


OTHER_SETTINGS = {
    "weight_decay": "0.3",
    "optimizer": "adam",
    "schedule": "cosine",
    "label_smoothing": "0.1",
    "train_temperature": "20",
    "class_weights": "balanced",
    "normalize": "unit",
    "augment": "crop=4 flip=true",
    "views": "4",
    "init": "he",
}
"""Another value of each setting of a recipe that has a default of its own."""


def test_every_setting_of_a_recipe_is_asked_about():
    assert {*OTHER_SETTINGS, "epochs", "batch_size", "learning_rate"} == SETTINGS.keys()


DECIDES = {
    "the split": {"split": "another"},
    "the seed": {"seed": 1},
    "the temperature": {"temperature": 5.0},
    "hard labels": {"temperature": 0.0},
    "hard predictions": {"temperature": 0.0, "predictions": True},
    "the source": {"source": replace(SOURCE, weights="others")},
    "no source": {"source": None},
    "the part": {"task": {**TRANSFER, "part": "teacher images"}},
    "the order": {"task": {**TRANSFER, "order": "own"}},
    "the random streams": {"task": {**TRANSFER, "role": "middle"}},
    "the architecture": {"student": "mlp(hidden=5)"},
    "the epochs": {"epochs": "student=7"},
    "the batch size": {"batch_size": "17"},
    "the learning rate": {"learning_rate": "0.017"},
    "the method": {"method": "dkd"},
    "the weight of the soft term": {"alpha": "0.7"},
    "T squared": {"t_squared": "false"},
    **{f"the {name} {text}": {name: text} for name, text in OTHER_SETTINGS.items()},
}
"""What decides a student's weights, beside code, versions and hardware: one change a line."""


def test_each_thing_that_decides_the_weights_gives_a_fingerprint_of_its_own():
    units = {"nothing": unit_of(), **{name: unit_of(**change) for name, change in DECIDES.items()}}
    for key in ("fingerprint", "training"):
        found = {name: getattr(unit, key) for name, unit in units.items()}
        assert len(set(found.values())) == len(found), found
    assert unit_of() == unit_of()


@pytest.mark.parametrize(
    ("name", "changed"),
    [("process_threads", 3), ("installed_version", "9.9"), ("streams_of", {"init": "others"})],
)
def test_versions_threads_and_the_names_of_streams_count(name, changed, monkeypatch):
    before = unit_of()
    monkeypatch.setattr(unit_module, name, lambda *_: changed)
    after = unit_of()
    assert (after.fingerprint != before.fingerprint, after.training != before.training) == (True, True)


def test_what_is_trained_beside_counts_in_the_fingerprint_alone():
    alone, accompanied = unit_of(), unit_of(beside=(5.0,))
    assert alone.fingerprint != accompanied.fingerprint
    assert alone.training == accompanied.training
    assert unit_of(beside=(6.0,)).fingerprint != accompanied.fingerprint
    # Convolutional networks are trained one after another, so nothing beside them counts.
    assert unit_of(student="cnn(filters=4)").fingerprint == unit_of(student="cnn(filters=4)", beside=(5.0,)).fingerprint


def test_names_and_what_was_measured_do_not_count():
    renamed = replace(SOURCE, uri="models:/y/9", run_id="r", metrics={"val_accuracy": 0.5}, chain="several")
    assert unit_of(source=renamed).fingerprint == unit_of().fingerprint
    assert unit_of(margin="0.05", select_on="test").fingerprint == unit_of().fingerprint


def test_code_counts_and_words_do_not():
    code = '"""A module."""\n\n\ndef double(x):\n    """Twice."""\n    return 2 * x\n'
    same = 'def double( x ):  # a comment\n    "Other words."\n    return (2 * x)'
    assert digest_code([code]) == digest_code([same])
    for other in (code.replace("2 *", "3 *"), code.replace("double", "triple"), code + "\n\ny = 1\n"):
        assert digest_code([code]) != digest_code([other])
    # A text that does something is code.
    assert digest_code(["x = 'a'"]) != digest_code(["x = 'b'"])
    assert digest_code(["x = 1", "y = 2"]) != digest_code(["y = 2", "x = 1"])
