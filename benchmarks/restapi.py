"""How fast the records of an API become Parquet, beside dlt: both ask the same server for the same pages.

The server is a process of its own, and has every answer ready. A contender has ended when all rows are in Parquet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.dataset as ds
from asking import asked
from measures import Measure, check, cpu
from rivals import PEERS, PYTHON, Lap, Rival
from stack import PATIENCE, stack

from ingestlab import submit

OURS, TENANT, PAGE = "ingestlab", "default", 100
DLT = Rival("dlt", ("dlt_rest.py",), ("dlt", "pyarrow"))
TARGET = 5.0  # times the rate of dlt
PIPELINE = """
from ingestlab import Pipeline, Rest
from ingestlab.sources.rest import PageNumber

PIPELINE = Pipeline(
    source=Rest(base_url="URL", endpoint="orders", paginator=PageNumber(total="total"), data_selector="data"),
)
"""
SERVER = """
import asyncio, json, sys
from aiohttp import web

pages, size = int(sys.argv[1]), int(sys.argv[2])
names = ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Edsger Dijkstra"]

def record(n):
    return {"id": n, "customer": names[n % 4], "total": n * 1.25, "paid": n % 3 == 0, "country": "NL",
            "updated_at": f"2026-01-{1 + n % 28:02d}T{n % 24:02d}:00:00Z", "note": f"order number {n}"}

def body(page, first):
    rows = [record(n) for n in range(first, first + size)]
    return json.dumps({"data": rows, "total": pages * size, "page": page}).encode()

BODIES = [body(page + 1, page * size) for page in range(pages)]
WARM = json.dumps({"data": [record(n) for n in range(size)], "total": size}).encode()

async def orders(request):
    return web.Response(body=BODIES[int(request.query.get("page", 1)) - 1], content_type="application/json")

async def warm(request):
    return web.Response(body=WARM, content_type="application/json")

async def main():
    app = web.Application()
    app.router.add_get("/orders", orders)
    app.router.add_get("/warm", warm)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Rows a second of both; then ours against dlt's."""
    rows = options.pages * PAGE
    rates: dict[str, float] = {}
    work: dict[str, float] = {}  # seconds of processor time
    home.mkdir(parents=True)
    with _server(options.pages) as url:
        for name in (OURS, DLT.name):
            if name == DLT.name and (absent := DLT.absent()):
                details = {"absent": f"not installed: {absent}"}
                yield Measure(f"records of an API, {name}", None, "rows/s", details=details)
                continue
            run = _by_us if name == OURS else _by_dlt
            laps = list(run(url, rows, options.rounds, home / name))
            rates[name] = rows / statistics.median(lap.seconds for lap in laps)
            work[name] = statistics.median(lap.cpu for lap in laps)
            details = {"rounds": [round(lap.seconds, 2) for lap in laps], "cpu_s": round(work[name], 2)}
            yield Measure(f"records of an API, {name}", round(rates[name]), "rows/s", details=details)
    if len(rates) > 1:
        yield Measure("records of an API, times dlt", round(rates[OURS] / rates[DLT.name], 2), "times", TARGET)
        yield Measure("records of an API, processor time of dlt", round(work[DLT.name] / work[OURS], 2), "times")


def _by_us(url: str, rows: int, rounds: int, home: Path) -> Iterator[Lap]:
    """From the call to the committed result, on a stack that has pulled a page before."""
    pipelines = home / "pipelines"
    pipelines.mkdir(parents=True)
    for name in ("warm", *(f"orders{number}" for number in range(rounds))):
        text = PIPELINE.replace("URL", url)
        (pipelines / f"{name}.py").write_text(text.replace('"orders"', '"warm"') if name == "warm" else text)
    with stack(home / "stack", [TENANT], workers=1, dask_workers=2, pipelines=(str(pipelines),)) as running:
        check(submit("rest://warm", settings=running.settings).wait(PATIENCE).tally.out, PAGE)
        for number in range(rounds):
            before = running.cpu().total()
            began = time.perf_counter()
            result = submit(f"rest://orders{number}", settings=running.settings).wait(PATIENCE)
            yield Lap(time.perf_counter() - began, running.cpu().total() - before)
            check((OURS, result.tally.out), (OURS, rows))


def _by_dlt(url: str, rows: int, rounds: int, home: Path) -> Iterator[Lap]:
    """Of `pipeline.run`, in a process that has loaded a page before."""
    home.mkdir(parents=True)
    os.environ["BENCH_PAGES"] = str(rows // PAGE + 1)  # the first is 1, and the last one is left out
    with asked(DLT.name, [PYTHON, str(PEERS / DLT.script[0])], home / "log") as program:
        program.ask({"path": f"{url}/warm", "out": str(home / "warm")})
        for number in range(rounds):
            process = psutil.Process(program.pid)
            before = cpu(process, children=True)
            answer = program.ask({"path": f"{url}/orders", "out": str(home / str(number))})
            yield Lap(answer["seconds"], cpu(process, children=True) - before)
            check((DLT.name, ds.dataset(answer["good"], format="parquet").count_rows()), (DLT.name, rows))
            shutil.rmtree(home / str(number))


@contextmanager
def _server(pages: int) -> Iterator[str]:
    """The address of a server with so many pages."""
    command = [sys.executable, "-c", SERVER, json.dumps(pages), str(PAGE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
