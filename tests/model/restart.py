"""The restart protocol (percpu/restart.hpp): threads that are interrupted and moved between any two instructions.

Each thread makes updates of a word of which every CPU has a copy, in the instructions of arch/sequence.hpp, the last
of which is the commit. At any time the timer may interrupt a CPU. Its handler may make an update of the same word; the
thread is then anybody's, and goes on on any CPU that is free, where restart_pc() has sent it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

SEQUENCES = {
    # A far variable's address is made first, and a near one is reached from the register in each instruction.
    "far": ("locate", "load", "change", "store"),
    "near": ("load", "change", "store"),
}
FREE = NONE = -1


class Thread(NamedTuple):
    """A thread's registers, and how many updates it has still to make."""

    pc: int
    place: int
    value: int
    left: int
    committed: bool  # the update that it is at
    saved_base: int  # of the CPU where it was interrupted


class State(NamedTuple):
    threads: tuple[Thread, ...]
    running: tuple[int, ...]  # the thread on each CPU
    bases: tuple[int, ...]  # each CPU's base register: whose copy it points at
    words: tuple[int, ...]  # each CPU's copy
    made: int  # updates that were made, by whomever
    handlers: int  # that may still come with an update of their own
    fault: str | None


@dataclass(frozen=True)
class Restart:
    """`fix`: what the trap's return path does: "restart" as it should, or one of the faults below."""

    sequence: str = "far"
    threads: int = 2
    cpus: int = 2
    updates: int = 1
    handlers: int = 1
    fix: str = "restart"

    FAULTS = ("none", "not at the commit", "behind the commit too", "base register restored")

    @property
    def instructions(self) -> tuple[str, ...]:
        return SEQUENCES[self.sequence]

    def initial(self) -> State:
        thread = Thread(pc=0, place=0, value=0, left=self.updates, committed=False, saved_base=NONE)
        cpus = tuple(range(self.cpus))
        return State((thread,) * self.threads, (FREE,) * self.cpus, cpus, (0,) * self.cpus, 0, self.handlers, None)

    def is_end(self, state: State) -> bool:
        return all(thread.left == 0 for thread in state.threads)

    def wrong(self, state: State) -> str | None:
        if state.fault is None and sum(state.words) != state.made:
            return f"{state.made} updates were made, and the words add up to {sum(state.words)}"
        return state.fault

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for cpu, number in enumerate(state.running):
            if number == FREE:
                yield from self._resume(state, cpu)
            else:
                yield self._instruction(state, cpu, number)
                yield from self._interrupt(state, cpu, number)

    def _instruction(self, state: State, cpu: int, number: int) -> tuple[str, State]:
        thread, base = state.threads[number], state.bases[cpu]
        if thread.pc == len(self.instructions):
            # Out of the sequence: the thread does something else, and the next update, or leaves.
            thread = thread._replace(pc=0, left=thread.left - 1, committed=False)
            running = state.running if thread.left else _put(state.running, cpu, FREE)
            state = state._replace(running=running)
            return f"CPU {cpu}: thread {number} has made an update", _with_thread(state, number, thread)
        instruction = self.instructions[thread.pc]
        place = thread.place if "locate" in self.instructions else base
        after = thread._replace(pc=thread.pc + 1)
        if instruction == "locate":
            after = after._replace(place=base)
        elif instruction == "load":
            after = after._replace(value=state.words[place])
        elif instruction == "change":
            after = after._replace(value=thread.value + 1)
        else:
            state = _commit(state, cpu, place, thread)
            after = after._replace(place=0, value=0, committed=True)
        return f"CPU {cpu}: thread {number}: {instruction}", _with_thread(state, number, after)

    def _interrupt(self, state: State, cpu: int, number: int) -> Iterator[tuple[str, State]]:
        thread = state.threads[number]
        if self._restart_pc(thread.pc) == 0:
            # Nobody will read what it had loaded, so states that differ in this are one.
            thread = thread._replace(place=0, value=0)
        if self.fix == "base register restored":
            thread = thread._replace(saved_base=state.bases[cpu])
        away = _with_thread(state, number, thread)._replace(running=_put(state.running, cpu, FREE))
        yield f"CPU {cpu}: thread {number} is interrupted", away
        if state.handlers > 0:
            words = _put(state.words, cpu, state.words[cpu] + 1)
            busy = away._replace(words=words, made=state.made + 1, handlers=state.handlers - 1)
            yield f"CPU {cpu}: thread {number} is interrupted; the handler makes an update", busy

    def _resume(self, state: State, cpu: int) -> Iterator[tuple[str, State]]:
        for number, thread in enumerate(state.threads):
            if thread.left > 0 and number not in state.running:
                here = state._replace(running=_put(state.running, cpu, number))
                if thread.saved_base != NONE:
                    here = here._replace(bases=_put(state.bases, cpu, thread.saved_base))
                after = _with_thread(here, number, thread._replace(pc=self._restart_pc(thread.pc), saved_base=NONE))
                yield f"CPU {cpu}: thread {number} goes on", after

    def _restart_pc(self, pc: int) -> int:
        last = {
            "none": -1,
            "not at the commit": len(self.instructions) - 2,
            "behind the commit too": len(self.instructions),
        }.get(self.fix, len(self.instructions) - 1)
        return 0 if pc <= last else pc


def _commit(state: State, cpu: int, place: int, thread: Thread) -> State:
    fault = None
    if place != cpu:
        fault = f"CPU {cpu} has written the copy of CPU {place}"
    elif thread.value != state.words[place] + 1:
        fault = f"an update is lost: CPU {cpu} stores {thread.value} over {state.words[place]}"
    elif thread.committed:
        fault = f"an update is made twice, on CPU {cpu}"
    return state._replace(words=_put(state.words, place, thread.value), made=state.made + 1, fault=fault)


def _with_thread(state: State, number: int, thread: Thread) -> State:
    threads = state.threads[:number] + (thread,) + state.threads[number + 1 :]
    return state._replace(threads=threads)


def _put(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return values[:index] + (value,) + values[index + 1 :]
