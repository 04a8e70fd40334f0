"""The report of a study, from the store alone: Markdown with figures beside it, one HTML page, tables in LaTeX."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from kdops.errors import KdopsError, UsageError
from kdops.reporting.document import Block, Details, Figure, Heading, Paragraph, Table
from kdops.reporting.html import html
from kdops.reporting.latex import latex
from kdops.reporting.markdown import FIGURES, markdown
from kdops.reporting.tables import columns_of
from kdops.tracking.stored_study import StoredStudy
from kdops.utils.text import capitalized
from kdops.verdicts.findings import Finding, describe_findings

FORMS: Mapping[str, tuple[Callable[[float], str], str]] = {
    "accuracy": (lambda value: f"{min(max(value, 0.0), 1.0):.4f}", ""),
    "difference": (lambda value: f"{100 * value:+.2f}", " points"),
    "part": (lambda value: f"{100 * value:+.2f}", " %"),
    "share": (lambda value: f"{100 * min(max(value, 0.0), 1.0):.1f}", " %"),
}
"""By the unit of a finding, how a number of it is written and what follows it."""

INTERVALS = (
    "Intervals beside accuracies are at 95 % by Student's t over the replicates, whole chains trained again with "
    "another seed; those of verdicts are at 90 %. They cover the chance of training, on this one split and "
    "test set: not other splits, other data or other settings."
)


def report_markdown(study: StoredStudy) -> str:
    """Return the report as Markdown; its figures are files beside it, see :func:`write_report`."""
    return markdown(report_blocks(study))


def report_html(study: StoredStudy) -> str:
    """Return the report as one HTML page with its figures inside."""
    return html(report_title(study), report_blocks(study))


def report_latex(study: StoredStudy) -> str:
    """Return the tables of the report as LaTeX, for the package booktabs."""
    return latex(report_blocks(study), f"{study.study}-{study.run_id[:8]}")


def report_folder(run_id: str) -> str:
    """Name the folder of a report where the caller names none."""
    return f"report-{run_id[:8]}"


def write_report(study: StoredStudy, folder: Path, *, with_latex: bool = False) -> tuple[Path, ...]:
    """Write the report into a folder, which is made where it is missing.

    Args:
        folder: where to; files of a former report are written over, others are left alone.
        with_latex: also write the tables as ``report.tex``.

    Returns:
        What was written: ``report.md``, ``report.html``, perhaps ``report.tex``, then the figures.

    Raises:
        UsageError: there is a file in the place of the folder.
        KdopsError: nothing can be written there.
    """
    files: dict[str, bytes] = {
        "report.md": report_markdown(study).encode(),
        "report.html": report_html(study).encode(),
        **({"report.tex": report_latex(study).encode()} if with_latex else {}),
        **{f"{FIGURES}/{figure.name}": figure.image for figure in report_figures(study)},
    }
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except (FileExistsError, NotADirectoryError):
        raise UsageError("output", folder, "must be a folder, or nothing yet; this is a file") from None
    except OSError as error:
        raise KdopsError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return tuple(folder / name for name in files)


def report_blocks(study: StoredStudy) -> tuple[Block, ...]:
    """Return the blocks of the report of a study."""
    return tuple(_blocks(study))


def report_title(study: StoredStudy) -> str:
    """Return the report's title: what the study is about, and on which data."""
    dataset = str(study.data.get("name", ""))
    return capitalized(study.title if dataset in study.title else f"{study.title}: {dataset}")


def report_figures(study: StoredStudy) -> tuple[Figure, ...]:
    """Return the figures of a study and its parts, by number, under file names that are safe and different."""
    images: dict[str, bytes] = {}
    for source in (*study.parts, study):
        for path, image in source.figures.items():
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(path).name).lstrip(".-") or "figure.png"
            if images.get(name, image) != image:
                name = f"{source.study}-{name}"
            images[name] = image
    return tuple(Figure(name, _caption(name), images[name]) for name in sorted(images, key=_number_of_figure))


def _blocks(study: StoredStudy) -> Iterator[Block]:
    yield Heading(report_title(study), level=1)
    yield Paragraph(_subject(study))
    if study.unread:
        yield Paragraph(f"There is nothing to read of {', '.join(study.unread)}.", lead="Not complete.")
    if study.status not in ("FINISHED", "RUNNING"):
        yield Paragraph(f"The study ended as {study.status}; this is what it left.", lead="Not finished.")
    if before := [part.study for part in study.whole() if part.status == "FINISHED" and not part.has_answer]:
        missing = f"{', '.join(before)}: the store has no answer.json, as in versions of kdops before it"
        yield Paragraph(f"{missing}; the verdict and the metrics are shown, no table of models.", lead="No answer.")
    yield from _answers(study)
    yield from _findings(study)
    if figures := report_figures(study):
        yield Heading("Figures")
        yield from figures
    yield from _closing(study)
    yield from _statistics(study)
    yield from _basis(study)


def _subject(study: StoredStudy) -> str:
    """Return in a sentence what was studied: data, transfer, seeds, run."""
    settings, data = study.settings, study.data
    parts = [f"kdops {study.study}" + (f" on {data['name']}" if data.get("name") else "")]
    if "transfer" in settings:
        parts.append(f"transfer {settings['transfer']}")
    if {"seed", "seeds"} <= settings.keys():
        first, count = int(settings["seed"]), int(settings["seeds"])
        parts.append(f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1} ({count} replicates)")
    if "select_on" in settings:
        parts.append(f"chosen on {settings['select_on']}")
    return f"{', '.join(parts)}. Run {study.run_id}, started {study.started:%Y-%m-%d %H:%M} UTC."


def _answers(study: StoredStudy) -> Iterator[Block]:
    answered = [part for part in study.whole() if part.answer.word or part.answer.sentences]
    if not answered:
        return
    yield Heading("Answers" if study.parts else "Answer")
    for part in answered:
        word, sentences = part.answer.word, part.answer.sentences
        # A study of several parts shows the main answer of each part here and the rest beside the part's table.
        shown = sentences[:1] if study.parts else sentences
        name = f"{capitalized(part.study)}: " if study.parts else ""
        first = _without(word, shown[0]) if shown else ""
        yield Paragraph(first, lead=capitalized(f"{name}{word}.") if word else name.rstrip())
        yield from (Paragraph(sentence) for sentence in shown[1:])


def _without(word: str, sentence: str) -> str:
    """Return a sentence without the verdict that it begins with, where that stands before it already."""
    lead = f"{word}: "
    return capitalized(sentence[len(lead) :]) if word and sentence.lower().startswith(lead.lower()) else sentence


def _findings(study: StoredStudy) -> Iterator[Block]:
    found = study.findings()
    if not found:
        return
    yield Heading("The paper and these measurements")
    yield Paragraph(describe_findings(found))
    yield Table(
        "Statements of the paper and what was measured: mean, interval, replicates",
        ("statement", "paper", "measured", "replicates?"),
        tuple((finding.what, finding.paper, _measured(finding), finding.answer) for finding in found),
    )
    sentences = tuple(Paragraph(f.sentence, lead=f"{capitalized(f.what)}: {f.answer}.") for f in found if f.sentence)
    if sentences:
        yield Details("Each statement in a sentence", sentences)


def _closing(study: StoredStudy) -> Iterator[Block]:
    if any(part.answer.rows for part in study.whole()):
        yield Heading("Models")
    for part in study.whole():
        if not part.answer.rows:
            continue
        if study.parts:
            yield Heading(capitalized(part.study), level=3)
            yield from (Paragraph(sentence) for sentence in part.answer.sentences[1:])
        columns = columns_of(part.answer.rows)
        yield Table(
            f"{capitalized(part.study)}: test accuracy, mean over temperatures and replicates",
            ("models", *columns),
            tuple((row.what, *(cell(row) for cell in columns.values())) for row in part.answer.rows),
            numbers=tuple(range(1, len(columns) + 1)),
        )


def _statistics(study: StoredStudy) -> Iterator[Block]:
    for part in study.whole():
        answer, tables = part.answer, []
        if answer.claims:
            cells = tuple((claim.name, claim.word) for claim in answer.claims)
            tables.append(Table(f"{capitalized(part.study)}: claims", ("claim", "answer"), cells))
        if answer.statistics:
            cells = tuple((name, f"{value:.6g}") for name, value in answer.statistics.items())
            caption = f"{capitalized(part.study)}: statistics, accuracies and differences as fractions"
            tables.append(Table(caption, ("statistic", "value"), cells, numbers=(1,)))
        if tables:
            yield Details(f"Statistics: {part.study}", tuple(tables))


def _basis(study: StoredStudy) -> Iterator[Block]:
    yield Heading("What this rests on")
    yield Paragraph(INTERVALS)
    basis = study.basis or next((part.basis for part in study.parts if part.basis), "")
    if basis:
        yield Paragraph(basis)
    yield from _models(study)
    yield from _named("Data", study.data)
    yield from _named("Split: images of each part", study.split)
    yield from _named("Settings", study.settings)
    for part in study.parts:
        own = {name: value for name, value in part.settings.items() if study.settings.get(name) != value}
        yield from _named(f"Settings of {part.study} that differ", own)
    yield from _named("Versions", study.versions)
    yield from _named("Machine", study.machine)


def _models(study: StoredStudy) -> Iterator[Block]:
    """Count the models by role, and how many of them were there before."""
    results = study.results
    if not len(results) or not {"role", "reused"} <= set(results.columns):
        return
    reused = results["reused"].astype(str).str.lower() == "true"
    counts = [(str(role), reused[rows.index]) for role, rows in results.groupby("role", sort=False)]
    rows = [(role, str(len(old)), str(int((~old).sum())), str(int(old.sum()))) for role, old in counts]
    if len(rows) > 1:
        rows.append(("all", str(len(results)), str(int((~reused).sum())), str(int(reused.sum()))))
    yield Table("Models", ("role", "models", "trained", "reused"), tuple(rows), numbers=(1, 2, 3))


def _named(caption: str, values: Mapping[str, object]) -> Iterator[Block]:
    if values:
        yield Table(caption, ("name", "value"), tuple((name, text) for name, text in flat(values)))


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as names and texts, ``recipes.teacher.epochs``; lists and truth values as JSON has them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in value)
        else:
            yield f"{prefix}{name}", (value or "(empty)") if isinstance(value, str) else json.dumps(value)


def _measured(finding: Finding) -> str:
    """Return what was measured in its unit: accuracies as fractions, differences in points, shares in percent."""
    measured = finding.measured
    if measured is None:
        return "-"
    form, unit = FORMS[finding.unit]
    known = math.isfinite(measured.low)
    interval = f"{100 * measured.level:g} %: {form(measured.low)} to {form(measured.high)}, " if known else ""
    return f"{form(measured.mean)}{unit} ({interval}n = {measured.n})"


def _caption(name: str) -> str:
    """Make a caption of a figure's file name: ``figure-1-students.png`` is figure 1, students."""
    match = re.fullmatch(r"figure-(\d+)-(.+)", stem := PurePosixPath(name).stem)
    return f"Figure {match[1]}: {match[2].replace('-', ' ')}" if match else capitalized(stem.replace("-", " "))


def _number_of_figure(name: str) -> tuple[float, str]:
    match = re.search(r"figure-(\d+)", name)
    return (float(match[1]) if match else float("inf")), name
