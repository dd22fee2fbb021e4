"""SCons tool for per-CPU data: links a program as a kernel with per-CPU areas, and checks the result.

    env = Environment(tools=["default", "percpu"], CPU_NUM=8)   # or env.Tool("percpu", CPU_NUM=8)
    env.Program("kernel.elf", Glob("*.cpp"), LINKFLAGS="-nostdlib -static -T kernel.ld")

`env.Program` stays SCons's own; the tool adds to what it was given:

* the runtime, compiled with the environment's own flags into the program's folder `kernel.elf.percpu`;
* the linker-script fragment `percpu.ld`, rendered there and given to the linker before the scripts
  that LINKFLAGS names. Those scripts are not edited, and become dependencies;
* the check, which is a target of its own (`check.txt` there) and runs right behind the link as well, so
  that `scons kernel.elf`, or an alias that needs it, cannot succeed with a kernel that is refused. A
  refused kernel is moved into the folder, where it can be looked at and nothing takes it for built. What the
  check reads (its options, percpu.toml or pyproject.toml, and the files that these name) is a dependency.

Every compilation of the environment finds `#include <percpu/percpu.hpp>` and sees the macros of
PERCPU_FEATURES, whatever CPPPATH and CPPDEFINES say, before or after the tool was loaded.

What the compiler builds for and which linker is used is asked of the tools. The answers are kept beside
SCons's own file, as .sconsign.percpu.json, until a tool changes; the file may be deleted.

What concerns the link is read when `Program` is called, so that calls in a loop may each have their own
CPU_NUM. Every construction variable can be given to the call too: `env.Program(..., CPU_NUM=2)`. A call
whose compiler builds for another machine than the environment's, and a test of Configure, are left alone. A
compiler that is missing concerns only those who ask for a program that is made with it.

CONSTRUCTION VARIABLES

CPU_NUM
    The number of CPUs, a whole number from 1 to 65536. It has no default. A change of it renders, links
    and checks again, and compiles nothing.

PERCPU
    False leaves a call of Program, or the compilations of an environment, alone. The default is True.

PERCPU_ARCH
    The architecture: x86_64, aarch64, arm, riscv64, riscv32 or loongarch64. The default is what CXX
    builds for; another value than that is refused.

PERCPU_CACHE_LINE
    The length of a cache line in bytes, a power of two. The default is the architecture's usual one.

PERCPU_CHECK
    What a finding of the check does: "error" (the default) fails the build, "warn" prints it, "off" does
    not check.

PERCPU_CHECKCOM
    The action that checks a linked program ($SOURCE) and writes a report ($TARGET). With a command of
    your own here, the check right behind the link is not made.

PERCPU_CHECKCOMSTR
    The string displayed when a program is checked. If this is not set, a percpu-check command line that
    does the same is displayed.

PERCPU_CHECKFLAGS
    Options of percpu-check, such as "--disable T23" or ["--disable", "T23"].

PERCPU_EMIT_RELOCS
    True links with --emit-relocs: the file keeps the relocations, which no loader reads, and the check sees in
    them which code names per-CPU variables. Without them some of the rules about code cannot judge, and say
    so. The default is False.

PERCPU_FEATURES
    The features of the runtime, as a list or as a string: sp-naive, non-zero-vma, preempt, arm-el2,
    restartable, all-near, checked, large-template, pristine, base-register=NAME.

PERCPU_FRAGMENTCOM
    The action that renders the fragment.

PERCPU_FRAGMENTCOMSTR
    The string displayed when the fragment is rendered.

PERCPU_LINKER
    The linker: ld (GNU) or lld. The default is the one that the link command ends in.

PERCPU_LINKERSCRIPTCOM
    The action that renders a whole linker script from its template.

PERCPU_LINKERSCRIPTCOMSTR
    The string displayed when a whole linker script is rendered.

PERCPU_LOAD_OFFSET
    Virtual minus load address of the kernel's data, as an expression of the linker script, where the
    script places sections with AT(ADDR(...) - offset).

PERCPU_LOAD_REGION
    The region of the script's MEMORY in which the template is and stays, for firmware that runs from there
    (FLASH): with the feature pristine, init copies it from there into every area. The default is PERCPU_REGION.

PERCPU_MODE
    "insert" (the default): the fragment inserts itself into the user's script, or into the linker's own.
    "include": the user's script says INCLUDE percpu.ld, and the fragment's folder is searched for it.

PERCPU_REGION
    The region of the script's MEMORY that the areas lie in (RAM). The default is that of the section in front of
    them; GNU ld, and the mode include, need it said where there is MEMORY.

PERCPU_RUNTIMECOMSTR
    The string displayed when the runtime's source is copied into the program's folder.

PERCPU_TEMPLATE_VARIABLES
    A dictionary of further variables for the templates of PercpuLinkerScript.

BUILDERS

PercpuFragment(target, [script])
    Renders the fragment for a build that links by other means than Program. The user's linker script
    as a source tells it where to insert.

        env.PercpuFragment("percpu.ld", "kernel.ld")

PercpuCheck(target, program)
    Checks a linked program and writes the report to the target.

        env.PercpuCheck("kernel.check.txt", "kernel.elf")

PercpuLinkerScript(target, template)
    Renders a whole linker script from a Jinja2 template, which may {% include "percpu.ld.j2" %}.

        env.PercpuLinkerScript("kernel.ld", "kernel.ld.j2")
"""

from . import packages

packages.find()

from . import builders, compilation, helptext, program, variables


def generate(env, **given):
    """Adds the construction variables and builders of the tool to `env`, and sets those that are `given`."""
    variables.set_given(env, given)
    compilation.generate(env)
    builders.generate(env)
    program.generate(env)
    helptext.generate(env)


def exists(env):
    """The tool needs nothing but itself."""
    return True
