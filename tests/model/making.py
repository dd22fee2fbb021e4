"""The protocol by which areas are made (percpu_cpp/src/area.cpp, make_areas and await_areas).

Some CPUs call `init` at the same time. The one that claims the work makes every area: it copies the template, runs
the constructors, publishes the base and says that it has finished. The others are turned away; each waits for the base
and then uses its area at once. Then, if `again`, all stop, and CPU 0 makes the areas a second time, while another
CPU asks for the address of its area at any moment.

What one CPU has released, another that has acquired it sees: each access below is one step, in the order of the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# How far an area is. Copied, its constructed variables are not yet what they will be.
RAW, COPIED, MADE = range(3)
# How far all of them are, as area.cpp names it.
NOT_BEGUN, BEING_MADE, FINISHED = range(3)


class Cpu(NamedTuple):
    """What a CPU does next, and what it has read."""

    at: str
    area: int = 0
    seen: int = 0


class State(NamedTuple):
    cpus: tuple[Cpu, ...]
    areas: tuple[int, ...]
    base: int  # 0, or 1 for the address
    progress: int
    makers: int  # that ever claimed the work in this round
    fault: str | None


@dataclass(frozen=True)
class Making:
    """`fault` is one of FAULTS, or "" for the protocol as it is."""

    cpus: int = 2
    again: bool = False
    fault: str = ""

    FAULTS = ("claim in two steps", "base before constructors", "no waiting", "busy flag that is cleared")

    def initial(self) -> State:
        if self.again:
            cpus = (Cpu("claim"), *(Cpu("ask") for _ in range(self.cpus - 1)))
            return State(cpus, (MADE,) * self.cpus, base=1, progress=self._idle, makers=0, fault=None)
        return State((Cpu("claim"),) * self.cpus, (RAW,) * self.cpus, base=0, progress=NOT_BEGUN, makers=0, fault=None)

    @property
    def _idle(self) -> int:
        """What `progress` is when the areas are made: the flag of an earlier version was cleared."""
        return NOT_BEGUN if self.fault == "busy flag that is cleared" else FINISHED

    def is_end(self, state: State) -> bool:
        return all(cpu.at == "end" for cpu in state.cpus)

    def wrong(self, state: State) -> str | None:
        if state.fault is not None:
            return state.fault
        if sum(cpu.at in ("withdraw", "copy", "construct", "publish", "finish") for cpu in state.cpus) > 1:
            return "two CPUs make the areas at the same time"
        if self.is_end(state) and state.makers != 1:
            return f"the areas were made {state.makers} times"
        return None

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number, cpu in enumerate(state.cpus):
            # A maker goes on when the others have been turned away: whoever calls later makes the areas again.
            if cpu.at == "finish" and not self.again and any(other.at.startswith("claim") for other in state.cpus):
                continue
            if cpu.at != "end":
                label, after, next_ = self._step(state, number, cpu)
                cpus = after.cpus[:number] + (next_,) + after.cpus[number + 1 :]
                yield f"CPU {number}: {label}", after._replace(cpus=cpus)

    def _step(self, state: State, number: int, cpu: Cpu) -> tuple[str, State, Cpu]:
        at = cpu.at
        if at == "claim":
            if self.fault == "claim in two steps":
                return f"loads progress, {state.progress}", state, Cpu("claim, 2", seen=state.progress)
            return self._claimed(state, state.progress)
        if at == "claim, 2":
            return self._claimed(state, cpu.seen)
        if at == "withdraw":
            return "sets the base to 0", state._replace(base=0), Cpu("copy")
        if at == "copy":
            after = Cpu("copy", cpu.area + 1) if cpu.area + 1 < self.cpus else Cpu(self._behind("copy"))
            return f"copies the template to area {cpu.area}", _with_area(state, cpu.area, COPIED), after
        if at == "construct":
            after = Cpu("construct", cpu.area + 1) if cpu.area + 1 < self.cpus else Cpu(self._behind("construct"))
            return f"runs the constructors in area {cpu.area}", _with_area(state, cpu.area, MADE), after
        if at == "publish":
            return "publishes the base", state._replace(base=1), Cpu(self._behind("publish"))
        if at == "finish":
            return "says that it has finished", state._replace(progress=self._idle), Cpu("use")
        return self._as_user(state, number, cpu)

    def _claimed(self, state: State, seen: int) -> tuple[str, State, Cpu]:
        after = state._replace(progress=BEING_MADE)
        if seen == BEING_MADE:
            return "is turned away", after, Cpu("use" if self.fault == "no waiting" else "ask")
        return "claims the work", after._replace(makers=state.makers + 1), Cpu("withdraw")

    def _behind(self, at: str) -> str:
        order = ["copy", "construct", "publish", "finish"]
        if self.fault == "base before constructors":
            order = ["copy", "publish", "construct", "finish"]
        return order[order.index(at) + 1]

    def _as_user(self, state: State, number: int, cpu: Cpu) -> tuple[str, State, Cpu]:
        """percpu_area_base, in the order in which it reads, and then the use of the area."""
        flag_first = self.fault == "busy flag that is cleared"
        if cpu.at == "ask":
            if flag_first:
                return f"reads the flag, {state.progress}", state, Cpu("ask, 2", seen=state.progress)
            return f"reads the base, {state.base}", state, Cpu("use" if state.base else "ask, 2")
        if cpu.at == "ask, 2":
            if flag_first and state.base:
                return "reads the base, 1", state, Cpu("use")
            progress = cpu.seen if flag_first else state.progress
            if progress == NOT_BEGUN:
                wrong = state._replace(fault=f"CPU {number} is stopped for asking before init, which was long before")
                return "takes it that nobody has begun", wrong, Cpu("end")
            return "finds the base 0 and asks again", state, Cpu("ask")
        # While areas are made again nobody may use one, but ask for its address.
        used = self.again or state.areas[number] == MADE
        fault = None if used else f"CPU {number} uses its area before it is made"
        return "uses its area", state._replace(fault=fault), Cpu("end")


def _with_area(state: State, area: int, how_far: int) -> State:
    return state._replace(areas=state.areas[:area] + (how_far,) + state.areas[area + 1 :])
