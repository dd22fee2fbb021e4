"""The kernel under the debugger: its variables by name, its areas, and which CPU the selected thread is.

The symbol table says which variables there are and where. The debug information alone does not: it keeps
variables that --gc-sections has dropped, all of them at address 0, which is a valid one in the zero-VMA layout.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import gdb

from percpu_tools import names
from percpu_tools.errors import PercpuError
from percpu_tools.gdb import areas as areas_
from percpu_tools.gdb.areas import Areas
from percpu_tools.image import Image
from percpu_tools.layout import Layout, Variable, read_layout
from percpu_tools.targets import TARGETS, USER_BASE

# percpu::detail::areas, as the Itanium C++ ABI mangles it.
_AREAS = "_ZN6percpu6detail5areasE"
# Where GDB keeps what was read of a file, for as long as it keeps the file's symbols.
_CACHE = "percpu_kernel"

# The registers of GDB's targets that hold a base register's value, where they have other names. With
# swapgs, the kernel's base is in the second one while user code runs and in the first steps of an
# interrupt (Intel SDM vol. 2B, SWAPGS).
_REGISTERS = {"gs": ("gs_base", "k_gs_base"), "fs": ("fs_base",)}

# Symbols of the linker script that move with a PIE; one of them is in every layout.
_MOVED_ALONG = ("_percpu_start", "_percpu_constructors_start")

_STORAGE_TYPE = re.compile(r"percpu::detail::Storage\b")
_UNKNOWN = "which CPU the selected thread is, is not known"
_GIVE_THE_NUMBER = 'give the CPU\'s number: $percpu("NAME", CPU)'


@dataclass(frozen=True)
class Kernel:
    """One loaded file with per-CPU variables."""

    layout: Layout
    areas_symbol: int | None
    word: int
    little_endian: bool
    is_pie: bool

    @property
    def slide(self) -> int:
        """How far GDB has the file's symbols from where they were linked, in bytes: a PIE moves when it is started."""
        return self._slide() if self.is_pie else 0

    def _slide(self) -> int:
        for name in _MOVED_ALONG:
            linked = self.layout.value(name)
            if linked is not None:
                return int(gdb.parse_and_eval(f"(unsigned long) &{name}")) - linked
        return 0

    @property
    def has_areas(self) -> bool:
        """False with sp-naive, where variables are ordinary ones of the one CPU."""
        return self.layout.has_areas

    def variable(self, name: str) -> Variable:
        """The variable of that name.

        It is app::hits, or hits alone if no other name ends so; file.cpp:hits tells static ones apart.
        """
        file, _, plain = name.rpartition(":") if "::" not in name else _split(name)
        exact = [variable for variable in self.layout.variables if variable.name == plain]
        found = exact or [variable for variable in self.layout.variables if variable.name.endswith(f"::{plain}")]
        if file:
            found = [variable for variable in found if self.file_of(variable).endswith(file)]
        if not found:
            known = [variable.name for variable in self.layout.variables]
            near = difflib.get_close_matches(plain, known, 1) or [last for last in known if last.endswith(plain)][:1]
            raise PercpuError(
                f"there is no per-CPU variable {name}",
                fix=(f"did you mean {near[0]}?" if near else "info percpu lists them"),
            )
        if len(found) > 1:
            choices = sorted(self._full_name(variable, found) for variable in found)
            raise PercpuError(
                f"{name} is one of {len(found)} per-CPU variables", fix=f"write one of {', '.join(choices)}"
            )
        return found[0]

    def _full_name(self, variable: Variable, among: list[Variable]) -> str:
        alone = [other.name for other in among].count(variable.name) == 1
        return variable.name if alone else f"{self.file_of(variable)}:{variable.name}"

    def file_of(self, variable: Variable) -> str:
        """The source file of a variable; nothing if there is no debug information."""
        symbol = self._symbol(variable)
        return symbol.symtab.filename if symbol is not None and symbol.symtab is not None else ""

    def type_of(self, variable: Variable) -> gdb.Type:
        """The type that the source gives the variable; without debug information, a number or bytes of its size."""
        symbol = self._symbol(variable)
        if symbol is None or symbol.type is None:
            return _plain_type(variable.size)
        if _STORAGE_TYPE.match(symbol.type.name or ""):
            return _first_argument(symbol.type)
        return symbol.type

    def has_type(self, variable: Variable) -> bool:
        return self._symbol(variable) is not None

    def _symbol(self, variable: Variable) -> gdb.Symbol | None:
        """What the debug information has under the variable's name at the variable's address."""
        name, linked = names.qualified_identifier(variable.symbol), self._linked_address(variable) + self.slide
        for symbol in _debug_symbols(name):
            if not symbol.needs_frame and _address_of(symbol) == linked:
                return symbol
        return None

    def _linked_address(self, variable: Variable) -> int:
        """The address that the storage is linked at."""
        if variable.offset is not None and self.layout.load_start is not None:
            return self.layout.load_start + variable.offset
        return next(symbol.value for symbol in self.layout.storage if symbol.name == variable.symbol)

    def copy(self, variable: Variable, cpu: int) -> gdb.Value:
        """That CPU's copy: an lvalue, which GDB reads when it is used."""
        return gdb.Value(self.address(variable, cpu)).cast(self.type_of(variable).pointer()).dereference()

    def address(self, variable: Variable, cpu: int) -> int:
        """The address of that CPU's copy."""
        if variable.offset is None:
            if cpu != 0:
                raise PercpuError(f"CPU {cpu}: with the feature sp-naive there is CPU 0 only")
            return self._linked_address(variable) + self.slide
        areas = self.areas()
        if not 0 <= cpu < areas.count:
            if not areas.made:
                raise PercpuError(
                    f"CPU {cpu}: the areas are not made yet; before that there is area 0 only, as it was loaded"
                )
            raise PercpuError(f"CPU {cpu}: there are areas of the CPUs {_span(areas.count)}")
        return areas.address(cpu) + variable.offset

    def areas(self) -> Areas:
        """The areas as the kernel has them now."""
        start, stride = self.layout.start, self.layout.stride
        if self.areas_symbol is None or start is None or stride is None:
            raise PercpuError(
                f"{self.layout.file} has no symbol percpu::detail::areas, which says where the areas are",
                fix="compile percpu's area.cpp into the kernel, and do not strip the file",
            )
        memory = gdb.selected_inferior().read_memory(self.areas_symbol + self.slide, areas_.size_of_words(self.word))
        found = areas_.from_words(bytes(memory), self.word, self.little_endian)
        if found is None and self.layout.note is not None and "pristine" in self.layout.note.features:
            raise PercpuError("the areas are not made yet: neither init nor init_in_place has returned")
        return found or Areas(start + self.slide, stride, 1, made=False)

    def selected_cpu(self) -> int:
        """The CPU that the selected thread is, by its base register."""
        if not self.has_areas:
            return 0
        areas = self.areas()
        values = [(name, self._register(name)) for name in self._registers()]
        shown = [(name, value) for name, value in values if value is not None]
        if not shown:
            raise PercpuError(
                f"{_UNKNOWN}: the target does not show the base register {values[0][0]}",
                fix=_GIVE_THE_NUMBER,
            )
        for _, value in shown:
            cpu = areas.cpu_at((value + self._bias()) & self._mask)
            if cpu is not None:
                return cpu
        said = ", ".join(f"{name} is {value:#x}" for name, value in shown)
        raise PercpuError(
            f"{_UNKNOWN}: {said}, and there is no area: init_percpu_reg has not run on that CPU yet, or code runs that "
            "is not the kernel's",
            fix=_GIVE_THE_NUMBER,
        )

    def _bias(self) -> int:
        """What the base register holds less than the address of the area."""
        return (self.layout.load_start or 0) + (self.slide if self.layout.layout == "in-image" else 0)

    @property
    def _mask(self) -> int:
        return (1 << 8 * self.word) - 1

    def _registers(self) -> tuple[str, ...]:
        note, target = self.layout.note, TARGETS.get(self.layout.arch or "")
        base_register = (note.base_register if note else None) or (target.base_registers[0] if target else USER_BASE)
        if base_register == USER_BASE:
            raise PercpuError(
                f"{_UNKNOWN}: the base is what a function of the kernel's gives (base-register=user)",
                fix=_GIVE_THE_NUMBER,
            )
        return _REGISTERS.get(base_register, (base_register,))

    def _register(self, name: str) -> int | None:
        """The register's value in the selected thread; `None` if the target has no such register."""
        if gdb.selected_thread() is None:
            raise PercpuError("no program runs, so no CPU is selected", fix="connect to it (target remote), or run it")
        try:
            # Of the newest frame: that of an outer one would be what the register held before a call.
            return int(gdb.newest_frame().read_register(name)) & self._mask
        except ValueError:
            return None


def find_kernel() -> Kernel:
    """The loaded file that has per-CPU variables."""
    for objfile in gdb.objfiles():
        if not hasattr(objfile, _CACHE):
            setattr(objfile, _CACHE, _read(objfile))
        kernel = getattr(objfile, _CACHE)
        if isinstance(kernel, Kernel):
            return kernel
    raise PercpuError("no loaded file has per-CPU variables", fix="load the kernel with its symbols: file kernel.elf")


def _read(objfile: gdb.Objfile) -> Kernel | None:
    try:
        image = Image(objfile.filename or "")
    except PercpuError:
        # The vDSO of a Linux program, and whatever else is no file.
        return None
    with image:
        layout = read_layout(image)
        if not layout.variables:
            return None
        areas = next((symbol.value for symbol in image.symbols(_AREAS.encode()) if symbol.name == _AREAS), None)
        return Kernel(
            layout=layout,
            areas_symbol=areas,
            word=image.elf_class // 8,
            little_endian=image.little_endian,
            is_pie=image.type == "ET_DYN",
        )


def _debug_symbols(name: str) -> Iterator[gdb.Symbol]:
    found = gdb.lookup_global_symbol(name)
    if found is not None:
        yield found
    yield from gdb.lookup_static_symbols(name)


def _address_of(symbol: gdb.Symbol) -> int | None:
    try:
        address = symbol.value().address
    except gdb.error:
        return None
    return None if address is None else int(address)


def _first_argument(storage: gdb.Type) -> gdb.Type:
    """T of percpu::detail::Storage<T>."""
    argument = storage.template_argument(0)
    assert isinstance(argument, gdb.Type)
    return argument


def _plain_type(size: int) -> gdb.Type:
    machine = gdb.selected_inferior().architecture()
    if size in (1, 2, 4, 8):
        return machine.integer_type(8 * size, False)
    return machine.integer_type(8, False).array(max(size, 1) - 1)


def _split(name: str) -> tuple[str, str, str]:
    """`file.cpp:app::hits` at the colon that is none of a scope's."""
    found = re.match(r"(.*[^:]):([^:].*)\Z", name)
    return (found[1], ":", found[2]) if found else ("", "", name)


def _span(count: int) -> str:
    return "0 only" if count == 1 else f"0 to {count - 1}"
