"""Every interleaving of a small model: breadth first, so that what is found wrong is found by the shortest way."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


class Model(Protocol[State]):
    """What is explored. States are values: equal ones are one state."""

    def initial(self) -> State: ...

    def steps(self, state: State) -> Iterable[tuple[str, State]]:
        """What may happen next, each with the state after it. All of it may."""
        ...

    def wrong(self, state: State) -> str | None:
        """What property the state lacks; `None` if it has all."""
        ...

    def is_end(self, state: State) -> bool:
        """Whether all have done what they had to do."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What was found. `trace` are the steps to the state that is `wrong`."""

    states: int
    steps: int
    wrong: str | None = None
    trace: tuple[str, ...] = ()


def explore(model: Model[State], limit: int = 2_000_000) -> Outcome:
    """Visits every state that can be reached, until one is wrong.

    Wrong is also a state from which no end can be reached any more: a deadlock, or going round for ever.
    """
    first = model.initial()
    numbers: dict[State, int] = {first: 0}
    came_from: list[tuple[int, str]] = [(0, "")]
    leads_to: list[list[int]] = []
    ends: list[int] = []
    queue = deque([first])
    taken = 0

    def found(number: int, wrong: str) -> Outcome:
        trace = []
        while number != 0:
            number, label = came_from[number]
            trace.append(label)
        return Outcome(len(numbers), taken, wrong, tuple(reversed(trace)))

    while queue:
        state = queue.popleft()
        number = len(leads_to)
        leads_to.append([])
        wrong = model.wrong(state)
        if wrong is not None:
            return found(number, wrong)
        if model.is_end(state):
            ends.append(number)
        for label, after in model.steps(state):
            taken += 1
            if after not in numbers:
                assert len(numbers) < limit, f"more than {limit} states: make the model smaller"
                numbers[after] = len(numbers)
                came_from.append((number, label))
                queue.append(after)
            leads_to[number].append(numbers[after])
    stuck = _cannot_reach(ends, leads_to)
    return Outcome(len(numbers), taken) if stuck is None else found(stuck, "nobody gets to the end any more")


def _cannot_reach(ends: list[int], leads_to: list[list[int]]) -> int | None:
    """The first state from which there is no way to any of `ends`."""
    comes_from: list[list[int]] = [[] for _ in leads_to]
    for number, after in enumerate(leads_to):
        for other in after:
            comes_from[other].append(number)
    reaches = [False] * len(leads_to)
    work = list(ends)
    for number in work:
        reaches[number] = True
    while work:
        for before in comes_from[work.pop()]:
            if not reaches[before]:
                reaches[before] = True
                work.append(before)
    return next((number for number, can in enumerate(reaches) if not can), None)
