"""Runs a pipeline in a container: ``python entry.py pipelines.teacher --dataset digits --data-root ''``.

MLflow's kubernetes backend quotes each word of a command as for a shell and then runs it without one, so that an empty
value arrives as two quotation marks. Here such a word is what it was; all others stay as they are.
"""

import shlex
import sys
from runpy import run_module


def unquoted(word: str) -> str:
    """Give the word that a shell would have read."""
    try:
        words = shlex.split(word)
    except ValueError:
        return word
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == word else word


if __name__ == "__main__":
    _, module, *arguments = map(unquoted, sys.argv)
    sys.argv = [module, *arguments]
    run_module(module, run_name="__main__", alter_sys=True)
