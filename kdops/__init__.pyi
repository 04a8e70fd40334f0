"""The public names of kdops, as type checkers read them."""

from kdops.config.settings import Settings as Settings
from kdops.distillation.method import Method as Method
from kdops.study.open import open_study as open_study
from kdops.study.study import Study as Study
from kdops.sweeps.model import Model as Model
from kdops.sweeps.model import Sweep as Sweep
from kdops.verdicts.claims import Claim as Claim
from kdops.verdicts.claims import Verdict as Verdict

__version__: str
