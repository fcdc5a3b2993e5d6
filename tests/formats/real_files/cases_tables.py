"""What a table takes and refuses: folders, types beside those of other files, contracts, frames of other libraries."""

from __future__ import annotations

from typing import Any

from harness import Case, Earlier

ID_WORD = 'Csv(columns={"id": "int64", "word": "string"})'
ID_V = 'Csv(columns={"id": "int64", "v": "float64"})'
CONTRACT = "import pandera.pandas as pa\nfrom typing import Any\nclass Rule(pa.DataFrameModel):\n    {}\n"
POLARS = "import uuid\nimport polars as pl\ndef clean(df: pl.DataFrame):\n    return df.with_columns("
WORDS = "id,word\n1,Müller\n2,日本\n3,a b\n4,\n5,x9\n".encode()


def pattern(name: str, field: str, ids: list[int], words: list[str | None], bad: list[int], rule: str) -> Case:
    """A contract on the words above."""
    return Case(
        name=f"tables_pattern_{name}",
        file="a.csv",
        data=WORDS,
        reader=ID_WORD,
        code=CONTRACT.format(f"word: Any = pa.Field({field}, nullable=True)"),
        options="contract=Rule",
        rows={"id": ids, "word": words},
        rejects=[(row, f"word:{rule}") for row in bad],
    )


def folder(name: str, values: str, good: list[str], bad: list[int]) -> Case:
    """Texts as folders; a row is only published where a folder can be named by its text."""
    ids = [i for i in range(len(values.split("|"))) if i not in bad]
    return Case(
        name=f"tables_folder_{name}",
        file="a.csv",
        data=("id,word\n" + "".join(f'{i},"{v}"\n' for i, v in enumerate(values.split("|")))).encode(),
        reader='Csv(columns={"id": "int64", "word": "string"}, null_values=["NULL"])',
        options='partition_by="word"',
        rows={"id": ids, "word": good},
        rejects=[(row, "word:not_nullable") for row in bad],
        types={"word": "string"},
    )


def later(name: str, columns: str, first: str, second: str, **right: Any) -> Case:
    """A second file of a table, whose column `v` is declared or made in another way than that of the first."""
    return Case(
        name=f"tables_later_{name}",
        file="b.csv",
        data=f"id,v\n2,{second}\n".encode(),
        reader=f'Csv(columns={{"id": "int64", "v": "{columns.partition(" then ")[2]}"}})',
        earlier=[
            Earlier(
                file="a.csv",
                data=f"id,v\n1,{first}\n".encode(),
                reader=f'Csv(columns={{"id": "int64", "v": "{columns.partition(" then ")[0]}"}})',
            )
        ],
        **right,
    )


CASES = [
    later("int_text", "int64 then string", "7", "007", error=["int64 in column 'v'", "ingestlab rewrite"]),
    later("text_int", "string then int64", "007", "7", error=["string in column 'v'", "ingestlab rewrite"]),
    later("int_float", "int64 then float64", "7", "1.5", error=["int64 in column 'v'", "1.5"]),
    later("int_whole_float", "int64 then float64", "7", "8.0", rows={"id": [2], "v": [8]}, types={"v": "int64"}),
    later("float_int", "float64 then int64", "7.5", "8", rows={"id": [2], "v": [8.0]}, types={"v": "double"}),
    later("float_big_int", "float64 then int64", "7.5", "9007199254740993", error=["double in column 'v'"]),
    later("date_time", "date32 then timestamp[s]", "2020-01-01", "2020-01-01 10:00:00", error=["date32"]),
    later("bool_text", "bool then string", "true", "yes", error=["bool in column 'v'"]),
    later("narrow_wide", "int16 then int64", "7", "70000", error=["int16 in column 'v'", "70000"]),
    Case(
        name="tables_other_folders",
        file="b.csv",
        data=b"id,word\n2,b\n",
        reader=ID_WORD,
        options='partition_by="word"',
        error=["partition_by", "ingestlab rewrite tables_other_folders"],
        earlier=[Earlier(file="a.csv", data=b"id,word\n1,a\n", options="description=''")],
    ),
    Case(
        name="tables_case_in_a_file",
        file="a.csv",
        data=b"ID,id\n1,2\n",
        read=False,
        error=["letter case", "'ID' and 'id'"],
    ),
    Case(
        name="tables_case_beside_the_table",
        file="b.csv",
        data=b"ID,word\n2,b\n",
        error=["letter case"],
        earlier=[Earlier(file="a.csv", data=b"id,word\n1,a\n")],
    ),
    Case(
        name="tables_text_stays_text",
        file="b.csv",
        data=b"id,v\n2,7\n",
        rows={"id": [2], "v": ["7"]},
        types={"v": "string"},
        earlier=[Earlier(file="a.csv", data=b"id,v\n1,x\n")],
    ),
    folder("zeros", "007|7|01067", ["007", "7", "01067"], []),
    pattern("word", 'str_matches=r"^\\w+$"', [1, 2, 4, 5], ["Müller", "日本", None, "x9"], [2], "str_matches"),
    pattern("ahead", 'str_matches=r"(?!x)"', [1, 2, 3, 4], ["Müller", "日本", "a b", None], [4], "str_matches"),
    pattern("again", 'str_contains=r"(l)\\1"', [1, 4], ["Müller", None], [1, 2, 4], "str_contains"),
    pattern("space", 'str_contains=r"\\s"', [3, 4], ["a b", None], [0, 1, 4], "str_contains"),
    pattern("start", 'str_startswith="M"', [1, 4], ["Müller", None], [1, 2, 4], "str_startswith"),
    pattern("end", 'str_endswith="9"', [4, 5], [None, "x9"], [0, 1, 2], "str_endswith"),
    Case(
        name="tables_pattern_coerced",
        file="a.csv",
        data=WORDS,
        reader=ID_WORD,
        code=CONTRACT.format(
            'id: Any = pa.Field(coerce=True)\n    word: Any = pa.Field(str_matches=r"\\w+$", nullable=True)'
        ),
        options="contract=Rule",
        rows={"id": [1, 2, 4, 5], "word": ["Müller", "日本", None, "x9"]},
        rejects=[(2, "word:str_matches")],
    ),
    folder("umlauts", "Österreich|日本|🎈", ["Österreich", "日本", "🎈"], []),
    folder("ascii", "A/B|a=b|50%|12:30|a b", ["A/B", "a=b", "50%", "12:30", "a b"], []),
    folder("empty", "x||y", ["x", "y"], [1]),
    folder("hive_null", "x|__HIVE_DEFAULT_PARTITION__", ["x"], [1]),
    Case(
        name="tables_minus_zero_isin",
        file="a.csv",
        data=b"id,v\n1,-0\n2,0\n3,1\n4,0.5\n",
        reader=ID_V,
        code=CONTRACT.format("v: Any = pa.Field(isin=[0.0, 1.0])"),
        options="contract=Rule",
        rows={"id": [1, 2, 3], "v": [-0.0, 0.0, 1.0]},
        rejects=[(3, "v:isin")],
    ),
    Case(
        name="tables_minus_zero_notin",
        file="a.csv",
        data=b"id,v\n1,-0\n2,2\n",
        reader=ID_V,
        code=CONTRACT.format("v: Any = pa.Field(notin=[0.0])"),
        options="contract=Rule",
        rows={"id": [2], "v": [2.0]},
        rejects=[(0, "v:notin")],
    ),
    Case(
        name="tables_polars_objects",
        file="a.csv",
        data=b"id,word\n1,a\n2,b\n",
        reader=ID_WORD,
        code=f"{POLARS}pl.Series('key', [uuid.UUID(int=i) for i in df['id']], dtype=pl.Object))",
        options="clean=clean",
        error=["Python objects in 'key'"],
    ),
]
