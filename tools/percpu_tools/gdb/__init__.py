"""Per-CPU variables in GDB: `extension` is what GDB sources, and `percpu-config --gdb` says where it lies.

GDB runs it with a Python of its own, to which `extension` lends pyelftools. `kernel` and `extension`
import GDB's module; the others do not, and are tested without it.
"""
