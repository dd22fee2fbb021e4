"""What `scons -h` says of the tool."""

import SCons.Script

_TEXT = """
Per-CPU data (env.Tool('percpu')):
  CPU_NUM            number of CPUs, 1 to 65536
  PERCPU_FEATURES    sp-naive non-zero-vma preempt arm-el2 restartable all-near checked large-template
                     pristine base-register=NAME
  PERCPU_CHECK       what a finding of percpu-check does: error, warn, off
  The others, and the builders, are described in the tool's own file: %s
"""

_said = False


def generate(env):
    """Adds the text once, and only where it is asked for."""
    global _said
    if not _said and SCons.Script.GetOption("help"):
        from . import __file__ as here

        _said = True
        # To append to no text would put all of SCons's options in front, also where the project goes on with its own.
        env.Help(_TEXT % here, append=SCons.Script.help_text is not None)
