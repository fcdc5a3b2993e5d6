"""Make the pages on the command line and the settings of the code, when mkdocs builds the site.

A page asks for a table by a comment: ``<!-- generated: cli -->`` or ``<!-- generated: settings -->``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from ingestlab.cli import GROUPS, app
from ingestlab.core.settings import Settings

MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):<code>~?")


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Put what a page asks for in the place of its comment."""
    return MARK.sub(lambda mark: {"cli": cli, "settings": settings}[mark[1]](), markdown)


def on_page_content(html: str, **_context: Any) -> str:
    """Show the names that docstrings mark as Sphinx does, such as :class:`Csv`, as plain code."""
    return ROLE.sub(r"<code>", html)


def cli() -> str:
    """Describe every command: usage, what it does, arguments and options."""
    commands = dict(_commands(typer.main.get_command(app)))
    groups = [
        "\n\n".join([f"## {group}", *(_command(name, c) for name, c in commands.items() if c.rich_help_panel == group)])
        for group in GROUPS
    ]
    return "\n\n".join(groups)


def _commands(group: Any, before: str = "", panel: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all commands by name. Those of a group follow each other, as if they were one's."""
    for name, command in group.commands.items():
        command.rich_help_panel = panel or command.rich_help_panel
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ", command.rich_help_panel)
        else:
            yield f"{before}{name}", command


def _command(name: str, command: Any) -> str:
    usage = " ".join(["ingestlab", name, *_usage(command.params)])
    rows = [
        (_spelling(p), _plain(p.help or ""), _default(p)) for p in command.params if not getattr(p, "hidden", False)
    ]
    table = _table(("argument or option", "meaning", "default"), rows) if rows else ""
    return f"### `{name}`\n\n{_plain(command.help or '')}\n\n```console\n$ {usage}\n```\n\n{table}"


def _usage(params: list[Any]) -> Iterator[str]:
    for param in params:
        if param.param_type_name == "argument":
            word = _metavar(param) + ("..." if param.nargs == -1 else "")
            yield word if param.required else f"[{word}]"
    if any(param.param_type_name == "option" for param in params):
        yield "[OPTIONS]"


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper()).strip("[]{}.…")


def _spelling(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{_metavar(param)}`"
    value = "" if param.is_flag else f" {_metavar(param)}"
    return ", ".join(f"`{name}{value}`" for name in (*reversed(param.opts), *param.secondary_opts))


def _default(param: Any) -> str:
    if param.required:
        return "required"
    return "" if callable(param.default) or param.default in {None, False, ()} else f"`{param.default}`"


def settings() -> str:
    """List every setting with its environment variables, its default and its meaning."""
    meanings = _attribute_docstrings(Settings)
    rows = [
        (f"`{name}`", _variables(name), _value(field), meanings[name]) for name, field in Settings.model_fields.items()
    ]
    return _table(("setting", "environment variable", "default", "meaning"), rows)


def _variables(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    names = getattr(alias, "choices", [f"INGESTLAB_{name.upper()}"])
    return ", ".join(f"`{variable}`" for variable in names)


def _value(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None or default in ("", ()):
        return ""
    text = (
        ",".join(f"{word:g}" if isinstance(word, float | int) else str(word) for word in default)
        if isinstance(default, tuple)
        else f"{default}"
    )
    return f"`{text}`"


def _attribute_docstrings(model: type) -> dict[str, str]:
    """The string below each attribute of a class, as pydantic and mkdocstrings read it."""
    (body,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(body, ast.ClassDef)
    pairs = zip(body.body, body.body[1:], strict=False)
    return {
        attribute.target.id: _plain(ast.literal_eval(text.value))
        for attribute, text in pairs
        if isinstance(attribute, ast.AnnAssign)
        and isinstance(attribute.target, ast.Name)
        and isinstance(text, ast.Expr)
    }


def _plain(text: str) -> str:
    return " ".join(text.split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
