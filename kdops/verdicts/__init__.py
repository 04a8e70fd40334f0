"""Verdicts: what the replicates of a study show about a property of distillation, in a word and a sentence."""
