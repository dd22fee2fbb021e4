"""How a wrong input reaches the user: as SCons says such things, in one line and with status 2."""

import contextlib

import SCons.Errors
from percpu_tools.errors import PercpuError


@contextlib.contextmanager
def said_plainly(name=None):
    """Turns percpu's own errors into SCons's; `name` is the target that they concern.

    StopError rather than UserError: the latter adds the deepest line of Python that is not SCons's,
    which would be a line of this tool, and not the user's.
    """
    try:
        yield
    except PercpuError as error:
        where = f"percpu: {name}: " if name else "percpu: "
        raise SCons.Errors.StopError(where + str(error)) from None
