"""Encodings, null markers, and how declared values are read."""

from __future__ import annotations

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
]
