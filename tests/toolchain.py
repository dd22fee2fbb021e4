"""Small real builds for tests: compile a source, link objects with scripts, look at the result."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

LINKERS = {"ld": "ld", "lld": "ld.lld-19"}

# A kernel as in a thousand tutorials: higher half, loaded at 1 MiB, knows nothing of per-CPU data.
HIGHER_HALF = """\
ENTRY(_start)
KERNEL_VMA = 0xffffffff80000000;
SECTIONS
{
  . = KERNEL_VMA + 0x100000;
  .text : AT(ADDR(.text) - KERNEL_VMA) { *(.text .text.*) }
  .rodata : AT(ADDR(.rodata) - KERNEL_VMA) { *(.rodata .rodata.*) *(.eh_frame) }
  . = ALIGN(4096);
  .data : AT(ADDR(.data) - KERNEL_VMA) { *(.data .data.*) }
  . = ALIGN(16);
  __bss_start = .;
  .bss : AT(ADDR(.bss) - KERNEL_VMA) { *(.bss .bss.*) *(COMMON) }
  __bss_end = .;
  /DISCARD/ : { *(.comment) }
}
"""

# What the Rust crate's documentation tells people to write, for 4 CPUs; without its NOLOAD.
SEED_SECTION = """\
  . = ALIGN(4096);
  _percpu_start = .;
  _percpu_end = _percpu_start + SIZEOF(.percpu);
  .percpu 0x0 : AT(_percpu_start - KERNEL_VMA)
  {
    _percpu_load_start = .;
    *(.percpu .percpu.*)
    _percpu_load_end = .;
    . = _percpu_load_start + ALIGN(64) * 4;
  }
  . = _percpu_end;
"""

# What every fixture needs to be a program: code, constants, data, .bss.
KERNEL = """\
extern const char greeting[];
const char greeting[] = "hello";
int counter = 1;
int cleared;
const char* _start(void);
const char* _start(void) { return &greeting[counter + cleared]; }
"""


def variable(name: str, value: int, section: str = "", alignment: int = 4, used: bool = True) -> str:
    """The C source of an `int` in the storage that the runtime's macros would give it."""
    attributes = f'section("{section or ".percpu." + name}"), aligned({alignment})' + (", used" if used else "")
    return f"__attribute__(({attributes})) int percpu_storage_{name} = {value};\n"


def note(**fields: object) -> str:
    """The C source of the runtime's note, as any of its versions might write it."""
    text = "".join(f"{key.replace('_', '-')}={value}\\\\n" for key, value in fields.items())
    return f"""\
__asm__(".pushsection .note.percpu,\\"\\",%note\\n.balign 4\\n.long 7, 2f-1f, 1\\n.asciz \\"percpu\\"\\n.balign 4\\n"
        "1: .asciz \\"{text}\\"\\n2: .balign 4\\n.popsection\\n");
"""


def compile_c(folder: Path, source: str, *flags: str, compiler: str = "gcc", name: str = "kernel") -> Path:
    """An object for a freestanding x86_64 kernel, unless `flags` say more."""
    path = folder / f"{name}.c"
    path.write_text(source)
    target = folder / f"{name}.o"
    machine = ("-mcmodel=kernel", "-fcf-protection=none", "-mno-red-zone") if compiler == "gcc" else ()
    run([compiler, "-c", "-O2", "-ffreestanding", "-fno-pic", *machine, *flags, str(path), "-o", str(target)])
    return target


def link(
    folder: Path,
    objects: Iterable[Path],
    scripts: Sequence[str],
    *flags: str,
    linker: str = "ld",
    name: str = "kernel.elf",
) -> Path:
    """The linked file; `scripts` are texts, given with -T in this order. Any complaint of the linker is an error."""
    done = try_link(folder, objects, scripts, *flags, linker=linker, name=name)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder / name


def try_link(
    folder: Path,
    objects: Iterable[Path],
    scripts: Sequence[str],
    *flags: str,
    linker: str = "ld",
    name: str = "kernel.elf",
) -> subprocess.CompletedProcess[str]:
    """As `link`; the caller judges."""
    # GNU ld reads a script when it meets -T: the folder for its INCLUDEs has to be known by then.
    command = [LINKERS.get(linker, linker), *flags, "-L", str(folder)]
    for number, script in enumerate(scripts):
        path = folder / f"{name}.{number}.ld"
        path.write_text(script)
        command += ["-T", str(path)]
    return run([*command, *map(str, objects), "-o", str(folder / name)], check=False)


def run(command: Sequence[str], check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(list(command), capture_output=True, text=True, timeout=120, **options)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def data_at(image, section, address: int, size: int) -> int:
    """The little-endian number that the file holds at a linked address."""
    with open(image.path, "rb") as stream:
        stream.seek(section.offset + address - section.address)
        return int.from_bytes(stream.read(size), "little")
