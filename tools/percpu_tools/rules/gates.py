"""Rules about what the caller allows: a budget, and the growth since an older build."""

from __future__ import annotations

from collections.abc import Iterator

from percpu_tools.compare import compare
from percpu_tools.findings import Finding
from percpu_tools.image import Image
from percpu_tools.layout import Layout
from percpu_tools.rules import rule


@rule("G01", "over-budget", "the template is larger than --budget allows", needs_symbols=False)
def over_budget(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      Every byte of the template is paid CPU_NUM times. --budget BYTES, or `budget` in the configuration, says
      how large it may be, on one CPU.

    Reproduce
      percpu-check --budget 1024 kernel.elf

    Mend
      1. Look at the largest variables of the report: a buffer may be allocated on each CPU after init.
      2. Sort out holes: alignments that are larger than they need be.
      3. Raise the budget.
    """
    if layout.budget is None or layout.template_size is None or layout.template_size <= layout.budget:
        return
    largest = max(layout.variables, key=lambda variable: variable.size, default=None)
    total = f"; {layout.template_size * layout.cpu_num} bytes on {layout.cpu_num} CPUs" if layout.cpu_num else ""
    yield Finding(
        "error",
        f"the template is {layout.template_size - layout.budget} bytes over its budget",
        symbol=largest.symbol if largest else None,
        section=layout.section.name if layout.section else None,
        found=f"{layout.template_size} bytes on each CPU{total}",
        expected=f"at most {layout.budget} bytes on each CPU",
        fix=(
            f"make {largest.name}, the largest with {largest.size} bytes, smaller, or allocate it on each CPU after init" if largest else "define fewer variables",
            "raise the budget",
        ),
    )


@rule("G02", "template-grew", "the template is larger than in --baseline", needs_symbols=False)
def template_grew(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      --baseline OLD.elf, or `baseline` in the configuration, compares the layout with that of an older
      build. Growth is paid CPU_NUM times. This is a note, and no fault; the configuration can raise it to a
      warning or an error ([severity] G02 = "error").

    Reproduce
      percpu-check --baseline release/kernel.elf kernel.elf

    Mend
      1. Look at what was added and what grew: a buffer may be allocated on each CPU after init.
      2. Take the new build as the baseline.
    """
    if layout.baseline is None:
        return
    comparison = compare(layout.baseline, layout)
    if comparison.template <= 0:
        return
    culprits = [change.name for change in comparison.changes if change.bytes > 0]
    memory = "" if comparison.memory is None else f", {comparison.memory:+} bytes for all CPUs"
    yield Finding(
        "note",
        f"the template grew by {comparison.template} bytes since {layout.baseline.file}{memory}",
        section=layout.section.name if layout.section else None,
        found=f"{layout.template_size} bytes" + (f"; added or grew: {', '.join(culprits[:5])}" if culprits else ""),
        expected=f"{layout.baseline.template_size or 0} bytes, as in {layout.baseline.file}",
        fix=("look at what was added and what grew", "take the new build as the baseline"),
    )
