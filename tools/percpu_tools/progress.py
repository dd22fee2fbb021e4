"""Telling whoever asked how far a long scan is; nobody asks but the command line on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# What is scanned, the bytes that are done, and all of them.
Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("percpu progress listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within it, `listener` is told of every scan."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(what: str, done: int, total: int) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)
