"""How a process of the command line ends: by a signal, or with the process that started it."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kdops.cli import PARENT
from kdops.errors import KdopsError
from kdops.utils.process import LAUNCHER

ENDING = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)

SOON = 0.05
"""Seconds until an interrupt that Python dropped is raised again."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM, and SIGHUP of a closed terminal, into the ``KeyboardInterrupt`` that Ctrl-C is.

    So all of them end a study in order. After the first, further ones are ignored: Ctrl-C reaches launcher and child at
    the same time, and the launcher passes it on. A second Ctrl-C is ignored too, so that the run still gets its end; a
    third one stops at once. Outside the main thread, where Python allows no handlers, nothing changes.

    Python drops what is raised in a finalizer or while it collects garbage, the interrupt too, if the signal arrives
    there. It is then raised again, or nothing but SIGKILL would end the study.
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

    def interrupt_again(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            hook(dropped)
            return
        for number in before:
            signal.signal(number, handlers[number])
        # Here it would be dropped once more.
        waiting.append(threading.Timer(SOON, _signal_main_thread, [next(iter(before))]))
        waiting[-1].start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {**dict.fromkeys(ENDING, interrupt), signal.SIGINT: interrupt_from_keyboard}
    # What is ignored stays ignored: a shell ignores SIGINT for a job in the background.
    before = {s: signal.getsignal(s) for s in handlers if signal.getsignal(s) != signal.SIG_IGN}
    hook, waiting = sys.unraisablehook, list[threading.Timer]()
    for number in before:
        signal.signal(number, handlers[number])
    sys.unraisablehook = interrupt_again
    try:
        yield
    except KeyboardInterrupt:
        raise KdopsError("interrupted") from None
    finally:
        for timer in waiting:
            timer.cancel()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_main_thread(number: signal.Signals) -> None:
    """Send a signal to the main thread, which wakes it where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


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
