"""The command ``outputs``: what a model gives for every image of a data set, as a file to distill from."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from kdops.cli.browse import open_store
from kdops.config.datasets import READING
from kdops.config.parameters import SOURCE_OPTIONS, Parameter
from kdops.config.settings import Settings
from kdops.config.sources import NUMPY, SAFETENSORS, OutputsFile, SourceModels
from kdops.config.studies import SourceSettings
from kdops.config.uris import ModelUri, check_model
from kdops.errors import UsageError

HELP = "Write a model's outputs for a data set to a file, which source takes in place of the model."
SHARED = ("dataset", "data_root", *READING)
"""The parameters of a study that control which data are read, and how."""

ARGUMENTS = (
    (Parameter("source", "", "models:/NAME/VERSION, NAME/VERSION, or a file of weights with --source-model"), "MODEL"),
)
OWN = (*SOURCE_OPTIONS, Parameter("output", "outputs.npz", f"the file, {NUMPY} or {SAFETENSORS}"))


def run(given: dict[str, str]) -> None:
    """Write the outputs; ``given`` has the text of the model and of each of ``SHARED`` and ``OWN``."""
    path = Path(os.path.expanduser(given.pop("output")))
    if path.suffix.lower() not in (NUMPY, SAFETENSORS) or not path.parent.is_dir():
        problem = f"must be a file that ends with {NUMPY} or {SAFETENSORS}, in a folder that is there"
        raise UsageError("output", path, problem)
    if ModelUri.TYPED.fullmatch(given["source"]):
        given["source"] = str(check_model(given["source"], "source"))
    settings = Settings.parse("students", **given)
    assert isinstance(settings, SourceSettings)
    source = settings.named_source
    if isinstance(source, OutputsFile) or (isinstance(source, SourceModels) and len(source.parts) > 1):
        raise UsageError("source", settings.source, "must be one model, or a file of weights with source_model")
    from kdops.data.dataset import load

    data = load(settings.origin, settings.data_root)
    with open_store() if isinstance(source, SourceModels) else nullcontext():
        from kdops.study.sources import store_outputs

        store_outputs(settings, data, path)
    print(f"{path}: outputs for {len(data.labels):,} {data.unit} of {data.name}, {len(data.classes)} classes")
