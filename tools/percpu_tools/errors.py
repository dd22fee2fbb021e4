"""The one exception that the package raises on purpose."""

from __future__ import annotations

from collections.abc import Sequence


class PercpuError(Exception):
    """A wrong input, said in one line; `fix` lists the likely mends, most likely first."""

    def __init__(self, message: str, fix: str | Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.fix: tuple[str, ...] = (fix,) if isinstance(fix, str) else tuple(fix)

    def __str__(self) -> str:
        if not self.fix:
            return self.message
        return f"{self.message}; {'; or '.join(self.fix)}"


class MissingToolError(PercpuError):
    """A compiler or linker that is not there; it concerns only those who ask for what is made by it."""
