"""Texts to searchable vectors: the whole way, and how near each stage comes to what it is made of."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from measures import Measure, check
from receipts import receipts
from stack import Stack, stack
from vectors import upserts

from ingestlab import Settings
from ingestlab.analytics.embedders.registry import embed_all, load
from ingestlab.analytics.lake import Lake
from ingestlab.sinks.milvus.search import search

MODEL, COLLECTION = "wordllama", "texts"
CORES = 2
PARTITION = 1 << 20  # bytes: some twenty tasks
QUERIES, BEST = 100, 10
SAME = 1e-5  # by which scores of equal vectors may differ
WORDS = [
    "alarm",
    "antenna",
    "battery",
    "cabinet",
    "cell",
    "clock",
    "cooling",
    "current",
    "door",
    "fan",
    "fibre",
    "fire",
    "frame",
    "fuel",
    "fuse",
    "grid",
    "heat",
]
MORE = [
    "lamp",
    "light",
    "link",
    "load",
    "loss",
    "mains",
    "mast",
    "meter",
    "mode",
    "motor",
    "net",
    "noise",
    "phase",
    "power",
    "pump",
    "rack",
    "radio",
    "rain",
    "relay",
]


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """The whole way, then embedding, writing and searching by themselves."""
    texts = make(options.texts)
    file = options.cache / f"texts-{len(texts)}.jsonl"
    file.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    tenants = ["warm", *(f"r{n}" for n in range(options.rounds))]
    with (
        stack(home, tenants, workers=1, dask_workers=CORES, partition_bytes=PARTITION) as running,
        receipts(running.settings) as counts,
    ):
        if running.settings.milvus_uri is None:
            yield Measure("texts to vectors", None, "texts/s", details={"absent": "milvus-lite is not installed"})
            return
        yield from _whole(running, counts, texts, file, options.rounds)
        yield from upserts(running.settings.milvus_uri)
        yield from _search(running.settings, "r0", texts)


def make(count: int) -> list[str]:
    """Short texts, the same ones every time."""
    chance, words = random.Random(1), WORDS + MORE
    return [" ".join(chance.choices(words, k=chance.randint(8, 24))) + f" {i}" for i in range(count)]


def _whole(running: Stack, counts: object, texts: Sequence[str], file: Path, rounds: int) -> Iterator[Measure]:
    small = file.with_name("texts-warm.jsonl")
    small.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts[:30_000])))
    running.run(small.as_uri(), "warm", "texts")
    counts.take()
    _calm(running)
    seconds, embedding, loops, stages, steps = [], [], [], [], {}
    for n in range(rounds):
        done = running.run(file.as_uri(), f"r{n}", "texts")
        check([o.tally.out for o in done.result.outcomes], [len(texts)])
        _, steps = counts.take()
        seconds.append(done.seconds)
        stages.append(dict(done.result.seconds))
        embedding.append(len(texts) * CORES / steps["milvus"])
        _calm(running)
        loops.append(_own_loop(texts))
    details = {"seconds": [round(s, 2) for s in seconds], "stages": stages[-1], "steps": steps}
    yield Measure(
        f"{len(texts):,} texts to vectors", round(len(texts) / statistics.median(seconds)), "texts/s", details=details
    )
    ratio = statistics.median(ours / theirs for ours, theirs in zip(embedding, loops, strict=True))
    more = {"ours": [round(r) for r in embedding], "loop": [round(r) for r in loops]}
    yield Measure("  embedding, against the model's own loop", round(ratio, 2), "times", 0.9, details=more)


def _calm(running: Stack) -> None:
    """Waits until Milvus has done what it does in the background with rows that were written: it takes a core."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        before = running.cpu()["milvus"]
        time.sleep(1)
        if running.cpu()["milvus"] - before < 0.1:
            return


def _own_loop(texts: Sequence[str]) -> float:
    """Texts a second of the bare model, in one warm process for each core."""
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        pool.map(_embed, [texts[:1000]] * CORES)  # loads it
        parts = [texts[i::CORES] for i in range(CORES)]
        return len(texts) / max(pool.map(_embed, parts, chunksize=1))


def _embed(texts: Sequence[str]) -> float:
    import wordllama  # noqa: PLC0415
    from wordllama import WordLlama  # noqa: PLC0415 - in the processes alone

    global _model  # noqa: PLW0603 - one for the life of a process
    if "_model" not in globals():
        _model = WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    began = time.perf_counter()
    _model.embed(list(texts), norm=True)
    return time.perf_counter() - began


def _search(settings: Settings, tenant: str, texts: Sequence[str]) -> Iterator[Measure]:
    """One query at a time, against all vectors of a tenant by brute force."""
    rows = Lake(settings, tenant=tenant).table(f"{COLLECTION}__vectors").arrow()
    vectors, ids = np.stack(rows["vector"].to_numpy()), rows["id"].to_numpy()
    queries = [f"{text} {text[:20]}" for text in random.Random(2).sample(list(texts), QUERIES)]
    for only, among in ((None, ids >= 0), (f"id < {len(ids) // 2}", ids < len(ids) // 2)):
        times, right = [], 0
        for text, vector in zip(queries, embed_all(load(MODEL), queries), strict=True):
            began = time.perf_counter()
            hits = search(COLLECTION, text, settings, limit=BEST, only=only, tenant=tenant)
            times.append(1000 * (time.perf_counter() - began))
            worst = np.sort(vectors[among] @ vector)[-BEST]
            right += int((hits["score"] > worst - SAME).sum())
        cuts, name = statistics.quantiles(times, n=20), "search with a filter" if only else f"search in {len(ids):,}"
        yield Measure(f"{name}, p50", round(cuts[9], 1), "ms", 25, "most", {"first": round(times[0], 1)})
        yield Measure(f"{name}, p95", round(cuts[18], 1), "ms")
        yield Measure(f"{name}, recall@{BEST}", round(right / (QUERIES * BEST), 3), "share", 1.0)
