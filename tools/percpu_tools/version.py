"""The version of the whole project, in its one home."""

__version__ = "0.1.0"
