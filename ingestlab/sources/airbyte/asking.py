"""What a connector answers at once: its specification, whether it can connect, and its streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.sources.airbyte.catalog import Stream, streams_of
from ingestlab.sources.airbyte.config import concealing, filled
from ingestlab.sources.airbyte.installed import Program
from ingestlab.sources.airbyte.messages import Listener, in_line, parse
from ingestlab.sources.airbyte.process import files, running

Tell = Callable[[str], None]


async def specification(program: Program, settings: Settings, tell: Tell) -> Mapping[str, Any]:
    """Ask a connector what its configuration is like.

    Args:
        program: The connector.
        settings: Have the limits.
        tell: Takes lines of its log.

    Raises:
        IngestError: It does not say so.
    """
    listener = Listener(program.connector, tell, str)
    with files({}) as paths:
        spec: Mapping[str, Any] = await _answer(program, "spec", paths, settings, listener)
    return spec


async def check(program: Program, config: Mapping[str, Any], settings: Settings, tell: Tell) -> None:
    """Ask a connector whether it can connect.

    Args:
        program: The connector.
        config: With references to secrets.
        settings: Have the limits.
        tell: Takes lines of its log.

    Raises:
        IngestError: It cannot, or the configuration is wrong; with the connector's own words.
    """
    full = filled(config)
    listener = Listener(program.connector, tell, concealing(config, full))
    with files({"config": full}) as paths:
        status = await _answer(program, "check", paths, settings, listener)
    if status.get("status") != "SUCCEEDED":
        said = listener.conceal(in_line(str(status.get("message") or "no reason")))
        problem, fix = f"{program.connector} cannot connect", "Correct its config; its documentation helps."
        raise TerminalError(problem, got=said, fix=fix, code="connector_refuses")


async def discover(program: Program, config: Mapping[str, Any], settings: Settings, tell: Tell) -> list[Stream]:
    """Ask a connector for its streams.

    Args:
        program: The connector.
        config: With references to secrets.
        settings: Have the limits.
        tell: Takes lines of its log.

    Raises:
        IngestError: It does not list them.
    """
    full = filled(config)
    listener = Listener(program.connector, tell, concealing(config, full))
    with files({"config": full}) as paths:
        return streams_of(await _answer(program, "discover", paths, settings, listener))


_ANSWERS = {"spec": "spec", "check": "connectionStatus", "discover": "catalog"}  # where the answer stands


async def _answer(
    program: Program, command: str, paths: Mapping[str, str], settings: Settings, listener: Listener
) -> Mapping[str, Any]:
    """Run a command to its end; returns its answer."""
    answer: Mapping[str, Any] | None = None
    async with running(program, command, paths, settings) as connector:
        async for lines in connector.lines():
            answer = _heard(lines, _ANSWERS[command], listener) or answer
        answer = _heard([connector.ending.rest], _ANSWERS[command], listener) or answer
    error = listener.failure(connector.ending.code, connector.ending.stderr)
    if answer is not None and (error is None or command == "check"):  # some end with 1 where the check has failed
        return answer
    if error is not None:
        raise error
    problem = f"{program.connector} gave no answer to '{command}'"
    raise TerminalError(problem, got=connector.ending.stderr, code="connector_invalid")


def _heard(lines: list[bytes], wanted: str, listener: Listener) -> Mapping[str, Any] | None:
    answer = None
    for line in lines:
        message = parse(line)
        if message is None:
            listener.noise(line)
        elif isinstance(message.get(wanted), dict):
            listener.spoke = True
            answer = message[wanted]
        else:
            listener.hear(message)
    return answer
