"""Standard output and error of the command line, which never end a command."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let nothing fail for want of a reader, of room or of a character while a command runs.

    Where a pipe's reader or the terminal is gone, or a disk is full, the rest of the output is dropped; characters that
    the encoding of the output lacks are escaped. Standard streams that are closed become an empty file.
    """
    _open_standard_files()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = during = (_lasting(before[0]), _lasting(before[1]))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in set(during) - set(before):
            stream.flush()
            if isinstance(stream, _LastingOutput):
                stream.detach()


def _open_standard_files() -> None:
    """Open what is closed of the files 0 to 2, for the processes that are started too.

    Else the next file that is opened would be one of them, and get what is printed. SQLite closes a database that it
    opened as one of them, and with it loses its locks: another process then removes the log that is in use.
    """
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)


def _lasting(stream: TextIO) -> TextIO:
    # Anything else, such as a notebook's, is left as it is; so is None, where there is no such output at all.
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _LastingOutput):
        return stream
    stream.flush()
    return _LastingOutput(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace",
        newline="\n" if os.linesep == "\n" else None,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _LastingOutput(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Let what is not written yet, and all that follows, go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self.fileno())
        finally:
            os.close(nowhere)
