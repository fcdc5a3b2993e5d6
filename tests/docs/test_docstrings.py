"""Docstrings begin with a short sentence, and describe the arguments of what others call."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ingestlab

PACKAGE = Path(ingestlab.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
WORDS = 12


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def first_sentences(path: Path) -> dict[str, str]:
    nodes = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    lines = {f"{path.name}:{n.lineno} {n.name}": (ast.get_docstring(n) or "").split("\n")[0] for n in nodes}
    return {place: re.split(r"(?<=[^.A-Z][.:!])\s", line)[0] for place, line in lines.items()}


def test_docstrings_begin_with_a_short_sentence() -> None:
    sentences = {f"{path}, {place}": text for path in FILES for place, text in first_sentences(path).items()}
    assert len(sentences) > 3000
    assert not [f"{place}: {text}" for place, text in sentences.items() if len(text.split()) > WORDS]


def test_the_measure_sees_long_sentences(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('def f():\n    """Short. ' + "long " * 20 + '."""\ndef g():\n    """' + "long " * 20 + '."""\n')
    assert [len(text.split()) > WORDS for text in first_sentences(file).values()] == [False, True]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def taken_elsewhere(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """List the names that modules of other rooms take from a module."""
    taken = set()
    for module, tree in trees.items():
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    taken |= {(node.module, alias.name)} if room(node.module) != room(module) else set()
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                home = modules.get(node.value.id, module)
                taken |= {(home, node.attr)} if room(home) != room(module) else set()
    return taken


def functions_of(node: ast.stmt) -> Iterator[tuple[str, list[str], str]]:
    """List the public functions with docstrings that a statement defines: name, parameters and docstring."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        names = [a.arg for a in arguments if a and a.arg not in ("self", "cls")]
        if doc := ast.get_docstring(node):
            yield node.name, names, doc
    elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        yield from (function for inner in node.body for function in functions_of(inner))


def argument_faults(trees: dict[str, ast.Module], user: set[tuple[str, str]]) -> list[str]:
    """List functions that do not describe their arguments, or describe others.

    A user's functions, the methods of Protocols and what another room imports have `Args`; what takes a single
    argument need not, but for a user's, nor do methods that keep a Protocol's promise.
    """
    doors, taken = [tree for name, tree in trees.items() if room(name) == "interfaces"], taken_elsewhere(trees)
    classes = [node for door in doors for node in door.body if isinstance(node, ast.ClassDef)]
    promised = {name for node in classes for name, *_ in functions_of(node)}
    faults = []
    for module, tree in trees.items():
        for node in tree.body:
            place = (module, getattr(node, "name", ""))
            for name, arguments, doc in functions_of(node):
                needed = place in user or (len(arguments) > 1 and (place in taken or tree in doors))
                if module.startswith("ingestlab.cli.") or (name in promised and tree not in doors):
                    needed = False
                section = re.search(r"^Args:\n((?: {4}.*\n?|\n(?= ))+)", doc, re.MULTILINE)
                told = re.findall(r"^ {4}\*{0,2}(\w+): ", section[1] if section else "", re.MULTILINE)
                if (needed or section) and sorted(told) != sorted(arguments):
                    faults.append(f"{module}.{name}: {arguments}, and told are {told}")
    return faults


def test_arguments_are_described() -> None:
    paths = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in FILES}
    trees = {name.removesuffix(".__init__"): tree_of(path) for name, path in paths.items()}
    assert not argument_faults(trees, {(getattr(ingestlab, n).__module__, n) for n in ingestlab.__all__})


def test_the_measure_sees_missing_arguments() -> None:
    lines = "def f(a, b):\n    '''Do.'''\ndef g(a, b):\n    '''Do.\n\n    Args:\n        a: A.\n    '''"
    trees = {
        "ingestlab.lake.a": ast.parse(lines),
        "ingestlab.interfaces.a": ast.parse("class P:\n    def k(self, a, b):\n        '''Do.'''"),
        "ingestlab.cli.b": ast.parse("from ingestlab.lake.a import f, g"),
        "ingestlab.user": ast.parse("class C:\n    def h(self, a):\n        '''Do.'''"),
    }
    assert [fault.split(":")[0].split(".")[-1] for fault in argument_faults(trees, {("ingestlab.user", "C")})] == [
        *"fgkh"
    ]
