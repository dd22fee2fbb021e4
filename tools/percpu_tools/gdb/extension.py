"""Per-CPU variables in GDB.

    (gdb) source FILE                    percpu-config --gdb prints the name of this file

    $percpu("NAME")                      the copy of the selected thread's CPU
    $percpu("NAME", CPU)                 that CPU's copy
    info percpu [REGEXP]                 all variables of all CPUs, or those whose name the expression is found in

A thread of QEMU's stub is a CPU; which one, its base register says.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gdb

if TYPE_CHECKING:
    from percpu_tools.gdb.kernel import Kernel
    from percpu_tools.gdb.table import Row
    from percpu_tools.layout import Variable

_USAGE = 'usage: $percpu("NAME") or $percpu("NAME", CPU)'
_WHOLE_NUMBERS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_ENUM)
_LONGEST_ARRAY = 16
_DEEPEST = 4


def _load_packages() -> bool:
    """Makes percpu_tools and pyelftools importable, without their folder on sys.path; says so if it cannot.

    It may belong to another Python than GDB's. pyelftools lies beside percpu_tools, or in the virtual environment
    of the checkout.
    """
    own = Path(__file__).resolve().parents[1]
    _load("percpu_tools", [own])
    _load("elftools", [own.parent / "elftools", *own.parents[1].glob(".venv/lib/python3*/site-packages/elftools")])
    if importlib.util.find_spec("elftools") is not None:
        return True
    # As an exception it would come with a traceback: `source` shows where each began.
    gdb.write(f"percpu: pyelftools is not found beside {own}: install it there, or where PYTHONPATH says\n", gdb.STDERR)
    return False


def _load(name: str, folders: list[Path]) -> None:
    """Imports a package from the first of the folders that there is, unless this Python has it."""
    folder = next((folder for folder in folders if (folder / "__init__.py").is_file()), None)
    if folder is None or name in sys.modules or (name != "percpu_tools" and importlib.util.find_spec(name)):
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)


def _said_plainly(work: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong is said in one line: GDB prints nothing but the text of a GdbError."""

    @wraps(work)
    def said_plainly(*arguments: Any) -> Any:
        from percpu_tools.errors import PercpuError

        try:
            return work(*arguments)
        except PercpuError as error:
            raise gdb.GdbError(f"percpu: {error}") from None
        except gdb.error as error:
            raise gdb.GdbError(f"percpu: {error}") from None

    return said_plainly


class PercpuFunction(gdb.Function):
    """A CPU's copy of a per-CPU variable: $percpu("NAME") for the selected thread's CPU, or $percpu("NAME", CPU).

    The name is as in C++, with its namespaces if need be; file.cpp:NAME tells two static ones apart. The
    copy has its address and the variable's own type, so it can be printed, walked and assigned to. GDB does not
    call functions for ptype and sizeof: print the copy, and ask them about the result, as in `ptype $`."""

    def __init__(self) -> None:
        # GDB takes the indentation out of a command's help, and leaves it in a function's.
        type(self).__doc__ = inspect.getdoc(self)
        super().__init__("percpu")

    @_said_plainly
    def invoke(self, *arguments: gdb.Value) -> gdb.Value:
        from percpu_tools.gdb.kernel import find_kernel

        if not 1 <= len(arguments) <= 2:
            raise gdb.GdbError(f"percpu: {len(arguments)} arguments; {_USAGE}")
        name = _name(arguments[0])
        given = [_cpu(number) for number in arguments[1:]]
        kernel = find_kernel()
        variable = kernel.variable(name)
        return kernel.copy(variable, given[0] if given else kernel.selected_cpu())


def _name(value: gdb.Value) -> str:
    kind = value.type.strip_typedefs()
    if kind.code not in (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_PTR) or kind.target().strip_typedefs().sizeof != 1:
        raise gdb.GdbError(f"percpu: the name is of type {value.type}, and not in quotes; {_USAGE}")
    return value.string().strip()


def _cpu(value: gdb.Value) -> int:
    if value.type.strip_typedefs().code not in _WHOLE_NUMBERS:
        raise gdb.GdbError(f"percpu: the CPU is of type {value.type}, and no whole number; {_USAGE}")
    return int(value)


class InfoPercpu(gdb.Command):
    """The per-CPU variables of all CPUs.

    Usage: info percpu [REGEXP]

    Prints a table of the variables in whose name REGEXP is found, or of all. CPUs next to each other whose
    copies are equal share a line. $percpu("NAME", CPU) gives a whole value where the table shortens it."""

    def __init__(self) -> None:
        super().__init__("info percpu", gdb.COMMAND_DATA, gdb.COMPLETE_NONE)

    @_said_plainly
    def invoke(self, argument: str, from_tty: bool) -> None:
        from percpu_tools.gdb import table
        from percpu_tools.gdb.kernel import find_kernel

        try:
            pattern = re.compile(argument.strip())
        except re.error as error:
            raise gdb.GdbError(f"percpu: {argument.strip()!r} is no regular expression: {error}") from None
        kernel = find_kernel()
        chosen = [variable for variable in kernel.layout.variables if pattern.search(variable.name)]
        if not chosen:
            raise gdb.GdbError(f"percpu: no per-CPU variable has {argument.strip()!r} in its name")
        print("\n".join(_heading(kernel)))
        print(table.render(row for variable in chosen for row in _rows(kernel, variable)))


def _heading(kernel: Kernel) -> Iterator[str]:
    from percpu_tools.errors import PercpuError

    if not kernel.has_areas:
        yield "one CPU (sp-naive): the variables are ordinary ones"
        return
    areas = kernel.areas()
    if areas.made:
        yield f"{areas.count} areas of {areas.stride} bytes, from {areas.base:#x}"
    else:
        yield f"the areas are not made yet: area 0 is the template as it was loaded, at {areas.base:#x}"
    try:
        yield f"the selected thread is CPU {kernel.selected_cpu()}"
    except PercpuError as error:
        yield error.message


def _rows(kernel: Kernel, variable: Variable) -> Iterator[Row]:
    from percpu_tools.gdb import table

    count = kernel.areas().count if kernel.has_areas else 1
    shown_type = str(kernel.type_of(variable)) if kernel.has_type(variable) else f"({variable.size} bytes)"
    offset = "" if variable.offset is None else f"{variable.offset:#x}"
    memory = gdb.selected_inferior()
    copies = [_read(memory, kernel.address(variable, cpu), variable.size) for cpu in range(count)]
    for first, last in table.runs(copies):
        yield offset, variable.name, shown_type, table.cpus(first, last), _shown(kernel.copy(variable, first))


def _read(memory: gdb.Inferior, address: int, size: int) -> bytes | str:
    try:
        return bytes(memory.read_memory(address, max(size, 1)))
    except gdb.MemoryError as error:
        return str(error)


def _shown(value: gdb.Value) -> str:
    from percpu_tools.gdb import table

    try:
        text = value.format_string(
            max_elements=_LONGEST_ARRAY, max_depth=_DEEPEST, pretty_structs=False, pretty_arrays=False
        )
    except gdb.MemoryError as error:
        text = f"<{error}>"
    return table.shortened(text)


if _load_packages():
    PercpuFunction()
    InfoPercpu()
