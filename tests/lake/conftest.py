"""What tests of lakes share."""

from __future__ import annotations

import secrets

import fsspec
import pytest


@pytest.fixture
def bucket(s3) -> str:
    """An empty bucket's name."""
    name = f"b-{secrets.token_hex(4)}"
    fsspec.filesystem("s3", **s3).mkdir(name)
    return name
