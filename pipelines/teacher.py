"""The teacher: a convolutional net trained on labels, once for each replicate (section 4 of the paper).

    mlflow run . -e teacher -P dataset=gtsrb

Cost on two cores: seconds on digits, about ten minutes a replicate on GTSRB with ``transfer=shared``.
"""

from kdops.cli import pipeline_main
from kdops.closing import summarise
from kdops.config import Settings


def main(settings: Settings) -> None:
    """Run the study."""
    from kdops.study import open_study

    with open_study("teacher", settings) as study:
        teachers = study.train("teacher")
        study.conclude("teacher", rows=lambda: [summarise("teacher", teachers)])


if __name__ == "__main__":
    pipeline_main("teacher", main)
