"""Statements of published papers about distillation, as values; the table of papers is :mod:`kdops.config.papers`."""

from kdops.config.paper import Paper
from kdops.config.papers import DEFAULT, PAPERS
from kdops.papers.paper import Statement, interpreted

__all__ = ["DEFAULT", "PAPERS", "Paper", "Statement", "interpreted"]
