"""HTML from the package's templates, which escape every value that is put into them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: Its file, from the package's root: ``stack/templates/folder.html``.
        values: What it shows; ``markupsafe.Markup`` alone is taken for HTML.
    """
    return _environment().get_template(template).render(values)


def macro(template: str, name: str, **values: Any) -> str:
    """Fill one of the parts that a template defines.

    Args:
        template: Its file, from the package's root.
        name: That of the macro.
        values: Its arguments.
    """
    return str(getattr(_environment().get_template(template).module, name)(**values)).strip()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - slow to import, and seldom needed

    loader = PackageLoader("ingestlab", package_path="")
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["thousands"] = "{:,}".format
    return env
