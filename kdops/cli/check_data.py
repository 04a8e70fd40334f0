"""The command ``check-data``: what a data set holds, how it is split, and which images are in two parts."""

from __future__ import annotations

from kdops.config.datasets import READING

HELP = "Report what a data set holds, its split, and copies of images across the parts."
SHARED = ("dataset", "data_root", "transfer", "split_seed", "unlabeled", *READING)
"""The parameters of a study that control which data are read, how, and how they are split."""

OWN = ARGUMENTS = ()


def run(given: dict[str, str]) -> None:
    """Report what a data set holds; ``given`` has the text of each of ``SHARED``."""
    from kdops.config.settings import Settings

    settings = Settings.parse("students", **given)
    from kdops.data.dataset import load
    from kdops.data.description import described
    from kdops.data.splits import make_split

    data = load(settings.origin, settings.data_root)
    for line in described(data, make_split(data, settings.transfer, settings.split_seed)):
        print(line)
