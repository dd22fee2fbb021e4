"""Rendering the linker-script fragment, and whole scripts around it."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percpu_tools import targets, userscript
from percpu_tools.errors import PercpuError
from percpu_tools.expressions import flaw
from percpu_tools.paths import FRAGMENT, ldscripts
from percpu_tools.version import __version__

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

LINKERS = ("ld", "lld")
MODES = ("insert", "include")

# Where kernels note the bounds of what they clear at boot.
BSS_BOUNDS = (("__bss_start", "__bss_end"), ("_sbss", "_ebss"), ("_bss_start", "_bss_end"))

_NAME = re.compile(r"[A-Za-z0-9_.$-]+")
_OFFSET_EXAMPLE = "for instance 0xffffffff80000000, or the name of a symbol of yours"


def render_fragment(
    cpu_num: int | str,
    arch: str,
    features: str | Iterable[str] = (),
    linker: str = "ld",
    mode: str = "insert",
    load_offset: str | int | None = None,
    cache_line: int | str | None = None,
    insert_after: str = ".data",
    templates: str | os.PathLike[str] | None = None,
    region: str | None = None,
    load_region: str | None = None,
) -> str:
    """The text of `percpu.ld`.

    `mode` is `insert` (given to the linker beside the user's script) or `include` (named inside SECTIONS
    of it). `load_offset` is the expression VMA - LMA of the user's script where its sections carry
    AT(...). `insert_after` is the output section to follow, as `userscript.find_anchor` says. `templates` is a
    folder of the user's, whose percpu.ld.j2 is taken in place of ours; it must have one.

    `region` is the one of the user's MEMORY that the areas lie in (`>RAM`). `load_region` is another one, where the
    template is and stays (`>FLASH`), for firmware that runs from there: with the feature `pristine`, `init` copies it
    into every area. The same as `region`, the template is loaded there itself, also behind a .data that is not.
    """
    context = _context(cpu_num, arch, features, linker, mode, load_offset, cache_line, insert_after, region, load_region)
    if templates is not None:
        _check_folder(templates)
    return _render(FRAGMENT, context, templates)


def render_template(
    path: str | os.PathLike[str],
    cpu_num: int | str,
    arch: str,
    features: str | Iterable[str] = (),
    linker: str = "ld",
    load_offset: str | int | None = None,
    cache_line: int | str | None = None,
    variables: Mapping[str, Any] | None = None,
    region: str | None = None,
    load_region: str | None = None,
) -> str:
    """A whole linker script from the template at `path`, which may say `{% include "percpu.ld.j2" %}`.

    The template sees the fragment's variables, and those of `variables` beside them.
    """
    context = _context(
        cpu_num, arch, features, linker, "include", load_offset, cache_line, ".data", region, load_region
    )
    clash = sorted(set(context) & set(variables or {}))
    if clash:
        raise PercpuError(f"template variable {clash[0]!r} is percpu's own", fix="give yours another name")
    place = Path(path)
    text = _render(place.name, {**context, **(variables or {})}, place.parent)
    if context["layout"] == "zero-vma":
        userscript.refuse_segments(text, text, str(path))
    return text


def _context(
    cpu_num: int | str,
    arch: str,
    features: str | Iterable[str],
    linker: str,
    mode: str,
    load_offset: str | int | None,
    cache_line: int | str | None,
    insert_after: str,
    region: str | None,
    load_region: str | None,
) -> dict[str, Any]:
    """The variables of the templates."""
    machine = targets.target(arch)
    chosen = targets.parse_features(features, arch)
    if linker not in LINKERS:
        raise PercpuError(f"linker is {linker!r}: expected one of {', '.join(LINKERS)}")
    if mode not in MODES:
        raise PercpuError(f"mode is {mode!r}: expected one of {', '.join(MODES)}")
    if not _NAME.fullmatch(insert_after):
        raise PercpuError(f"the section to insert after is {insert_after!r}: expected a name like .data")
    _check_regions(region, load_region, load_offset, linker, mode, chosen)
    return {
        "version": __version__,
        "arch": arch,
        "elf_class": machine.elf_class,
        "cpu_num": targets.parse_cpu_num(cpu_num),
        "features": chosen.words,
        "layout": chosen.layout,
        "linker": linker,
        "mode": mode,
        "insert_after": insert_after,
        "load_offset": _load_offset(load_offset),
        "region": region or None,
        "load_region": load_region or None,
        "cache_line": targets.parse_cache_line(cache_line, arch),
        # A base of the user's own is no register that a load's immediate could be added to.
        "near_reach": 0 if chosen.base_register == targets.USER_BASE else machine.near_reach,
        "far_reach": 0 if "large-template" in chosen else machine.far_reach,
        "bss_bounds": BSS_BOUNDS,
        "guard": hex(targets.GUARD_WORD),
    }


def _check_regions(
    region: str | None,
    load_region: str | None,
    load_offset: str | int | None,
    linker: str,
    mode: str,
    features: targets.Features,
) -> None:
    """Refuse what the linkers cannot do with the regions of a MEMORY command."""
    for name in filter(None, (region, load_region)):
        if not _NAME.fullmatch(name):
            raise PercpuError(f"the memory region is {name!r}: expected a name that MEMORY has, like RAM")
    if not region:
        if load_region:
            raise PercpuError(
                f"the load region is {load_region}, and no region is given that the areas lie in",
                fix="name that, too: of `>RAM AT>FLASH`, RAM is the region, and FLASH the load region",
            )
        return
    if load_offset not in (None, ""):
        raise PercpuError(
            f"both a load offset ({load_offset}) and a memory region ({region}) are given",
            fix=(
                f"leave the load offset out: with regions, AT>{load_region or 'NAME'} says where sections are loaded",
                "where they have both >NAME and AT(...), leave it out too, and use the feature non-zero-vma",
            ),
        )
    if load_region not in (None, "", region) and "pristine" not in features:
        raise PercpuError(
            f"the template stays in {load_region}, and without the feature pristine it is the area of CPU 0, in {region}",
            fix="use the feature pristine: init then copies it to all areas",
        )
    if mode == "insert" and linker == "ld":
        raise PercpuError(
            f"GNU ld reads the fragment before the script whose MEMORY has {region}, and does not know it then",
            fix="use the mode include, and write INCLUDE percpu.ld in SECTIONS of the script, behind .data",
        )
    if mode == "include" and linker == "lld" and features.layout == "zero-vma":
        raise PercpuError(
            "lld wants a memory region for the template at address 0, which cannot be declared inside SECTIONS",
            fix=("use the mode insert", "use the feature non-zero-vma"),
        )


def _load_offset(value: str | int | None) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return hex(value)
    # It becomes part of AT(...): anything that ends the expression there would be a line of its own.
    if not isinstance(value, str) or not value.strip() or re.search(r"""[;{}"'\\\n]|/\*|\*/""", value):
        raise PercpuError(
            f"the load offset is {value!r}: expected an expression of the linker script",
            fix=_OFFSET_EXAMPLE,
        )
    wrong = flaw(value)
    if wrong is not None:
        raise PercpuError(f"the load offset is {value!r}: {wrong}", fix=_OFFSET_EXAMPLE)
    return value.strip()


def _render(name: str, context: Mapping[str, Any], folder: str | os.PathLike[str] | None) -> str:
    import jinja2

    # The files of the templates that were read.
    files: set[str] = set()
    try:
        text = _environment(folder, files).get_template(name).render(context)
    except PercpuError:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise PercpuError(f"{error.filename or name}:{error.lineno}: {error.message}") from error
    except jinja2.TemplateNotFound as error:
        raise PercpuError(
            f"{_place(error, files)}there is no template {error.name!r} in {folder or ldscripts()}"
        ) from error
    except RecursionError as error:
        raise _endless(error, files) from error
    except Exception as error:
        # A template may do anything that Python can.
        kind = "" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: "
        raise PercpuError(f"{_place(error, files) or f'{name}: '}{kind}{error}") from error
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def _environment(folder: str | os.PathLike[str] | None, files: set[str]) -> Environment:
    import jinja2

    ours = _loader(ldscripts(), files)
    loaders: list[jinja2.BaseLoader] = [ours, jinja2.PrefixLoader({"percpu": ours})]
    if folder is not None:
        loaders.insert(0, _loader(Path(folder), files))
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _loader(folder: Path, files: set[str]) -> BaseLoader:
    """As Jinja2's loader of a folder, which does not say which file it could not read."""
    import jinja2
    from jinja2.loaders import split_template_path

    def load(name: str) -> tuple[str, str, None] | None:
        path = folder.joinpath(*split_template_path(name))
        if not os.path.isfile(path):
            return None
        files.add(str(path))
        return _read(path), str(path), None

    return jinja2.FunctionLoader(load)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise PercpuError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PercpuError(f"{path}:{line}: it is not UTF-8 text, by the byte {data[error.start]:#x}") from error


def _last_line(error: Exception, files: set[str]) -> tuple[str, int] | None:
    """The template and its line that were at work. Jinja2 has made the traceback one of the templates."""
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename in files
    ]
    return places[-1] if places else None


def _place(error: Exception, files: set[str]) -> str:
    """What a message about the error begins with."""
    found = _last_line(error, files)
    return f"{found[0]}:{found[1]}: " if found else ""


def _endless(error: RecursionError, files: set[str]) -> PercpuError:
    found = _last_line(error, files)
    if found is not None:
        path, number = Path(found[0]), found[1]
        lines = _read(path).splitlines()
        if number <= len(lines) and re.search(rf"""["']{re.escape(path.name)}["']""", lines[number - 1]):
            own = f'write {{% extends "percpu/{FRAGMENT}" %}} for the template of percpu'
            return PercpuError(
                f"{path}:{number}: the template takes itself in, without end", fix=own if path.name == FRAGMENT else ()
            )
    return PercpuError(f"{_place(error, files)}it calls itself, without end")


def _check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder of the user's that has no fragment: ours would be taken, and nobody would know."""
    name = os.fspath(folder)
    if not os.path.exists(name):
        why = "there is no folder of that name"
    elif not os.path.isdir(name):
        why = "it is no folder"
    elif not os.path.isfile(os.path.join(name, FRAGMENT)):
        why = f"there is no {FRAGMENT} in that folder"
    else:
        return
    raise PercpuError(
        f"{name}: {why}, to be taken in place of percpu's own",
        fix=f"write one there; it may begin with {{% extends \"percpu/{FRAGMENT}\" %}}",
    )
