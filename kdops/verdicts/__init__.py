"""Verdicts: what the replicates of a study show about a property of distillation, in a word and a sentence."""

from kdops.verdicts.chain import chain_verdict
from kdops.verdicts.claims import Claim, Verdict
from kdops.verdicts.ensemble import ensemble_verdict
from kdops.verdicts.methods import methods_verdict
from kdops.verdicts.mutual import mutual_verdict
from kdops.verdicts.search import search_verdict
from kdops.verdicts.symmetry import symmetry_verdict
from kdops.verdicts.transitivity import transitivity_verdict

__all__ = [
    "Claim",
    "Verdict",
    "chain_verdict",
    "ensemble_verdict",
    "methods_verdict",
    "mutual_verdict",
    "search_verdict",
    "symmetry_verdict",
    "transitivity_verdict",
]
