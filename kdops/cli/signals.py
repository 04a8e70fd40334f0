"""How a process of the command line ends: by a signal, or with the process that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kdops.cli import PARENT
from kdops.errors import KdopsError
from kdops.utils.process import LAUNCHER

ENDING = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM, and SIGHUP of a closed terminal, into the ``KeyboardInterrupt`` that Ctrl-C is.

    So all of them end a study in order. After the first, further ones are ignored: Ctrl-C reaches launcher and child at
    the same time, and the launcher passes it on. A second Ctrl-C is ignored too, so that the run still gets its end; a
    third one stops at once. Outside the main thread, where Python allows no handlers, nothing changes.
    """

    def interrupt(*_: object) -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    def interrupt_from_keyboard(*_: object) -> None:
        signal.signal(signal.SIGINT, wait_once)
        interrupt()

    def wait_once(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {**dict.fromkeys(ENDING, interrupt), signal.SIGINT: interrupt_from_keyboard}
    # What is ignored stays ignored: a shell ignores SIGINT for a job in the background.
    before = {s: signal.getsignal(s) for s in handlers if signal.getsignal(s) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handlers[number])
    try:
        yield
    except KeyboardInterrupt:
        raise KdopsError("interrupted") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(seconds: float = 1.0) -> None:
    """Interrupt this process soon after the one that started it is gone, or the one that launched its study.

    MLflow does not pass SIGTERM on to the child, and cannot pass SIGKILL on; without this the child would
    train on with nobody waiting for it.

    Args:
        seconds: how often to look.
    """
    from kdops.utils.process import ProcessId

    own, launcher = ProcessId.own(), os.environ.get(LAUNCHER, "")

    def watch() -> None:
        while os.getppid() == PARENT and not own.is_dead(launcher):
            gone.wait(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    gone = threading.Event()
    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
