"""Verdicts: what the replicates of a study say about a property of distillation, in a word and a sentence."""

from kdops.chain_verdict import chain_verdict
from kdops.claims import Claim, Verdict
from kdops.ensemble_verdict import ensemble_verdict
from kdops.search_verdict import search_verdict
from kdops.symmetry_verdict import symmetry_verdict
from kdops.transitivity_verdict import transitivity_verdict

__all__ = [
    "Claim",
    "Verdict",
    "chain_verdict",
    "ensemble_verdict",
    "search_verdict",
    "symmetry_verdict",
    "transitivity_verdict",
]
