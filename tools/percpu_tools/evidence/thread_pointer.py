"""Which register code reads for the thread pointer, where a compiler's option chooses it (-mtp)."""

from __future__ import annotations

from collections.abc import Iterator

from percpu_tools import code
from percpu_tools.image import SHF_TLS, SHN_UNDEF, Image
from percpu_tools.instructions import aarch64, arm_thread

WHAT = "T22 tls-register"

# The thread ID registers of ARM by their opcode 2: mrc p15, 0, r, c13, c0, 2 (ARM ARM DDI 0406, TPIDRURW, TPIDRURO and TPIDRPRW).
_OF_ARM = {2: "TPIDRURW", 3: "TPIDRURO", 4: "TPIDRPRW"}

# What code calls with -mtp=soft (Run-time ABI for the Arm Architecture, "Thread-local storage").
_READ_TP = b"__aeabi_read_tp"

# Two words in front of the first variable belong to whoever made the thread's block (aaelf32 and aaelf64, "Thread Local Storage").
_RESERVED = 8


def registers(image: Image, arch: str) -> set[str]:
    """The thread ID registers to whose value code adds the offset of a thread-local variable, as far as it is clear."""
    if arch == "aarch64":
        return set(_on_aarch64(image))
    return set(_on_arm(image)) or set(_called_on_arm(image))


def _on_aarch64(image: Image) -> Iterator[str]:
    bytes_ = code.Bytes(image)
    for home, place in code.matches(image, WHAT, aarch64.ADD_TPREL_HI12, alignment=4, into=aarch64.ADD_TPREL_HI12_INTO):
        register = aarch64.thread_pointer(bytes_, home, place)
        if register is not None:
            yield register


def _on_arm(image: Image) -> Iterator[str]:
    """Offsets stand in words between functions (R_ARM_TLS_LE32). Other numbers as small as these are immediates."""
    storage = [section for section in image.sections if section.flags & SHF_TLS and section.is_allocated]
    size = max(section.end for section in storage) - min(section.address for section in storage)
    first = max(_RESERVED, *(section.alignment for section in storage))
    # Two of them: the instructions are looked at alone, and the words at which they point are elsewhere.
    bytes_, words = code.Bytes(image), code.Bytes(image)
    for is_thumb, pattern, into in ((False, arm_thread.A32_LITERAL, arm_thread.A32_LITERAL_INTO), (True, arm_thread.T32_LITERAL, arm_thread.T32_LITERAL_INTO)):
        for home, place in code.matches(image, WHAT, pattern, alignment=2 if is_thumb else 4, into=into):
            literal = arm_thread.literal_at(bytes_, home, place, is_thumb)
            if not home.address <= literal <= home.end - 4 or not _RESERVED <= words.number(home, literal, 4) < first + size:
                continue
            register = arm_thread.added_to_thread_register(bytes_, home, place, is_thumb)
            if register in _OF_ARM:
                yield _OF_ARM[register]


def _called_on_arm(image: Image) -> Iterator[str]:
    for symbol in image.symbols(_READ_TP):
        home = image.section_at(symbol.section)
        if symbol.name != _READ_TP.decode() or symbol.section == SHN_UNDEF or home is None or not (home.is_executable and home.has_bytes):
            continue
        register = arm_thread.read_by(code.Bytes(image), home, symbol.value)
        if register in _OF_ARM:
            yield _OF_ARM[register]
