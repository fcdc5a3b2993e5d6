"""Files that are as they should be: what the other cases stand beside."""

from __future__ import annotations

from harness import Case, Earlier

ID_WORD = 'Csv(columns={"id": "int64", "word": "string"})'

CASES = [
    Case(
        name="plain_declared",
        file="a.csv",
        data=b"id,word\n1,a\n2,b\n3,c\n",
        reader=ID_WORD,
        rows={"id": [1, 2, 3], "word": ["a", "b", "c"]},
        types={"id": "int64"},
    ),
    Case(
        name="plain_inferred",
        file="a.csv",
        data=b"id,word\n1,a\n2,b\n3,c\n",
        rows={"id": [1, 2, 3], "word": ["a", "b", "c"]},
    ),
    Case(
        name="plain_null_markers",
        file="a.csv",
        data=b"id,score,country\n1,NA,NA\n2,5,DE\n3,,null\n4,7,FR\n5,8,NL\n6,null,\n",
        rows={
            "id": [1, 2, 3, 4, 5, 6],
            "score": [None, 5, None, 7, 8, None],
            "country": ["NA", "DE", "null", "FR", "NL", None],
        },
        facts={"nulls": "score: NA, null"},
    ),
    Case(
        name="plain_reject",
        file="a.csv",
        data=b"id,word\n1,a\nx,b\n3,c,d\n4,e\n",
        reader=ID_WORD,
        rows={"id": [1, 4], "word": ["a", "e"]},
        rejects=[(1, "id:type"), (2, "columns")],
    ),
    Case(
        name="plain_missing_column",
        file="a.csv",
        data=b"id\n1\n",
        reader=ID_WORD,
        error=["no 'word'"],
    ),
    Case(
        name="plain_second_file",
        file="b.csv",
        data=b"id,word\n3,c\n",
        reader=ID_WORD,
        rows={"id": [3], "word": ["c"]},
        earlier=[Earlier(file="a.csv", data=b"id,word\n1,a\n")],
    ),
    Case(
        name="plain_clean",
        file="a.csv",
        data=b"id,word\n1,a\n2,b\n",
        reader=ID_WORD,
        code="def clean(df): return df.assign(twice=df['id'] * 2)",
        options="clean=clean",
        rows={"id": [1, 2], "word": ["a", "b"], "twice": [2, 4]},
    ),
]
