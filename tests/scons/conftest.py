from __future__ import annotations

from pathlib import Path

import pytest
from scons.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The kernel's sources, with a script and an SConstruct as a user would write them."""
    return Project(tmp_path / "project")
