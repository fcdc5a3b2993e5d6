"""A connector's configuration: secrets come from the environment, and are in no text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ingestlab.core.errors import TerminalError

HIDDEN = "***"
_SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|api_?key|private_?key|^key$|credential", re.IGNORECASE)
_SHORT = 4  # characters; shorter ones would be found in any text


def filled(config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Put values in the place of references, ``{"env": "SHOP_KEY"}``.

    Args:
        config: As the pipeline declares it.
        environment: Where the values are.

    Raises:
        TerminalError: A variable is not set.
    """
    full: dict[str, Any] = _filled(dict(config), environment)
    return full


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    name = referred(value)
    if name is not None:
        if name not in environment:
            problem = f"The environment variable {name} is not set"
            fix = "Set it where the workers run; the connector's config refers to it."
            raise TerminalError(problem, fix=fix, code="credentials_invalid")
        return environment[name]
    if isinstance(value, Mapping):
        return {key: _filled(inner, environment) for key, inner in value.items()}
    return [_filled(inner, environment) for inner in value] if isinstance(value, list | tuple) else value


def referred(value: Any) -> str | None:
    """Return the variable that a value refers to. None for any other value."""
    if isinstance(value, Mapping) and set(value) == {"env"} and isinstance(value["env"], str):
        return str(value["env"])
    return None


def concealing(config: Mapping[str, Any], full: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function that takes secrets out of texts.

    Secret is what came from the environment, and what is called so.

    Args:
        config: With references.
        full: With values.
    """
    forms = {form for secret in _secrets(config, full) for form in _forms(secret)}
    if not forms:
        return str
    pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
    return lambda text: pattern.sub(HIDDEN, text)


def _secrets(config: Any, full: Any, name: str = "") -> Iterator[str]:
    if referred(config) is not None or (not isinstance(full, Mapping | list | tuple) and _SECRET.search(name)):
        yield str(full)
    elif isinstance(full, Mapping):
        for key, inner in full.items():
            yield from _secrets(config[key], inner, str(key))
    elif isinstance(full, list | tuple):
        for declared, inner in zip(config, full, strict=True):
            yield from _secrets(declared, inner, name)


def _forms(secret: str) -> Iterator[str]:
    """List what a secret looks like in texts."""
    for text in {secret, *secret.splitlines()}:
        if len(text.strip()) >= _SHORT:
            yield from (text, json.dumps(text)[1:-1], repr(text)[1:-1], quote(text, safe=""))
