"""Encodings, null markers, and how declared values are read."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from harness import Case

STRINGS = 'Csv(columns={"id": "int64", "v": "string"}, encoding=None)'
LETTERS = {
    "cp1252": "Müller fährt nach Köln",
    "cp1250": "Łódź, Gdańsk i Wrocław",
    "iso8859_2": "Škoda, žluťoučký kůň, Příbram",
    "cp1251": "Москва и Нижний Новгород",
    "koi8_r": "Санкт-Петербург, в этом году",
    "cp1253": "Αθήνα, Θεσσαλονίκη",
    "cp1254": "İstanbul, Beyoğlu, Şişli, çağrı",  # noqa: RUF001
    "cp1255": "תל אביב, ירושלים",
    "cp1256": "القاهرة, السلام عليكم",
    "shift_jis": "東京と大阪のカタカナ",
    "euc_kr": "서울특별시, 안녕하세요",
    "gb18030": "北京和上海, 中华人民共和国",
    "big5": "臺北市, 中華民國, 高雄",
    "cp850": "Müller fährt nach Köln",
}
SYMBOLS = {
    "degree": ["12.7°C", "19.9°C", "23.0°C"],
    "plus_minus": ["5±0.1", "40000±1", "1±2"],
    "euro": ["1.50€", "2.50€", "9€"],
    "cedilla": ["ação", "informação", "coração"],
    "superscript": ["12 m²", "3 m³", "5 µm"],
    "pound": ["£12", "£9.50", "12"],
    "one_letter": ["a", "b", "é"],
    "quotes": ["“so”", "a•b", "1…"],
}


def table(values: list[str], encoding: str) -> bytes:
    return ("id,v\n" + "".join(f'{i},"{value}"\n' for i, value in enumerate(values))).encode(encoding)


def utf16(values: list[str]) -> list[Case]:
    return [
        Case(
            name=f"text_{encoding.replace('-', '_')}",
            file="a.csv",
            data=table(values, encoding),
            reader=STRINGS,
            rows={"id": list(range(len(values))), "v": values},
            facts={"encoding": "utf-"},
        )
        for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
    ]


CASES = [
    *(
        Case(
            name=f"text_{encoding}",
            file="a.csv",
            data=table([words] * 6, encoding),
            reader=STRINGS,
            rows={"id": list(range(6)), "v": [words] * 6},
            facts={"encoding": f"{encoding}, a guess"},
        )
        for encoding, words in LETTERS.items()
    ),
    *(
        Case(
            name=f"text_{name}_is_western",
            file="a.csv",
            data=table(values, "cp1252"),
            reader=STRINGS,
            rows={"id": [0, 1, 2], "v": values},
            facts={"encoding": "cp1252, a guess"},
        )
        for name, values in SYMBOLS.items()
    ),
    *(
        Case(
            name=f"text_alone_{ord(letter):x}",
            file="a.csv",
            data=table([letter, "b"], "cp1252"),
            reader=STRINGS,
            rows={"id": [0, 1], "v": [letter, "b"]},
            facts={"encoding": "cp1252, a guess"},
        )
        for letter in "ÑÇÉÈøúÿ"  # signs in some Cyrillic encoding, for which nothing speaks
    ),
    *(
        Case(
            name=f"text_year_zero_{name}",  # Arrow takes it, and Python cannot read a table with it
            file=f"a.{name}",
            data=line.format("0000-01-01").encode()
            + line.format("x").encode()
            + line.format("0001-01-01").encode() * 3,
            reader=reader,
            rows={"t": [datetime(1, 1, 1)] * 3},
            rejects=[(0, "t:type"), (1, "t:type")],
        )
        for name, line, reader in (
            ("csv", "{}\n", 'Csv(columns={"t": "timestamp[us]"}, header=None)'),
            ("jsonl", '{{"t":"{}"}}\n', 'JsonLines(columns={"t": "timestamp[us]"})'),
            ("log", "{}\n", 'Lines(pattern="(?P<t>.*)", columns={"t": "timestamp[us]"})'),
        )
    ),
    *utf16(["Größe", "Москва", "東京"] * 2),
    Case(
        name="text_utf_16_without_a_pipeline",
        file="a.csv",
        data="name,n\nGröße,1\nMoskau,2\n".encode("utf-16"),
        rows={"name": ["Größe", "Moskau"], "n": [1, 2]},
        facts={"encoding": "utf-16"},
    ),
    Case(
        name="text_one_bad_byte",
        file="a.csv",
        data=table(["Müller", "Größe", "x", "Käse", "y", "z"], "utf-8").replace(b'"x"', b'"x\xff"'),
        reader='Csv(columns={"id": "int64", "v": "string"})',
        rows={"id": [0, 1, 3, 4, 5], "v": ["Müller", "Größe", "Käse", "y", "z"]},
        rejects=[(2, "encoding")],
    ),
    Case(
        name="text_one_bad_byte_undeclared",
        file="a.csv",
        data=table(["Müller", "Größe", "x", "Käse", "y", "z"], "utf-8").replace(b'"y"', b'"y\xe9"'),
        reader=STRINGS,
        rows={"id": [0, 1, 2, 3, 5], "v": ["Müller", "Größe", "x", "Käse", "z"]},
        rejects=[(4, "encoding")],
        facts={"encoding": "utf-8"},
    ),
    Case(
        name="text_one_bad_byte_in_a_number",
        file="a.csv",
        data=b"id,v\n1,a\n2\xff,b\n3,c\n4,d\n5,e\n6,f\n",
        reader='Csv(columns={"id": "int64", "v": "string"})',
        rows={"id": [1, 3, 4, 5, 6], "v": ["a", "c", "d", "e", "f"]},
        rejects=[(1, "encoding")],
    ),
    Case(
        name="text_one_nul",
        file="a.csv",
        data=b"id,v\n" + b"".join(b"%d,word %d\n" % (i, i) for i in range(60)).replace(b"7,word 7\n", b"7,wo\0rd\n", 1),
        reader='Csv(columns={"id": "int64", "v": "string"})',
        rows={"id": [i for i in range(60) if i != 7], "v": [f"word {i}" for i in range(60) if i != 7]},
        rejects=[(7, "encoding")],
    ),
    Case(
        name="text_one_bad_byte_in_json",
        file="a.jsonl",
        data='{"v":"ü"}\n{"v":"ö"}\n{"v":"x"}\n{"v":"y"}\n{"v":"ä"}\n'.encode().replace(b'"x"', b'"\xe4"'),
        reader='JsonLines(columns={"v": "string"})',
        rows={"v": ["ü", "ö", "y", "ä"]},
        rejects=[(2, "encoding")],
    ),
    Case(
        name="text_one_bad_byte_in_a_log",
        file="a.log",
        data="ü one\nö two\nthree\nfour\nä five\n".encode().replace(b"four", b"f\xf6ur"),
        reader='Lines(pattern="(?P<line>.*)", encoding=None)',
        rows={"line": ["ü one", "ö two", "three", "ä five"]},
        rejects=[(3, "encoding")],
        facts={"encoding": "utf-8"},
    ),
    Case(
        name="text_one_bad_byte_in_a_text",
        file="a.txt",
        data="Müller fährt\n".encode() + b"\xff\n",
        reader="Text()",
        rows={"title": ["Müller fährt"], "text": ["Müller fährt\n\ufffd\n"], "characters": [15]},
        facts={"encoding": "utf-8", "note": "1 place that is no text"},
    ),
    Case(
        name="text_mostly_another_encoding",
        file="a.csv",
        data=b"id,v\n1,\xe4\n2,\xf6\n3,\xfc\n4,x\n",
        reader='Csv(columns={"id": "int64", "v": "string"})',
        error=["text in utf-8", "Declare the encoding"],
    ),
    Case(
        name="text_bad_byte_in_the_header",
        file="a.csv",
        data=b"id,v\xe9\n1,x\n2,y\n",
        reader='Csv(columns={"id": "int64"}, extra_columns="drop")',
        error=["byte 0xE9 at offset 4"],
    ),
    Case(
        name="text_declared_western_with_the_mark_of_utf_8",
        file="a.csv",
        data="id,v\n1,ü\n2,y\n".encode("utf-8-sig"),
        reader='Csv(columns={"id": "int64", "v": "string"}, encoding="cp1252")',
        error=["the mark of UTF-8"],
    ),
    Case(
        name="text_two_marks",
        file="a.csv",
        data=b"\xef\xbb\xbf\xef\xbb\xbfid,v\n1,x\n2,y\n",
        reader='Csv(columns={"id": "int64", "v": "string"})',
        rows={"id": [1, 2], "v": ["x", "y"]},
    ),
    Case(
        name="text_na_is_a_country",
        file="a.csv",
        data=b"code,country,pop\nNA,Namibia,3\nDE,Germany,NA\nnull,NaN,\n,NULL,1\n",
        reader='Csv(columns={"code": "string", "country": "string", "pop": "int64"})',
        rows={
            "code": ["NA", "DE", "null", None],
            "country": ["Namibia", "Germany", "NaN", "NULL"],
            "pop": [3, None, None, 1],
        },
    ),
    Case(
        name="text_na_is_a_country_without_a_pipeline",
        file="a.csv",
        data=b"code,pop\nNA,3\nDE,NA\nNE,\n",
        rows={"code": ["NA", "DE", "NE"], "pop": [3, None, None]},
    ),
    Case(
        name="text_nulls_by_column",
        file="a.tsv",
        data=b"chrom\tscore\tstrand\nchr1\t1\t-\nchr1\t-\t+\n-\tNA\t\nchr2\t2.5\t-\n",
        reader='Csv(columns={"chrom": "string", "score": "float64", "strand": "string"}, delimiter="\\t", '
        'null_values={"score": ["-", "NA"]})',
        rows={"chrom": ["chr1", "chr1", "-", "chr2"], "score": [1.0, None, None, 2.5], "strand": ["-", "+", None, "-"]},
    ),
    Case(
        name="text_nulls_by_column_bad_value",
        file="a.csv",
        data=b"a,b,c\n1,-,x\n-,2,\n3,.,?\n?,4,?\n5,.,y\n",
        reader='Csv(columns={"a": "int64", "b": "int64", "c": "string"}, '
        'null_values={"a": ["?"], "b": ["."], "c": ["?"]})',
        rows={"a": [3, None, 5], "b": [None, 4, None], "c": [None, None, "y"]},
        rejects=[(0, "b:type"), (1, "a:type")],
    ),
    Case(
        name="text_nulls_everywhere",
        file="a.csv",
        data=b"a,b\n1,-\n-,x\n3,NA\n",
        reader='Csv(columns={"a": "int64", "b": "string"}, null_values=["-"])',
        rows={"a": [1, None, 3], "b": [None, "x", "NA"]},
    ),
    Case(
        name="text_nulls_of_times",
        file="a.csv",
        data=b"t,v\n31/12/2020,NA\nNA,a\n,b\n01/02/2021,c\n",
        reader='Csv(columns={"t": "timestamp[s]", "v": "string"}, timestamp_format="%d/%m/%Y")',
        rows={"t": [datetime(2020, 12, 31), None, None, datetime(2021, 2, 1)], "v": ["NA", "a", "b", "c"]},
    ),
    Case(
        name="text_nulls_of_a_log",
        file="a.log",
        data=b"- 1\nann -\n- -\n",
        reader='Lines(pattern=r"(?P<user>\\S+) (?P<size>\\S+)", columns={"size": "int64"}, '
        'null_values={"size": ["-"]})',
        rows={"user": ["-", "ann", "-"], "size": [1, None, None]},
    ),
    Case(
        name="text_quoted_empty_is_null",
        file="a.csv",
        data=b'a,b\n1,""\n2,\n3," "\n',
        reader='Csv(columns={"a": "int64", "b": "string"})',
        rows={"a": [1, 2, 3], "b": [None, None, " "]},
    ),
    Case(
        name="text_hex_does_not_wrap",
        file="a.csv",
        data=b"a,b\n0xFFFFFFFFFFFFFFFF,1\n0x10,2\n0x8000000000000000,3\n-1,4\n0X7FFFFFFFFFFFFFFF,5\n",
        reader='Csv(columns={"a": "int64", "b": "int64"})',
        rows={"a": [16, -1, 2**63 - 1], "b": [2, 4, 5]},
        rejects=[(0, "a:type"), (2, "a:type")],
    ),
    Case(
        name="text_hex_of_a_byte",
        file="a.csv",
        data=b"a,b\n0xFF,x\n0x7F,y\n",
        reader='Csv(columns={"a": "int8", "b": "string"})',
        rows={"a": [127], "b": ["y"]},
        rejects=[(0, "a:type")],
    ),
    Case(
        name="text_hex_in_a_log",
        file="a.log",
        data=b"at 0xFFFFFFFFFFFFFFFF\nat 0x0F\n",
        reader='Lines(pattern=r"at (?P<n>\\S+)", columns={"n": "int64"})',
        rows={"n": [15]},
        rejects=[(0, "n:type")],
    ),
    Case(
        name="text_out_of_range",
        file="a.csv",
        data=b"a,b,c\n300,1,1.00\n1,-1,2.00\n2,2,12345.67\n3,3,1.234\n4,4,4.50\n",
        reader='Csv(columns={"a": "int8", "b": "uint8", "c": "decimal128(5, 2)"})'.replace(
            '"decimal128(5, 2)"', "__import__('pyarrow').decimal128(5, 2)"
        ),
        rows={"a": [4], "b": [4], "c": [Decimal("4.50")]},
        rejects=[(0, "a:type"), (1, "b:type"), (2, "c:type"), (3, "c:type")],
    ),
    Case(
        name="text_fractions_of_a_second",
        file="a.csv",
        data=b"a,t\n1,2016/04/20 10:12:10.123456\n2,2016/04/20 10:12:11.5\n3,2016/04/20 10:12:11\n",
        reader='Csv(columns={"a": "int64", "t": "timestamp[us]"}, timestamp_format="%Y/%m/%d %H:%M:%S.%f")',
        rows={"a": [1, 2], "t": [datetime(2016, 4, 20, 10, 12, 10, 123456), datetime(2016, 4, 20, 10, 12, 11, 500000)]},
        rejects=[(2, "t:type")],
    ),
    Case(
        name="text_fractions_that_do_not_fit",
        file="a.csv",
        data=b"a,t\n1,10:12:10.123 20/04/2016\n2,10:12:11.000 20/04/2016\n",
        reader='Csv(columns={"a": "int64", "t": "timestamp[s]"}, timestamp_format="%H:%M:%S.%f %d/%m/%Y")',
        rows={"a": [2], "t": [datetime(2016, 4, 20, 10, 12, 11)]},
        rejects=[(0, "t:type")],
    ),
    Case(
        name="text_years_of_four_digits",
        file="a.csv",
        data=b"d,v\n31/12/2019,1\n15/03/21,2\n1/1/20,3\n1/1/2020,4\n01/01/020,5\n",
        reader='Csv(columns={"d": "timestamp[s]", "v": "int64"}, timestamp_format="%d/%m/%Y")',
        rows={"d": [datetime(2019, 12, 31), datetime(2020, 1, 1)], "v": [1, 4]},
        rejects=[(1, "d:type"), (2, "d:type"), (4, "d:type")],
    ),
    Case(
        name="text_years_of_two_digits",
        file="a.csv",
        data=b"d,v\n31/12/19,1\n15/03/69,2\n15/03/68,3\n15/03/2021,4\n15/03/1,5\n",
        reader='Csv(columns={"d": "timestamp[s]", "v": "int64"}, timestamp_format="%d/%m/%y")',
        rows={"d": [datetime(2019, 12, 31), datetime(1969, 3, 15), datetime(2068, 3, 15)], "v": [1, 2, 3]},
        rejects=[(3, "d:type"), (4, "d:type")],
    ),
    Case(
        name="text_years_in_json",
        file="a.jsonl",
        data=b'{"d":"1/1/20","v":1}\n{"d":"1/1/2020","v":2}\n',
        reader='JsonLines(columns={"d": "timestamp[s]", "v": "int64"}, timestamp_format="%d/%m/%Y")',
        rows={"d": [datetime(2020, 1, 1)], "v": [2]},
        rejects=[(0, "d:type")],
    ),
    Case(
        name="text_offsets",
        file="a.log",
        data=b"2020-01-01 01:00 +0200\n2020-01-01 01:00 -05:30\n2020-01-01 01:00 CET\n",
        reader='Lines(pattern="(?P<t>.*)", columns={"t": __import__("pyarrow").timestamp("s", "UTC")}, '
        'timestamp_format="%Y-%m-%d %H:%M %z")',
        rows={"t": [datetime(2019, 12, 31, 23, tzinfo=UTC), datetime(2020, 1, 1, 6, 30, tzinfo=UTC)]},
        rejects=[(2, "t:type")],
    ),
]
