"""Every way into a user's linker script: linked, and judged by percpu-check and by the file; or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolchain
from ldscripts import ways
from ldscripts.ways import WAYS, Way
from percpu_tools import PercpuError, check, find_anchor, find_regions, ldscripts, render_fragment, render_template
from percpu_tools.image import Image
from percpu_tools.userscript import Regions, refuse_segments

CPU_NUM = 3
VALUES = {"rest": 0x11, "aligned": 0x14, "near": 0x16}
SECTIONS = {"rest": ".percpu.rest", "aligned": ".percpu..aligned.aligned", "near": ".percpu..near.near"}
FLAGS = {"": (), "gc-sections": ("--gc-sections",), "pie": ("-pie", "--no-dynamic-linker", "-z", "text")}
MACRO = '{% from "percpu/macro.ld.j2" import percpu with context %}\n'


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join((way.script, way.linker, way.mode, way.layout, way.link or "plain")))
def test_it_is_right_or_refused(tmp_path: Path, way: Way) -> None:
    for script in ways.SCRIPTS[way.script]:
        if way.refusal is None:
            link_and_judge(tmp_path, way, script)
            continue
        with pytest.raises(PercpuError) as refusal:
            scripts_of(tmp_path, way, script)
        assert way.refusal in refusal.value.message
        assert refusal.value.fix


def test_the_guide_shows_the_table() -> None:
    assert ways.guide_table() in (ldscripts() / "GUIDE.md").read_text(encoding="utf-8")


def link_and_judge(tmp_path: Path, way: Way, script: str) -> None:
    scripts = scripts_of(tmp_path, way, script)
    said = {"features": ",".join(way.features)} if way.features else {}
    source = source_of(way) + toolchain.note(arch="x86_64", layout=way.layout, **said)
    pic = ("-fpie", "-mcmodel=small") if way.link == "pie" else ("-mcmodel=large",)
    kernel = toolchain.compile_c(tmp_path, source, *pic)
    # Code and data in one region make one segment, which is the script's affair.
    flags = (*FLAGS[way.link], *(["--no-warn-rwx-segments"] if way.linker == "ld" else []))
    path = toolchain.link(tmp_path, [kernel], scripts, *flags, linker=way.linker)
    report = check(path, cpu_num=None if way.layout == "none" else CPU_NUM)
    if way.finding:
        errors = [finding for finding in report.findings if finding.level == "error"]
        assert [finding.rule for finding in errors] == [way.finding] and errors[0].fix
    else:
        assert report.findings == ()
    assert report.layout.layout == way.layout
    with Image(path) as image:
        judge(image, report.layout, way)


def source_of(way: Way) -> str:
    """A kernel with per-CPU variables that its code names, except in a PIE: there, accessors alone do."""
    used = way.link != "gc-sections"
    variables = [toolchain.variable(name, value, SECTIONS[name], 64, used) for name, value in VALUES.items()]
    if used:
        return toolchain.KERNEL + "".join(variables)
    names = [f"percpu_storage_{name}" for name in VALUES]
    kernel = toolchain.KERNEL.replace("counter + cleared", " + ".join(["counter", "cleared", *names]))
    unread = toolchain.variable("unread", 1, used=False)
    return "".join(f"extern int {name};\n" for name in names) + kernel + "".join(variables) + unread


def scripts_of(folder: Path, way: Way, script: str) -> list[str]:
    """The scripts for the linker, as the tools make them from the user's `script`; PercpuError is their refusal."""
    features, given = way.features, Regions(way.regions.get("region"), way.regions.get("load_region"))
    if way.mode == "macro":
        template = folder / "kernel.ld.j2"
        template.write_text(MACRO + script.replace(ways.PLACE, "{{ percpu() }}\n"))
        return [render_template(template, CPU_NUM, "x86_64", features, way.linker, **way.regions)]
    anchor, untouched = ".data", script.replace(ways.PLACE, "")
    if way.mode == "insert":
        anchor = find_anchor(untouched or None, way.linker, way.layout, "kernel.ld")
    regions = find_regions(untouched, anchor, way.linker, way.mode, "kernel.ld", given)
    fragment = render_fragment(
        CPU_NUM, "x86_64", features, way.linker, way.mode, insert_after=anchor,
        region=regions.region, load_region=regions.load_region,
    )
    if way.mode == "insert":
        return [fragment, *([untouched] if untouched else [])]
    if way.layout == "zero-vma":
        refuse_segments(untouched, fragment, "kernel.ld")
    (folder / "percpu.ld").write_text(fragment)
    return [script.replace(ways.PLACE, "  INCLUDE percpu.ld\n")]


def judge(image: Image, model, way: Way) -> None:
    template, data, bss = (image.section(name) for name in (".percpu", ".data", ".bss"))
    offset = ways.KERNEL_VMA if "AT(" in way.script else 0
    home = (ways.FLASH, ways.FLASH + ways.LENGTH) if "flash" in way.script else (data.address - offset, bss.address - offset)
    assert home[0] <= image.load_address(template) < home[1]
    if way.layout == "none":
        assert data.end <= template.address < template.end <= bss.address
        return
    assert image.load_address(template) == model.loaded - offset
    assert template.address == (0 if way.layout == "zero-vma" else model.loaded)
    assert model.end - model.start == model.reserved == CPU_NUM * model.stride
    assert data.end <= model.start < model.end <= bss.address
    assert model.start % model.alignment == 0
    assert "flash" in way.script or model.loaded == model.start
    start = template.address
    assert {it.name: toolchain.data_at(image, template, start + it.offset, 4) for it in model.variables} == VALUES
    # Nothing of the file is loaded twice to one place.
    places = sorted((it.load_address, it.load_address + it.file_size) for it in image.segments if it.file_size)
    assert all(end <= start for (_, end), (start, _) in zip(places, places[1:]))
