"""The standard streams made safe: closed, full, broken, or of an encoding that lacks a letter.

What a command does is not undone because nobody can read what it says. So a stream that can't be written goes silent,
the command comes to its own end with its own exit code, and only then is the failure told. A reader that has read
enough, as in `limpet adapter list | head -1`, is no failure.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from limpet.errors import LimpetError, UsageError

if TYPE_CHECKING:
    # collections.abc has it from Python 3.12 on
    from typing_extensions import Buffer

__all__ = ["StandardStream", "check_output_is_open", "check_words", "failure_of_output", "guarded", "prepare"]

_ESCAPE = "limpet-escape"


class StandardStream(io.FileIO):
    """The bytes of stdout or stderr; `failure` is the first error of the system, after which nothing is written."""

    failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write, or drop what can't be written."""
        while self.failure is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.failure = error
                break
            if written is not None:
                return written
            # a pipe that does not block is full: its reader is slow
            select.select([], [self], [])
        return memoryview(data).nbytes


def prepare() -> None:
    """Make the streams of this process safe; called once, before anything is opened.

    A closed stream's number is given to the null device: a database that was opened under the number of stdout would
    be written into by whoever prints.
    """
    codecs.register_error(_ESCAPE, _escape)
    closed = [number for number in range(3) if not _is_open(number)]
    for _ in closed:
        # the lowest free number is taken, so these are 0, 1 and 2 in turn
        os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None or 0 in closed:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    sys.stdout = guarded(1, sys.stdout)
    sys.stderr = guarded(2, sys.stderr)
    if 1 in closed:
        _raw(sys.stdout).failure = OSError(errno.EBADF, "it is closed")  # type: ignore[union-attr]


def guarded(number: int, like: TextIO | None) -> TextIO:
    """Return a text stream on a file descriptor that never fails, with the encoding of another stream."""
    codecs.register_error(_ESCAPE, _escape)
    raw = StandardStream(number, "w", closefd=False)
    encoding = (like.encoding if like is not None else None) or "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=_ESCAPE, line_buffering=True)


def check_output_is_open() -> None:
    """Refuse to begin where there is nowhere to answer to.

    Raises:
        LimpetError: stdout is closed.
    """
    failure = failure_of_output()
    if failure is not None and failure.errno == errno.EBADF:
        raise LimpetError(
            "Nothing was done, because stdout is closed and the answer would have nowhere to go.",
            "add > /dev/null to throw the answer away",
        )


def check_words(typed: list[str]) -> None:
    """Refuse a word of the command line that is no text: no model reads it, and no record could keep it.

    Raises:
        UsageError: A word is not UTF-8.
    """
    for place, word in enumerate(typed, 1):
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise UsageError(
                f"Word {place} of the command line is not UTF-8: {shown}",
                "write the text in UTF-8, or rename the file; iconv -f latin1 -t utf-8 turns one into the other",
            ) from None


def failure_of_output() -> OSError | None:
    """Return why stdout can't be written; None while it can, and where its reader has gone."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = _raw(sys.stdout)
    failure = None if raw is None else raw.failure
    return None if failure is None or failure.errno == errno.EPIPE else failure


def _raw(stream: TextIO) -> StandardStream | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, StandardStream) else None


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Write a letter that an encoding lacks as `\u00e9`, which JSON reads back as that letter."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end
