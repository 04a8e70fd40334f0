"""The verbs of a pipeline, and what carries them out."""
