"""What the command line says of itself: its version, and its commands by what they are for."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

from support.commands import Say

from ingestlab.cli import GROUPS
from ingestlab.core.version import VERSION

OF_COMMANDS = {
    "Ingest files": ["schedule"],
    "Write pipelines and notebooks": ["airbyte"],
    "Run the system": ["tenant"],
}


def test_the_version_is_printed(say: Say) -> None:
    assert say("--version").stdout == f"ingestlab {VERSION}\n"


def test_help_shows_the_commands_in_five_groups(say: Say) -> None:
    shown = say("--help").stdout
    headings = re.findall(r"^╭─ ([^─]+) ─", shown, re.MULTILINE)
    assert headings == ["Options", *GROUPS]
    for group, commands in GROUPS.items():
        panel = shown.partition(f"╭─ {group} ")[2].partition("╰")[0]
        names = re.findall(r"^│ ([a-z-]+) ", panel, re.MULTILINE)
        listed = [command.__name__.replace("_", "-") for command in commands]
        assert names == [*listed, *OF_COMMANDS.get(group, [])], group


def test_json_has_no_colours_in_a_pipe(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = cli("errors", "--json", FORCE_COLOR="1")  # as the kernels of notebooks say
    assert json.loads(done.stdout)
