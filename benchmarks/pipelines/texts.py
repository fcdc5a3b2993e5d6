"""The pipeline of the texts: a number and a text each, embedded by the default model."""

from ingestlab import Embedding, JsonLines, Pipeline

PIPELINE = Pipeline(
    description="short texts: the benchmark's vectors",
    reader=JsonLines(columns={"id": "int64", "text": "string"}),
    embedding=Embedding(source="text", model="wordllama", payload=["id"]),
)
