"""The card of a registered model: the description on the registry's page, for readers new to the model."""

from __future__ import annotations

from kdops.config.criterion import Criterion
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.data.tabular.rows import Encoding
from kdops.sweeps.metrics import TEST_ACCURACY, VAL_ACCURACY
from kdops.sweeps.model import LABELS, Model
from kdops.sweeps.params import UNLABELED
from kdops.utils.text import markdown_text
from kdops.verdicts.intervals import wilson_interval

NAMED = 12
"""Members and classes that are named; MLflow keeps 5,000 characters."""

DIGEST = 12


def card(record: Model, data: Dataset, split: Split) -> str:
    """Write the card of a stored model as Markdown.

    It states what the model was made from and on what data, how good it is on validation and test, with intervals over
    images, how large it is, and how to load and to serve it.
    """
    parts = [
        f"**{_made(record)}**",
        "\n".join(_accuracies(record, data, split)),
        "\n".join(f"- {line}" for line in _facts(record, data, split)),
        _use(record, data),
    ]
    return "\n\n".join(parts)


def _made(record: Model) -> str:
    """Return in a sentence what a model is and what it was made from."""
    role = markdown_text(record.role).capitalize()
    sources = record.source.split()
    if record.source == LABELS:
        return f"{role} trained on labels, replicate {record.seed}"
    if record.role == "ensemble":
        more = f" and {len(sources) - NAMED} more" if len(sources) > NAMED else ""
        members = "1 member" if len(sources) == 1 else f"{len(sources)} members that vote"
        return f"Ensemble of {members}: {', '.join(map(_short, sources[:NAMED]))}{more}"
    how = "trained on the hard predictions of" if record.temperature == 0 else "distilled from"
    at = "" if record.temperature == 0 else f" at T = {record.temperature:g}"
    return f"{role} {how} {' '.join(map(_short, sources))}{at}, replicate {record.seed}"


def _accuracies(record: Model, data: Dataset, split: Split) -> list[str]:
    chosen = Criterion(record.select_on)
    lines = [f"| {data.unit} | accuracy | 95 % interval over {data.unit} | how many |", "|---|---:|---:|---:|"]
    for what, metric, rows in (
        ("validation", VAL_ACCURACY, split.validation),
        ("test", TEST_ACCURACY, split.test),
    ):
        what += " (chosen on these)" * (metric == chosen.metric)
        low, high = wilson_interval(record.metrics[metric], len(rows))
        lines.append(f"| {what} | {record.metrics[metric]:.4f} | {low:.4f} to {high:.4f} | {len(rows)} |")
    copies = (
        f" {data.unit.capitalize()} that show one thing are near-copies, so the intervals are too narrow."
        * data.has_tracks
    )
    warning = ["", f"**Chosen on the test {data.unit}: its test accuracy is too high for new ones.**"]
    lines += warning if record.select_on == "test" else []
    return [*lines, "", f"The intervals (Wilson) are of this one model; another seed gives another one.{copies}"]


def _facts(record: Model, data: Dataset, split: Split) -> list[str]:
    sizes = [f"`{record.architecture}`"] if record.architecture else []
    sizes += [] if record.parameters is None else [f"{record.parameters:,} parameters"]
    sizes += [] if record.flops is None else [f"{record.flops:,} floating point operations {example_of(data.encoding)}"]
    classes = ", ".join(_cut(name, 40) for name in data.classes[:NAMED]) + ", ..." * (len(data.classes) > NAMED)
    more = int(record.params.get(UNLABELED, 0))
    beside = [f"Learned from {more:,} images without labels too"] if more else []
    return [
        f"Size: {', '.join(sizes)}",
        *beside,
        f"Data: {markdown_text(data.name)}, digest {data.digest[:DIGEST]}, {_cut(data.notes, 500)}",
        f"Split {split.digest[:DIGEST]}, transfer {split.mode}; chain {markdown_text(record.chain)}",
        f"Takes {_taken(data)}, knows {len(data.classes)} classes: {classes}",
    ]


def example_of(encoding: object) -> str:
    """Return what a model takes, with its article: a row where there is an encoding of tables, else an image."""
    return "a row" if encoding else "an image"


def _taken(data: Dataset) -> str:
    if not data.encoding:
        return f"uint8 images [N, {', '.join(map(str, data.shape))}]"
    columns = [column.name for column in Encoding.from_json(data.encoding).columns]
    more = f" and {len(columns) - NAMED} more" * (len(columns) > NAMED)
    return f"rows with the columns {', '.join(_cut(name, 40) for name in columns[:NAMED])}{more}"


def _use(record: Model, data: Dataset) -> str:
    uri = f"models:/{record.model_id}"
    raw = "scores" if record.role == "ensemble" else "logits"
    given = data.unit
    return f"""Load it (the version of this page, `models:/NAME/VERSION`, does as well):

```python
import mlflow
model = mlflow.pyfunc.load_model("{uri}")
model.predict({given}, params={{"output": "classes"}})  # or "probabilities", "{raw}"
```

Serve it, then post `{{"inputs": [...], "params": {{"output": "classes"}}}}` to `/invocations`:

```
mlflow models serve --env-manager local -m {uri}
```"""


def _cut(text: str, characters: int) -> str:
    return markdown_text(text if len(text) <= characters else f"{text[:characters]}...")


def _short(uri: str) -> str:
    return markdown_text(uri.removeprefix("models:/"))
