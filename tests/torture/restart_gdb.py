"""Runs inside GDB, connected to QEMU: interrupts every sequence of restart.elf at every instruction.

For each probe, for each instruction of the sequence up to its commit, the probe is run and stopped before
that instruction; the variable is changed as an interrupt handler on the same CPU would; and the
sequence goes on where percpu::restart_pc sends it (with `fix` off: where it was). The outcome must be that
of the handler first and the operation after it.

Prints one JSON line: {"stops": N, "wrong": [[probe, instruction, outcome, expected], ...]}.
"""

import json

import gdb

INITIAL, OPERAND, FROM_HANDLER = 40, 3, 21
OPERATIONS = {
    # operation: (value before, mask) -> (value given, value left)
    "read": lambda value, mask: (value, value),
    "write": lambda value, mask: (0, OPERAND),
    "add": lambda value, mask: (0, value + OPERAND & mask),
    "sub": lambda value, mask: (0, value - OPERAND & mask),
    "and": lambda value, mask: (0, value & OPERAND),
    "or": lambda value, mask: (0, value | OPERAND),
    "xor": lambda value, mask: (0, value ^ OPERAND),
    "fetch_add": lambda value, mask: (value, value + OPERAND & mask),
    "exchange": lambda value, mask: (value, OPERAND),
    "compare_exchange": lambda value, mask: (1, OPERAND) if value == INITIAL else (0, value),
}


def number(expression):
    return int(gdb.parse_and_eval(expression))


def function_at(address):
    """The name of the function that the linker put at `address`."""
    return gdb.execute(f"info symbol {address:#x}", to_string=True).split()[0]


def table():
    """(start, commit) of every sequence."""
    inferior = gdb.selected_inferior()
    first, end = number("(unsigned long)&_percpu_restart_start"), number("(unsigned long)&_percpu_restart_end")
    order = "little"
    for place in range(first, end, 8):
        entry = bytes(inferior.read_memory(place, 8))
        start = place + int.from_bytes(entry[:4], order, signed=True)
        yield start, start + int.from_bytes(entry[4:], order)


def instructions(start, commit):
    """The addresses of a sequence's instructions, the commit's the last."""
    architecture = gdb.selected_frame().architecture()
    return [line["addr"] for line in architecture.disassemble(start, commit)]


def stop_at(address):
    gdb.execute(f"tbreak *{address:#x}", to_string=True)
    gdb.execute("continue", to_string=True)


def main(fix):
    gdb.execute("tbreak primary_main", to_string=True)
    gdb.execute("continue", to_string=True)
    sequences = {}
    for start, commit in table():
        sequences.setdefault(function_at(start), []).append((start, commit))
    stops, wrong = 0, []
    for operation in OPERATIONS:
        for reach in ("far", "near"):
            for kind in ("8", "16", "32", "word"):
                probe = f"probe_{operation}_{reach}_{kind}"
                # The first sequence gives the variable its initial value, the last reads the outcome.
                _, (start, commit), _ = sequences[probe]
                for place in instructions(start, commit):
                    stop_at(place)
                    size = number("watched_size")
                    watched = number("watched")
                    mask = (1 << 8 * size) - 1
                    before = INITIAL + FROM_HANDLER
                    gdb.selected_inferior().write_memory(watched, before.to_bytes(size, "little"))
                    if fix:
                        gdb.execute(f"set $pc = {number(f'where_to_restart({place})'):#x}", to_string=True)
                    stop_at(number("(unsigned long)&probe_done"))
                    outcome = [number("outcome.given"), number("outcome.left")]
                    expected = list(OPERATIONS[operation](before, mask))
                    stops += 1
                    if outcome != expected:
                        wrong.append([probe, (place - start), outcome, expected])
    print(json.dumps({"stops": stops, "wrong": wrong}))
