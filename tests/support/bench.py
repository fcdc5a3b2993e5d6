"""A running stack, a server with bad files, and every way to look at what became of them."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import redis
from click.testing import Result
from rq.job import Job
from typer.testing import CliRunner

from ingestlab.cli import app
from ingestlab.core.archive_uri import without_name
from ingestlab.core.errors import IngestError
from ingestlab.core.models import IngestRequest, Outcome, Tally
from ingestlab.core.settings import Settings
from ingestlab.lake import layout
from ingestlab.lake.log import live_parts, manifests, tables_of
from ingestlab.lake.storage.store import open_store
from ingestlab.notebook import LabRun
from ingestlab.queue.results import JobRef, RunRecord, RunResult
from ingestlab.queue.rq.queueing import enqueue, fetch_job, open_queue
from ingestlab.queue.run import Run, find_run
from support.bad_files import csv
from support.servers import Server


class Bench:
    """One stack and one server, for the tests of a module."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self.settings, self.server = settings, server
        self.client = redis.Redis.from_url(settings.redis)
        self.store = open_store(settings.lake_url)
        self.lake = Path(settings.lake_url)
        self._count = 0

    def serve(self, name: str, data: bytes) -> str:
        """Puts a file on the server, under a name that no other test has if there is a # in it."""
        self._count += 1
        name = name.replace("#", str(self._count))
        self.server.files[name] = data
        return self.server.url(f"files/{name}")

    def good(self, rows: int = 5, table: str = "small") -> str:
        """A new file of good rows and one bad one."""
        return self.serve(f"{table}-good#.csv", csv(rows))

    def cli(self, *args: str) -> Result:
        """The command line, in this process."""
        return CliRunner().invoke(app, [*args, "--home", str(self.settings.home)], env={"COLUMNS": "400"})

    def submit(self, *uris: str, **options: str) -> Seen:
        """What a person sees who submits, waits, and looks again."""
        shown = self.cli("submit", "--wait", *uris, *flags(options))
        match = re.search(r"^run (\S+) \w+.*:", shown.output, re.MULTILINE)
        assert match, shown.output
        return self.see(match[1], shown)

    def see(self, run: str, shown: Result | None = None) -> Seen:
        again = self.cli("show", run, "--wait")
        return Seen(find_run(run, self.settings), shown or again, again)

    def push(self, request: IngestRequest) -> Seen:
        """Puts a request on the queue as nobody should: without asking whether it is allowed."""
        job, new = enqueue(open_queue(self.client, self.settings.queue), request, self.settings)
        assert new
        record = RunRecord(
            id=request.run,
            queue=self.settings.queue,
            tenant=request.tenant,
            pipeline=request.pipeline,
            files=len(request.sources),
            jobs=(JobRef(id=job, run=request.run),),
        )
        Run(record, self.settings, self.client).save()
        return self.see(request.run)

    def rows(self, uri: str, table: str = "small") -> Counter[str]:
        """The published rows of a source, as a reader that knows nothing of ingestlab finds them."""
        return self._sources(layout.table("default", table), "_source", uri)

    def rejects(self, uri: str, table: str = "small") -> Counter[str]:
        """The rejected rows of a source, likewise."""
        return self._sources(layout.table("default", layout.rejects(table)), "source", uri)

    def assert_committed(self, seen: Seen, uri: str, rows: int = 5, table: str = "small") -> None:
        """A good file is told to be committed, each of its rows is published once, and its bad one is kept aside."""
        outcome = seen.outcome(uri)
        assert (outcome.status, outcome.table) == ("committed", table)
        assert outcome.tally == Tally(rows_in=rows + 1, accepted=rows, rejected=1, out=rows)
        assert self.rows(uri, table) == Counter(range(rows))
        assert self.rejects(uri, table) == Counter([rows])

    def _sources(self, folder: str, column: str, uri: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for path in (self.lake / folder).rglob("*.parquet"):
            data = pq.ParquetFile(path).read([column, column.replace("source", "row")])
            pairs = zip(data[0].to_pylist(), data[1].to_pylist(), strict=True)
            counts.update(row for source, row in pairs if source == uri)
        return counts

    def published(self) -> dict[str, str]:
        """All files of tables and manifests, with their contents."""
        paths = [*self.store.walk("tables"), *self.store.walk(layout.logs())]
        contents = {p: (self.lake / p).read_bytes() for p in paths}
        return {p: hashlib.sha256(data).hexdigest() for p, data in contents.items() if data}

    def check(self) -> None:
        """The laws of a lake at rest: every part has a manifest, and nothing is half-done."""
        named = {part.target for where in tables_of(self.store) for part in live_parts(manifests(self.store, *where))}
        assert {p for p in self.store.walk("tables") if p.endswith(".parquet")} == named
        for folder in (layout.intents(), layout.stagings(), "_ingestlab/tmp"):
            assert list(self.store.walk(folder)) == []

    def queued(self) -> tuple[set[bytes], int]:
        """Every job and run that Redis knows, and how many jobs wait."""
        keys = {key for pattern in ("rq:job:*", "ingestlab:run*") for key in self.client.scan_iter(pattern)}
        return keys, open_queue(self.client, self.settings.queue).count

    def assert_untold(self, secret: str) -> None:
        """A secret is in the message that its producer wrote, and nowhere else."""
        jobs = [fetch_job(self.client, k.decode().removeprefix("rq:job:")) for k in self.client.scan_iter("rq:job:*")]
        assert any(job and secret in str(job.args) for job in jobs)
        assert not [job for job in jobs if job and secret in _told_of(job)]
        assert not [key for key in self.client.scan_iter("*") if secret in repr(self._dump(key))]
        for folder in (self.lake, self.settings.home / "logs"):
            assert not [f for f in folder.rglob("*") if f.is_file() and secret.encode() in f.read_bytes()]

    def _dump(self, key: bytes) -> object:
        """A key's value; of a job, all fields but its message."""
        client = self.client
        match client.type(key):
            case b"hash":
                return {name: value for name, value in client.hgetall(key).items() if name != b"data"}
            case b"string":
                return client.get(key)
            case b"stream":
                return client.xrange(key)
            case b"zset":
                return client.zrange(key, 0, -1)
            case b"set":
                return client.smembers(key)
            case _:
                return client.lrange(key, 0, -1)

    def fill(self, left: int) -> Callable[[], None]:
        """Fills the lake's disk but for `left` bytes; gives what makes room again."""
        filler = self.lake / "filler"
        with filler.open("wb") as file:
            state = os.statvfs(self.lake)
            os.posix_fallocate(file.fileno(), 0, max(state.f_frsize, state.f_bavail * state.f_frsize - left))
        return filler.unlink


@dataclass(frozen=True)
class Seen:
    """A run that has ended, and what the command line printed about it, twice."""

    run: Run
    first: Result
    again: Result

    @property
    def result(self) -> RunResult:
        return self.run.result()

    def outcome(self, uri: str) -> Outcome:
        return next(o for o in self.result.outcomes if o.uri == uri)

    def tells(self, uri: str, expected: str, got: str, fix: str) -> None:
        """Checks that outcome, command line and notebook tell of a failed file in these words."""
        error = self.outcome(uri).error
        assert self.outcome(uri).status == "failed"
        assert error is not None
        said = IngestError.from_dict(error)
        assert said.code != "unknown"
        for words, text in ((expected, said.reason), (got, said.reason), (fix, said.fix)):
            assert words in text, text
        for page in (self.first, self.again):
            assert page.exit_code == 1
            assert readable(page.output)
            after = page.output.split(f"✗ {uri}\n")[1].splitlines()
            lines = [line for line in after if not line.startswith("✗ ")]  # other files may share them
            shown = [tuple(line.split(maxsplit=1)) for line in lines[: len(said.lines())]]
            shared = [(name, without_name(text, uri)) for name, text in said.lines()]
            assert shown in (said.lines(), shared)
            assert f"{said.code}: " in page.output
        files = LabRun.of(self.run).files.set_index("uri")
        assert files.loc[uri, "status"] == "failed"
        assert all(text in files.loc[uri, "error"] for _, text in said.lines())


def _told_of(job: Job) -> str:
    """All that Redis has of a job but its message, unpacked."""
    latest = job.latest_result()
    said = (latest.exc_string, latest.return_value) if latest else ()
    return repr((job.description, job.notes, *said))


def flags(options: dict[str, str]) -> list[str]:
    """Options as the command line takes them."""
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def readable(text: str) -> bool:
    """Whether a text is for people: no traceback, nothing of Python's insides."""
    return not re.search(r"Traceback|File \"|\bline \d+, in\b|object at 0x|\{'", text)


def mount(folder: Path, size: str) -> str | None:
    """Gives a folder a small disk of its own; what the system says if it does not allow that."""
    folder.mkdir(parents=True)
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    return None
