"""What the command line sets for a whole process; nothing else of kdops changes a process that it does not own."""

from __future__ import annotations

import atexit
import gc
import signal
from importlib import import_module

from kdops.utils.garbage_collection import gc_paused


def configure_process(*modules: str) -> None:
    """Import what a command needs, exempt all that is there by then from garbage collection, and make requests patient.

    An import makes hundreds of thousands of objects that stay until the process ends. The collector visits all of them
    again and again as their number grows: a fifth of the time that MLflow takes to be imported.

    Args:
        modules: what is imported, with what MLflow opens the current store with.
    """
    with gc_paused():
        for name in modules:
            import_module(name)
        store = import_module("kdops.store.database")
        address = store.store_address()
        store.import_store(address)
        if address.startswith("http"):
            import_module("kdops.store.broken_answers").ask_again()
    gc.freeze()
    # Else libraries that count what is left at the end, as Triton's bindings do, report leaks after the result.
    atexit.register(gc.unfreeze)
    # All is done by then: a second Ctrl-C would only end in a traceback from what libraries do at the end.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
