"""The ensemble as MLflow serves it. This file travels with each model and is run where the model is loaded.

So it needs nothing of kdops: the members are in ``ensemble.pt2``, a program that gives the votes' scores and the
mean probabilities of a batch.
"""

from __future__ import annotations

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

__all__ = ["VotingModel"]

VOTES = ("majority", "probability")
"""What the program gives, in this order."""

BLOCK = 512
"""Images at a time, which bounds the memory."""


class VotingModel(mlflow.pyfunc.PythonModel):
    """Members that vote."""

    def load_context(self, context):
        """Load the members."""
        self.program = torch.export.load(context.artifacts["ensemble"]).module()

    def predict(self, context, model_input: np.ndarray, params=None):
        """Give scores of classes, the highest for the class that is chosen.

        Args:
            context: unused.
            model_input: uint8 images ``[N, C, H, W]``.
            params: ``vote``: ``majority`` (the members' votes, ties by mean probability) or ``probability`` (the
                mean probability).

        Returns:
            float32 ``[N, classes]``; each row sums to 1.

        Raises:
            MlflowException: ``vote`` is something else.
        """
        vote = (params or {}).get("vote", VOTES[0])
        if vote not in VOTES:
            raise MlflowException(f"vote={vote!s}: must be one of {', '.join(VOTES)}", INVALID_PARAMETER_VALUE)
        images = torch.from_numpy(np.ascontiguousarray(model_input))
        with torch.inference_mode():
            # No images are a block of none, which the program answers in the right shape.
            blocks = [self.program(block)[VOTES.index(vote)] for block in images.split(BLOCK)]
        return torch.cat(blocks).numpy()


mlflow.models.set_model(VotingModel())
