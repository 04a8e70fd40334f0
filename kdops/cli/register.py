"""The command ``register``: a network that was trained elsewhere becomes a registered model of kdops."""

from __future__ import annotations

from kdops.cli.launch import fix_environment, working_folder
from kdops.cli.signals import interruptible
from kdops.config.datasets import READING
from kdops.config.parameters import SOURCE_OPTIONS, Parameter
from kdops.config.parsing import one_of
from kdops.config.roles import BASE_ROLES
from kdops.config.settings import Settings
from kdops.config.sources import WeightsFile
from kdops.config.studies import SourceSettings
from kdops.errors import UsageError
from kdops.utils.quiet import ASKED_ONCE_MORE, server_patience

HELP = "Measure a network that was trained elsewhere on the same images, and register it as a student."
SHARED = ("dataset", "data_root", "transfer", "split_seed", "owner", "notes", *READING)
"""The parameters of a study that control which data are read, how, and how they are split."""

ARGUMENTS = ((Parameter("source", "", "a file of weights: .safetensors, .pt or .pth"), "FILE"),)
OWN = (
    *(parameter for parameter in SOURCE_OPTIONS if parameter.name != "trust"),
    Parameter("role", "student", f"what it is registered as: {', '.join(BASE_ROLES)}"),
)


def run(given: dict[str, str]) -> None:
    """Register a network; ``given`` has the text of the file and of each of ``SHARED`` and ``OWN``."""
    role = one_of("role", given.pop("role"), BASE_ROLES)
    if not given["source_model"]:
        problem = "must name the network: module:function, torchvision:NAME, or one of kdops such as mlp(hidden=50)"
        raise UsageError("source_model", "(empty)", problem)
    settings = Settings.parse("students", **given, **{role: given["source_model"]})
    assert isinstance(settings, SourceSettings)
    if not isinstance(settings.named_source, WeightsFile):
        raise UsageError("source", settings.source, "must be a file of weights: .safetensors, .pt or .pth")
    from kdops.data.dataset import load

    with interruptible(), server_patience(ASKED_ONCE_MORE):
        data = load(settings.origin, settings.data_root)
        fix_environment(working_folder())
        from kdops.study.registration import register_network

        register_network(settings, data, role)
