"""Pipelines are found by name or by file name, and loaded from their source text.

A pipeline travels to Dask workers as text with its hash, not as an import: an edited file takes effect on
the next job, on every machine, with no restart.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import ModuleType

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import IngestError, TerminalError, did_you_mean, let_pass, words_of
from ingestlab.core.extras import quiet_pyspark
from ingestlab.core.models import Value
from ingestlab.core.plugins import installed, plugins
from ingestlab.core.plugins import load as load_plugin
from ingestlab.core.settings import Settings
from ingestlab.pipeline.pipeline import Pipeline

log = logging.getLogger("ingestlab.pipeline.catalog")
ENTRY_POINTS = "ingestlab.pipelines"
_MODULE = "ingestlab_pipeline_"  # what the names of the modules of pipelines start with
PACKED = (".gz", ".bz2", ".xz", ".zst")
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


class PipelineSource(Value):
    """Text of a pipeline, and where it came from."""

    name: str
    origin: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash the code: part of every run's provenance."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Catalog:
    """Pipelines that there are at one moment, by name."""

    sources: Mapping[str, PipelineSource]
    folders: tuple[str, ...]

    @classmethod
    def read(cls, settings: Settings) -> Catalog:
        """Read the folders of the settings, then entry points. The first name counts."""
        sources: dict[str, PipelineSource] = {}
        files = [file for folder in settings.pipelines for file in sorted(Path(folder).expanduser().glob("*.py"))]
        named = [(file.stem, str(file)) for file in files if not file.name.startswith("_")]
        declared = [(point.name, _file_of(point.module)) for point in installed().select(group=ENTRY_POINTS)]
        for name, file in [*named, *declared]:
            if name not in sources and any(fnmatchcase(name, allowed) for allowed in settings.allow_pipelines):
                sources[name] = PipelineSource(name=name, origin=file, text=_text(Path(file)))
        return cls(sources, settings.pipelines)

    def named(self, name: str) -> PipelineSource:
        """Find a pipeline by name.

        Raises:
            TerminalError: There is none; it has the names there are.
        """
        if name not in self.sources:
            have = ", ".join(sorted(self.sources)) or "there is none"
            raise TerminalError(
                f"There is no pipeline '{name}'",
                expected=f"a pipeline in {', '.join(self.folders)} ({have})",
                got=f"'{name}'",
                fix=did_you_mean(name, self.sources, "Check the name, or set INGESTLAB_PIPELINES."),
                code="pipeline_unknown",
            )
        return self.sources[name]

    def loadable(self, name: str) -> PipelineSource | None:
        """Find a pipeline that is here and loads, or None."""
        source = self.sources.get(name)
        try:
            return source if source and load(source) else None
        except TerminalError:
            return None

    def matching(self, filename: str, table: str = "") -> PipelineSource:
        """Find the pipeline that matches a file's name, else a generic one.

        Args:
            filename: Without folders.
            table: For files that no pipeline matches; named by :func:`kind_of` if empty.

        Raises:
            TerminalError: Two pipelines match; or none does, and one that may be meant for the file does not load, or
                the format is not known.
        """
        patterns, broken = self._matches
        name = filename.lower()
        hits = [source for source, pattern in patterns if pattern.match(name)]
        if len(hits) > 1:
            names = ", ".join(s.name for s in hits)
            raise TerminalError(
                f"Several pipelines match {filename}",
                expected=f"one pipeline that matches {filename}",
                got=f"{len(hits)}: {names}",
                fix="Name one of them.",
                code="pipeline_ambiguous",
            )
        if hits:
            return hits[0]
        for may_take in (_names, _may_name):  # a file for a pipeline that is being edited: better none than another
            if error := next((error for source, error in broken if may_take(source, filename)), None):
                raise error
        return generic(filename, table or self._table_for(filename))

    @property
    def broken(self) -> list[str]:
        """The names of pipelines that do not load."""
        return [source.name for source, _ in self._matches[1]]

    def _table_for(self, filename: str) -> str:
        """Name a table for files that no pipeline takes. It is no pipeline's own."""
        name = kind_of(filename)
        return f"{name}_files" if name in self._tables else name

    @cached_property
    def _tables(self) -> frozenset[str | None]:
        return frozenset(load(source).table for source in map(self.loadable, self.sources) if source)

    @cached_property
    def _matches(
        self,
    ) -> tuple[list[tuple[PipelineSource, re.Pattern[str]]], list[tuple[PipelineSource, TerminalError]]]:
        """Compile what each pipeline matches; list those that do not load."""
        patterns, broken = [], []
        for source in self.sources.values():
            try:
                matches = load(source).matches
            except TerminalError as error:
                log.warning("%s Other files that no pipeline matches are read with types inferred.", error)
                broken.append((source, error))
            else:
                if matches:
                    patterns.append((source, re.compile("|".join(translate(match.lower()) for match in matches))))
        return patterns, broken


def kind_of(filename: str) -> str:
    """Name the kind of a file: ``alarm-2017-10-23-vn.csv.gz`` is ``alarm``, and ``2017.csv`` one of ``csv_files``.

    Args:
        filename: Without folders.
    """
    stem, suffix = split_name(filename)
    words = re.split(r"[\W_]*\d", stem)[0]
    name = re.sub(r"\W+", "_", words, flags=re.ASCII).strip("_")[:80]
    return name or f"{suffix.removeprefix('.').lower() or 'other'}_files"


def split_name(filename: str) -> tuple[str, str]:
    """Split a file's name into stem and suffix, compression left out.

    Args:
        filename: Without folders.
    """
    plain = next((filename[: -len(s)] for s in PACKED if filename.lower().endswith(s)), filename)
    stem, dot, suffix = plain.rpartition(".")
    return (stem, dot + suffix) if stem else (plain, "")


def generic(filename: str, table: str) -> PipelineSource:
    """Make the pipeline for files that none matches. They are read as the format says, types inferred.

    Args:
        filename: Without folders; its suffix names the format.
        table: Where the rows go.
    """
    suffix, kind = format_of(filename)
    if kind:
        imports = f"from ingestlab import {kind.__name__}, Pipeline"
        if foreign(kind):
            imports = f"from ingestlab import Pipeline\nfrom {kind.__module__} import {kind.__name__}"
        reader = f"{kind.__name__}({getattr(kind, 'generic', '')})"
        text = f"{imports}\nPIPELINE = Pipeline(reader={reader})\n"
        return PipelineSource(name=table, origin=f"generic{suffix}", text=text)
    if filename.lower().endswith(ARCHIVES):
        raise TerminalError(
            f"No pipeline matches the archive '{filename}'",
            expected="a file that some pipeline matches: nobody says what to read in an archive, and into which table",
            got=f"the archive '{filename}'",
            fix='Write a pipeline with reader=Archive(reader=Csv(), members="*.csv"), and name it with --pipeline.',
            code="pipeline_unknown",
        )
    raise TerminalError(
        f"No pipeline matches '{filename}'",
        expected=f"a file that some pipeline matches, or a format known by its suffix ({', '.join(formats())})",
        got=f"'{filename}'",
        fix="Name a pipeline with --pipeline, or add its pattern to a pipeline's `matches`.",
        code="pipeline_unknown",
    )


def format_of(filename: str) -> tuple[str, type | None]:
    """Find a file name's suffix without compression, and its format, if any."""
    stem = filename.lower()
    for suffix in PACKED:
        stem = stem.removesuffix(suffix)
    return max(
        ((s, kind) for s, kind in formats().items() if stem.endswith(s)), key=lambda f: len(f[0]), default=("", None)
    )


def foreign(kind: type) -> bool:
    """Tell whether a format is another package's."""
    return not kind.__module__.startswith("ingestlab.")


@cache
def formats() -> dict[str, type]:
    """List the formats of files that no pipeline matches, by suffix."""
    known: dict[str, type] = {}
    for name in plugins("formats"):
        try:
            kind = load_plugin("formats", name)
        except TerminalError as error:  # one that is broken must not take the others along
            log.warning("%s", error)
        else:
            known |= dict.fromkeys(getattr(kind, "suffixes", ()), kind)
    return known


@lru_cache(maxsize=64)
def load(source: PipelineSource) -> Pipeline:
    """Run a pipeline's text as a module. Returns its ``PIPELINE``, named and checked.

    Raises:
        TerminalError: The text does not run, or declares no pipeline.
    """
    module = ModuleType(f"{_MODULE}{source.name.replace('-', '_').replace('.', '_')}_{source.sha256[:12]}")
    module.__file__ = source.origin
    sys.modules[module.__name__] = module  # pandera and pickle look a class's module up
    filename = f"<{source.origin} {source.sha256[:8]}>"
    linecache.cache[filename] = (len(source.text), None, source.text.splitlines(keepends=True), filename)
    quiet_pyspark()
    try:
        exec(compile(source.text, filename, "exec"), module.__dict__)  # noqa: S102 - this is what a plug-in file is
    except BaseException as error:  # a user's file may raise anything
        let_pass(error)
        raise blame(error, f"Pipeline '{source.name}' does not load from {source.origin}", "Correct it.") from error
    pipeline = getattr(module, "PIPELINE", None)
    if not isinstance(pipeline, Pipeline):
        raise TerminalError(
            "The file declares no pipeline",
            expected=f"PIPELINE = Pipeline(...) in {source.origin}",
            got=f"{type(pipeline).__name__}",
            fix="Declare one at its end.",
            code="pipeline_invalid",
        )
    return pipeline.named(source.name)


def check_syntax(source: PipelineSource) -> None:
    """Parse a pipeline's text without running it. Raises TerminalError if it is no Python."""
    try:
        compile(source.text, f"<{source.origin} {source.sha256[:8]}>", "exec")
    except (SyntaxError, ValueError) as error:  # the latter: a null byte
        raise blame(error, f"Pipeline '{source.name}' does not load from {source.origin}", "Correct it.") from error


def blame(error: BaseException, problem: str, fix: str, code: Code = "pipeline_invalid") -> TerminalError:
    """Translate an exception from a pipeline's code, naming its line.

    Args:
        error: The exception.
        problem: What could not be done.
        fix: What to do, unless the exception says so.
        code: Of the error.
    """
    lines = [
        (str(frame.f_globals.get("__file__")), number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(_MODULE)
    ]
    text = words_of(error)
    if isinstance(error, SyntaxError):
        text = error.msg
        lines.append((str(error.filename).removeprefix("<").rsplit(" ", 1)[0], error.lineno or 0))
    place = ", in {}, line {}".format(*lines[-1]) if lines else ""
    if isinstance(error, IngestError):
        return TerminalError(f"{problem}{place}: {error.reason}", fix=error.fix or fix, code=code)
    got = f"{type(error).__name__}: {' '.join(text.split())[:2000]}{place}"
    return TerminalError(problem, got=got, fix=fix, code=code)


def _names(source: PipelineSource, filename: str) -> bool:
    """Tell whether a broken pipeline has a pattern for a file. What braces stand for in a text is not known."""
    texts = re.findall(r"""(?<=["'])[^"'\n]+(?=["'])""", source.text)
    return any(fnmatchcase(filename.lower(), re.sub(r"\{[^}]*\}", "*", text.lower())) for text in texts)


def _may_name(source: PipelineSource, filename: str) -> bool:
    """Tell whether a broken pipeline may be a file's: by its name, or by patterns that its text does not show."""
    unseen = re.search(r"\bmatches\s*=\s*(?![\s\[(]*[\"'])", source.text)
    return bool(unseen) or kind_of(filename).lower() == source.name.lower()


@cache
def _file_of(module: str) -> str:
    """Find the file of an installed module. One that is missing gives its name, reported when it is read."""
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    return spec.origin if spec and spec.origin else module


def _text(file: Path) -> str:
    """Read a pipeline's text. An unreadable file gives a text that says so when it is run."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        return f"raise RuntimeError({str(error)!r})  # matches=?\n"
