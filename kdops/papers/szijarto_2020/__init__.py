"""What Szijártó, Lehotay-Kéry and Kiss (2020) found, beside what was measured.

The paper is "Experimental study of some properties of knowledge distillation". A number replicates where the mean over
replicates is within the margin of it, on the paper's data only. A claim in words is answered on any data, the replicate
as the unit; fewer than three replicates leave it open.
"""

from kdops.papers.szijarto_2020.nets import student_findings, symmetry_findings, teacher_findings, transitivity_findings
from kdops.papers.szijarto_2020.statements import STATEMENTS
from kdops.papers.szijarto_2020.votes import ensemble_findings

__all__ = [
    "STATEMENTS",
    "ensemble_findings",
    "student_findings",
    "symmetry_findings",
    "teacher_findings",
    "transitivity_findings",
]
