"""The names of a model's metrics, as its run, its version and every table have them."""

from __future__ import annotations

TRAIN_LOSS = "train_loss"
TRAIN_KL = "train_kl"
TRAIN_SECONDS = "train_seconds"
TRAIN_PEAK_BYTES = "train_peak_bytes"
VAL_ACCURACY = "val_accuracy"
VAL_NLL = "val_nll"
VAL_BALANCED_ACCURACY = "val_balanced_accuracy"
VAL_BASELINE = "val_baseline"
"""What always answering the largest class reaches on validation; known where classes differ much in size."""

TEST_ACCURACY = "test_accuracy"
TEST_BALANCED_ACCURACY = "test_balanced_accuracy"
TEST_NLL = "test_nll"
SOURCE_AGREEMENT = "source_agreement"
DEAD_UNITS = "dead_units"
"""Share of the hidden units that no validation image activates."""

METHOD_PARAMETERS = "method_parameters"
METHOD_BYTES = "method_bytes"
