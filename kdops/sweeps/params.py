"""The names of the parameters that the run of a model has; a table, a version and a report use them too."""

from __future__ import annotations

# What it is.
DATASET = "dataset"
ARCHITECTURE = "architecture"
PARAMETERS = "parameters"
FLOPS = "flops"
CODE = "code"
"""Digest of the code of a network that the caller wrote."""
LEARNER = "student_architecture"
"""Of a model that is more than the student: the student in it, as the role's recipe has it."""
TEMPERATURE = "temperature"
SEED = "seed"

# What it learned.
TARGETS = "targets"
METHOD = "method"
ALPHA = "alpha"
T_SQUARED = "t_squared"
COMPANY = "company"
NETS = "nets"

# How it was trained.
EPOCHS = "epochs"
BATCH_SIZE = "batch_size"
LEARNING_RATE = "learning_rate"
ORDER = "order"
TRANSFER = "transfer"
LEAVE_OUT = "leave_out"
FRAMES = "frames"
LABEL_NOISE = "label_noise"
BOOTSTRAP = "bootstrap"
UNLABELED = "unlabeled"
"""How many images without labels it learned from beside the labeled ones."""
SPLIT_SEED = "split_seed"
KEEP_EPOCHS = "keep_epochs"
"""The epochs whose weights are artifacts of the run; they decide nothing."""
STREAMS = "streams"
"""The role whose random streams it was trained with, where that is not its own."""

# What an ensemble is made of.
MEMBERS = "members"
VOTE = "vote"
