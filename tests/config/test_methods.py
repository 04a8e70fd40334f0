"""Which networks a method takes: their taps are known, and checked, before anything is trained."""

import pytest

from kdops.config.settings import Settings
from kdops.errors import UsageError

SMALL = {"student": "cnn(filters=8,layers=2)"}
OTHERS = {"student": "torchvision:resnet18", "teacher": "torchvision:vgg11"}


@pytest.mark.parametrize(
    ("entry", "given", "told"),
    [
        ("students", {"method": "attention(at=stage1:bogus)", **SMALL}, "the source cnn.* has no tap bogus; it has "),
        ("students", {"method": "fitnet(at=stage1,hint=stage9)", **SMALL}, "the source .* has no tap stage9"),
        ("students", {"method": "attention", **SMALL, "teacher": "mlp"}, "source mlp.* has no tap stage1"),
        ("students", {"method": "attention(at=embedding)", **SMALL}, "embedding is a vector"),
        ("students", {"method": "vid(at=stage1:embedding)", **SMALL}, "embedding is a vector"),
        ("students", {"method": "fitnet(at=stage1,hint=embedding)", **SMALL}, "stage1 and embedding cannot be"),
        ("students", {"method": "pair(attention(at=stage9))", **SMALL}, r"the student joined\(.* has no tap stage9"),
        ("students", {"method": "standardize(attention)", **SMALL}, "attention compares no logits"),
        ("students", {"method": "fitnet", **SMALL, "epochs": "student=1"}, "epochs=1: must be at least 2"),
        ("chain", {"method": "simkd", "steps": "teacher>student:mlp(hidden=9)"}, "the student mlp.* has no map"),
        ("chain", {"method": "attention", "steps": "teacher>middle:mlp>student:cnn"}, "the middle mlp.* has no tap"),
        (
            "chain",
            {"method": "attention(at=stage2:stage3)", "steps": "teacher:cnn(layers=2)>middle:cnn>student:cnn"},
            "the source cnn.* has no tap stage3",
        ),
        ("methods", {"methods": "attention(at=stage1:bogus)", **SMALL}, "the source .* has no tap bogus"),
    ],
)  # fmt: skip
def test_networks_without_what_a_method_needs_are_refused_at_once(entry, given, told):
    with pytest.raises(UsageError, match=told):
        Settings.parse(entry, **given)


@pytest.mark.parametrize(
    ("entry", "given"),
    [
        ("methods", {"methods": "attention(at=stage4:stage3)", "student": "cnn(layers=4)", "teacher": "cnn(layers=3)"}),
        ("students", {"method": "attention", **SMALL, "epochs": "student=1"}),
        ("students", {"method": "pair(attention(at=stage3:stage1))", **SMALL}),
        ("students", {"method": "attention(at=layer1:bogus)", **OTHERS}),
        ("students", {"method": "attention(at=stage1:bogus)", **SMALL, "source": "models:/m/1"}),
        ("students", {"method": "fitnet(at=embedding,hint=embedding)", **SMALL}),
        ("chain", {"method": "attention", "steps": "teacher>middle:cnn>student:cnn"}),
    ],
)  # fmt: skip
def test_networks_with_what_a_method_needs_are_taken(entry, given):
    assert Settings.parse(entry, **given)
