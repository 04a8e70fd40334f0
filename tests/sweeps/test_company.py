"""The units of a company: the company is the training, so what any of its nets is decides all of them."""

from types import SimpleNamespace

from kdops.config.companies import INDEPENDENT, parse_company, parse_nets
from kdops.config.settings import Settings
from kdops.sweeps import company
from kdops.sweeps.company import units_of_companies
from kdops.sweeps.unit import Context, Task

DATA = SimpleNamespace(name="toy", shape=(1, 4, 4), classes=tuple("abcd"), digest="toy")
NETS = "mlp(hidden=5)+cnn(filters=3,layers=2)"


def units(method="mutual", nets=NETS, seeds=(0, 1)):
    settings = Settings.parse("mutual")
    task = Task("peer", "transfer images", "shared", method=parse_company(method), nets=parse_nets(nets, None))
    context = Context(settings, DATA, SimpleNamespace(digest="split"), "cpu")
    return units_of_companies(task, seeds, task.method.temperature, context)


def test_each_net_is_a_unit_with_a_seed_of_its_own():
    found = units()
    assert [(unit.replicate, unit.record.seed) for unit in found] == [
        *((0, 0), (0, 1_000_000)),
        *((1, 1), (1, 1_000_001)),
    ]
    assert [unit.record.architecture.partition("(")[0] for unit in found] == ["mlp", "cnn"] * 2
    assert {(unit.record.params["company"], unit.record.params["targets"]) for unit in found} == {
        ("mutual", "labels and peers")
    }
    assert {unit.record.params["targets"] for unit in units(str(INDEPENDENT))} == {"labels"}


def test_what_any_net_is_decides_all_of_them():
    companies = [
        units(),
        units("mutual(order=sequential)"),
        units("mutual(weight=2)"),
        units(str(INDEPENDENT)),
        units(nets="mlp(hidden=5)+cnn(filters=4,layers=2)"),
        units(nets="+".join(reversed(NETS.split("+")))),
        units(nets=f"{NETS}+mlp(hidden=5)"),
    ]
    prints = [unit.fingerprint for company in companies for unit in company]
    assert len(set(prints)) == len(prints)
    assert [unit.fingerprint for unit in units()] == [unit.fingerprint for unit in units()]


def test_the_code_of_each_net_within_a_net_counts(monkeypatch):
    asked = []
    monkeypatch.setattr(company, "code_digest", lambda plugins: asked.append(plugins) or "")
    units(nets="mlp(hidden=5)+joined(student=cnn(filters=3),assistant=cnn(filters=2))")
    assert all({"kdops.models.mlp", "kdops.models.composed", "kdops.models.cnn"} <= set(plugins) for plugins in asked)
