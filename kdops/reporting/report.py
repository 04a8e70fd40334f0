"""The report of a study, from the store alone: Markdown with figures beside it, one HTML page, tables in LaTeX."""

from __future__ import annotations

from pathlib import Path

from kdops.errors import KdopsError, UsageError
from kdops.reporting.html import html
from kdops.reporting.latex import latex
from kdops.reporting.markdown import FIGURES, markdown
from kdops.reporting.report_content import report_blocks, report_figures, report_title
from kdops.tracking.stored_study import StoredStudy

__all__ = ["report_folder", "report_html", "report_latex", "report_markdown", "write_report"]


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
        study: the study.
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
