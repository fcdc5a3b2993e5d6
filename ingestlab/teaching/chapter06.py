"""Checks of ``06_embeddings_and_milvus``: a question of one's own, and a search among some rows only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ingestlab.sinks.milvus.search import search
from ingestlab.teaching.checks import Desk, a, a_pair, exercise, expect

FIRST = 5  # packages among which the answer is to be
HITS = 10
QUESTION, FAILED = "an upload of data", 500  # the first status of a server's own errors


@exercise("06.1")
def own_question(answer: Any, desk: Desk) -> str:
    """Accept a question in one's own words, and the package found."""
    question, name = a_pair(answer, "the pair (question, name)")
    question, name = a(question, str, "the question as text"), a(name, str, "the name as text")
    names = set(desk.lake.table("documents").pandas(["name"])["name"])
    expect(question not in names or name in names, "the question comes first, then the name.")
    expect(name in names, f"no document has the name {name[:60]!r}; the table 'documents' lists them.")
    expect(question.strip(), "the question is empty.")
    expect(name.lower() not in question.lower(), "the name is in the question: that is too easy.")
    hits = search("documents", question, desk.settings, limit=50)
    packages = list(hits["name"].drop_duplicates())
    place = packages.index(name) + 1 if name in packages else None
    best = ", ".join(packages[:FIRST])
    expect(place, f"{name} is not among the first {len(packages)} packages; these are nearest: {best}.")
    expect(place is not None and place <= FIRST, f"{name} is number {place}; nearer are: {best}.")
    return f"{name} is number {place} of {len(names)} packages. The model has understood you."


@exercise("06.2")
def filtered(answer: Any, desk: Desk) -> str:
    """Accept the ten nearest requests that failed by the server's fault."""
    hits = a(answer, pd.DataFrame, "what lab.search() gives")
    expect({"score", "status"} <= set(hits), "the hits have no score and status; search weblogs_search.")
    good = int((hits["status"] < FAILED).sum())
    expect(not good, f"{good} of your hits have a status below {FAILED}; the filter decides, not the question.")
    expect(len(hits) == HITS, f"{len(hits)} hits; ask for ten. (To filter afterwards would leave fewer.)")
    scores = hits["score"].to_numpy(dtype=float)
    expect((np.diff(scores) <= 0).all(), "the best hit should come first.")
    only = f"status >= {FAILED}"
    truth = search("weblogs_search", QUESTION, desk.settings, limit=HITS, only=only)["score"].to_numpy(dtype=float)
    nearest = np.allclose(scores, truth, atol=1e-4)
    expect(nearest, f"these are not the ten nearest to '{QUESTION}', whose scores go from {truth[0]:.2f} down.")
    return f"Ten hits, all with status {hits['status'].min()} and above, the best with a score of {scores[0]:.2f}."
