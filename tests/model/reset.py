"""The protocol by which one area is reset while others run (percpu_cpp/src/area.cpp, reset_area).

CPU 0 resets the area of CPU 1, which has left, from the template, word by word, and then CPU 1 comes back. CPU 0 and 2
update their own copies meanwhile, and CPU 2 reads that of CPU 1. A word is a pair of halves, which are the same in
every value that is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

WORDS = 2
PRISTINE, DIRTY, USED = (0, 0), (9, 9), (1, 1)
RESETTER, AWAY, READER = range(3)


class State(NamedTuple):
    template: tuple[tuple[int, int], ...]
    areas: tuple[tuple[tuple[int, int], ...], ...]
    copied: int  # halves of words of the area that is reset
    constructed: int
    back: bool
    updates: tuple[int, ...]  # that CPU 0 and CPU 2 have still to make
    reads: int
    fault: str | None


@dataclass(frozen=True)
class Reset:
    """`fault` is one of FAULTS, or "" for the protocol as it is."""

    updates: int = 2
    reads: int = 2
    fault: str = ""

    FAULTS = ("from area 0", "by halves", "of the next area", "back too early", "no constructors")

    def initial(self) -> State:
        pristine, dirty = (PRISTINE,) * WORDS, (DIRTY,) * WORDS
        areas = ((USED, PRISTINE), dirty, pristine)
        return State(pristine, areas, 0, 0, False, (self.updates, 0, self.updates), self.reads, None)

    def is_end(self, state: State) -> bool:
        return state.back and not any(state.updates) and state.reads == 0

    def wrong(self, state: State) -> str | None:
        if state.template != (PRISTINE,) * WORDS:
            return "the template is written"
        for cpu in (RESETTER, READER):
            made = self.updates - state.updates[cpu] + (1 if cpu == RESETTER else 0)
            if state.areas[cpu][0] != (made, made) or state.areas[cpu][1] != PRISTINE:
                return f"the reset disturbs CPU {cpu}, whose area holds {state.areas[cpu]} after {made} updates"
        return state.fault

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        halves = 2 * WORDS
        if state.copied < halves:
            yield self._copy(state)
        elif state.constructed == 0 and self.fault != "no constructors":
            yield "CPU 0: runs the constructors in the area of CPU 1", state._replace(constructed=1)
        if not state.back and (self._is_reset(state) or self.fault == "back too early"):
            pristine = state.areas[AWAY] == (PRISTINE,) * WORDS and state.constructed == 1
            fault = None if pristine else f"CPU 1 comes back to an area that is not pristine: {state.areas[AWAY]}"
            yield "CPU 1: comes back", state._replace(back=True, fault=fault)
        for cpu in (RESETTER, READER):
            if state.updates[cpu] > 0:
                value = state.areas[cpu][0][0] + 1
                left = tuple(left - (number == cpu) for number, left in enumerate(state.updates))
                yield f"CPU {cpu}: updates its copy", _store(state, cpu, 0, (value, value))._replace(updates=left)
        if state.reads > 0:
            for place, word in enumerate(state.areas[AWAY]):
                torn = None if word[0] == word[1] else f"CPU 2 reads half a word: {word}"
                yield f"CPU 2: reads word {place} of CPU 1, {word}", state._replace(reads=state.reads - 1, fault=torn)

    def _is_reset(self, state: State) -> bool:
        return state.copied == 2 * WORDS and (state.constructed == 1 or self.fault == "no constructors")

    def _copy(self, state: State) -> tuple[str, State]:
        source = state.areas[0] if self.fault == "from area 0" else state.template
        target = READER if self.fault == "of the next area" else AWAY
        place = state.copied // 2
        word = source[place]
        if self.fault == "by halves":
            old = state.areas[target][place]
            word = (old[0], word[1]) if state.copied % 2 else (word[0], old[1])
            done = 1
        else:
            done = 2
        after = _store(state, target, place, word)._replace(copied=state.copied + done)
        return f"CPU 0: stores word {place} of the area of CPU {target}, {word}", after


def _store(state: State, cpu: int, place: int, word: tuple[int, int]) -> State:
    area = state.areas[cpu][:place] + (word,) + state.areas[cpu][place + 1 :]
    return state._replace(areas=state.areas[:cpu] + (area,) + state.areas[cpu + 1 :])
