"""Errors that a user can act on: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class CastkdError(Exception):
    """Base of every error that castkd raises on purpose; its text is one line for people.

    Tools print the text without a traceback and exit with status 2.
    """


class ConfigError(CastkdError, ValueError):
    """A config key or value is wrong; the text names the dotted key."""


class DataError(CastkdError, ValueError):
    """An image, annotation or split is wrong; the text names the file."""


class CheckpointError(CastkdError, RuntimeError):
    """A checkpoint is missing, damaged, unsafe or of another model; the text names the file."""


class TrainingError(CastkdError, RuntimeError):
    """Training cannot go on (a loss is not finite, a teacher is below its floor)."""


def one_line(error: CastkdError) -> str:
    """Return the line that was meant for people.

    A data-loading process hands its error over as a traceback in text; the line is its last one.
    """
    last = (str(error).strip().splitlines() or [''])[-1]
    return last.removeprefix(f'{type(error).__module__}.{type(error).__qualname__}: ')


def in_words(error: BaseException) -> str:
    """Return kind and text of another library's error, which may have several lines, in one."""
    # The text of a KeyError is the representation of its argument.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return f'{type(error).__name__}: {" ".join(text.split())}'


@contextmanager
def in_one_line(prefix: str = '') -> Iterator[None]:
    """Shorten castkd's errors inside the context to the line that was meant for people.

    Args:
        prefix: Put in front of it.
    """
    try:
        yield
    except CastkdError as error:
        error.args = (prefix + one_line(error),)
        raise


def near_names(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Suggest known names close to a wrong one.

    Args:
        name: The name that was not found.
        known: The names that exist.
        limit: At most this many suggestions.

    Returns:
        A clause such as ``did you mean 'a' or 'b'?``, ``known: 'a', 'b'`` when nothing is close,
        or ``there are none``.
    """
    known = sorted(set(known))
    if not known:
        return 'there are none'
    close = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
    if close:
        return 'did you mean ' + ' or '.join(repr(item) for item in close) + '?'
    shown = ', '.join(repr(item) for item in known[:20])
    return f'known: {shown}' + (', ...' if len(known) > 20 else '')
