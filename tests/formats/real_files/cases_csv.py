"""CSV as people have it: delimiters, quotes, header lines, titles, ragged and damaged records."""

from __future__ import annotations

from harness import Case, Earlier

THREE = 'Csv(columns={"id": "int64", "name": "string", "price": "float64"})'
AB = 'Csv(columns={"a": "string", "b": "string"})'
PLAINLY = b"1,Anna,2.5\n2,Bert,3.1\n3,Carl,4\n"
ABC = 'Csv(columns={"a": "string", "b": "string", "c": "string"})'
NAMED = b"1,a\n2,b\n3,c\n4,d\n5,e\n6,f\n7,g\n8,h\n"
LINKS = b"".join(b"%d,Anna,a word,https://example.com/%d,\n" % (i, i) for i in range(1, 7))
QUOTES = (
    b'id\ttitle\tyear\n1\tone\t1901\n2\t"Rome, open city\t1902\n3\ttwo\t1903\n4\t"Bicycle thieves\t1904\n5\tx\t1905\n'
)
FILMS = {
    "id": [1, 2, 3, 4, 5],
    "title": ["one", '"Rome, open city', "two", '"Bicycle thieves', "x"],
    "year": [1901, 1902, 1903, 1904, 1905],
}


def _case(name: str, data: bytes, *, reader: str = "", file: str = "a.csv", **said: object) -> Case:
    return Case(name=f"csv_{name}", file=file, data=data, reader=reader, **said)  # type: ignore[arg-type]


CASES = [
    # Delimiters
    _case(
        "semicolon",
        b"id;name;w\n1;Anna;x\n2;Bert;y\n",
        rows={"id": [1, 2], "name": ["Anna", "Bert"], "w": ["x", "y"]},
        facts={"delimiter": ";"},
    ),
    _case(
        "semicolon_decimals", b"id;p\n1;2,50\n2;3,10\n3;4,75\n", rows={"id": [1, 2, 3], "p": ["2,50", "3,10", "4,75"]}
    ),
    _case("tab", b"id\tw\n1\ta, b\n2\tc\n", rows={"id": [1, 2], "w": ["a, b", "c"]}, facts={"delimiter": "tab"}),
    _case("pipe", b"id|w\n1|a\n2|b\n", rows={"id": [1, 2], "w": ["a", "b"]}, facts={"delimiter": "|"}),
    _case("pipe_in_tsv", b"id|w\n1|a\n2|b\n", file="a.tsv", rows={"id": [1, 2], "w": ["a", "b"]}),
    _case("sep_line", b"sep=;\nid;w\n1;a\n2;b\n", rows={"id": [1, 2], "w": ["a", "b"]}, facts={"header": "line 2"}),
    _case("sep_line_pipe", b'"sep=|"\r\nid|w\r\n1|a\r\n', rows={"id": [1], "w": ["a"]}),
    _case("one_column", b"word\nalpha\nbeta\n", rows={"word": ["alpha", "beta"]}),
    _case("told_another", b"id;name\n1;Anna\n2;Bert\n", reader="Csv()", error=["delimiter=';'"]),
    _case("told_tab", b"a;b\n1;x\n2;y\n", reader='Csv(delimiter="\\t")', error=["';' in most records"]),
    _case("declared_another", b"a;b\n1;x\n2;y\n", reader=AB, error=["delimiter=';'"]),
    _case(
        "comma_and_blank",
        b'id, name, w\n1, "Anna, jr", x\n2, Bert, y\n',
        rows={"id": [1, 2], "name": ["Anna, jr", "Bert"], "w": ["x", "y"]},
    ),
    _case(
        "comma_and_blank_told",
        b'id, name\n1, "Anna, jr"\n2,Bert\n',
        reader='Csv(columns={"id": "int64", "name": "string"}, skip_initial_space=True)',
        rows={"id": [1, 2], "name": ["Anna, jr", "Bert"]},
    ),
    _case(
        "single_quotes",
        b"id,w\n1,'a, b'\n2,'c, d'\n3,'e'\n",
        rows={"id": [1, 2, 3], "w": ["a, b", "c, d", "e"]},
        facts={"quote": "'"},
    ),
    # Header lines
    _case(
        "titles",
        b"Report of May,,\n,,\nid,name,w\n1,Anna,x\n",
        rows={"id": [1], "name": ["Anna"], "w": ["x"]},
        facts={"header": "line 3", "skipped": "2 lines"},
    ),
    _case("titles_told", b"Report of May,,\n,,\nid,name,price\n1,Anna,2.5\n", reader=THREE, error=["line 3", "skip=2"]),
    _case(
        "titles_skipped",
        b"Report of May,,\n,,\nid,name,price\n1,Anna,2.5\n",
        reader=THREE[:-1] + ", skip=2)",
        rows={"id": [1], "name": ["Anna"], "price": [2.5]},
    ),
    _case(
        "third_is_header",
        b"x,,\ny,,\nid,name,price\n1,Anna,2.5\n",
        reader=THREE[:-1] + ", header=2)",
        rows={"id": [1], "name": ["Anna"], "price": [2.5]},
    ),
    _case(
        "comments_above",
        b"# Station 12, made in 2026\n# units: C, mm\nid,t,r\n1,2,0\n2,3,1\nTotal rows: 2\n",
        rows={"id": [1, 2], "t": [2, 3], "r": [0, 1]},
        rejects=[(2, "columns")],
    ),
    _case(
        "comments_told",
        b"# a\nid,name,price\n1,Anna,2.5\n# b, c, d\n2,Bert,3.5\n",
        reader=THREE[:-1] + ', comment="#")',
        rows={"id": [1, 2], "name": ["Anna", "Bert"], "price": [2.5, 3.5]},
    ),
    _case("short_header", b"idname,price\n1,Anna,2\n2,Bert,3\n", error=["2 names", "3 fields in 2 of 2"]),
    _case("short_header_told", b"a,b\nx,1,2\ny,3,4\n", reader=AB, error=["2 names", "3 fields"]),
    _case("no_header", b"1,Anna,2\n2,Bert,3\n", error=["header=None"]),
    _case(
        "no_header_plainly",
        PLAINLY,
        rows={"column_1": [1, 2, 3], "column_2": ["Anna", "Bert", "Carl"], "column_3": [2.5, 3.1, 4.0]},
        facts={"header": "none", "names": "column_1 to column_3"},
    ),
    _case(
        "no_header_beside_names",
        PLAINLY,
        earlier=[Earlier(file="b.csv", data=b"id,name,p\n1,x,2.5\n")],
        error=["id, name, p", "header=None"],
    ),
    _case(
        "names_beside_no_header",
        b"id,name,p\n1,x,2.5\n",
        earlier=[Earlier(file="b.csv", data=PLAINLY)],
        error=["column_1, column_2, column_3", "header=None"],
    ),
    _case(
        "no_header_beside_wider",
        PLAINLY,
        earlier=[Earlier(file="b.csv", data=b"1,a,2.5,x\n2,b,2.6,y\n3,c,2.7,x\n")],
        error=["column_4", "header=None"],
    ),
    _case(
        "no_header_beside_like",
        PLAINLY,
        earlier=[Earlier(file="b.csv", data=b"7,a,2.5\n8,b,2.6\n9,c,2.7\n")],
        rows={"column_1": [1, 2, 3], "column_2": ["Anna", "Bert", "Carl"], "column_3": [2.5, 3.1, 4.0]},
    ),
    _case(
        "lists_in_fields",
        b"id,tags\n1,a|b\n2,c|d\n3,e|f\n",
        rows={"id": [1, 2, 3], "tags": ["a|b", "c|d", "e|f"]},
        facts={"delimiter": ","},
    ),
    _case("carets", b"id^w\n1^a\n2^b\n", error=["delimiter='^'"]),
    _case("blanks_between_numbers", b"lat lon\n1.5 2.5\n2 4\n", error=["delimiter=' '"]),
    _case("times_alone", b"t\n12:30\n13:40\n", rows={"t": ["12:30", "13:40"]}),
    _case("names_of_codes", b"shop,2101,2305\nA,5,6\nB,7,8\nC,1,2\n", error=["header=None"]),
    _case("names_of_days", b"shop,2024-01-01,2024-01-02\nA,5,6\nB,7,8\nC,1,2\n", error=["header=None"]),
    _case("names_of_one_year", b"shop,2024\nA,5\nB,7\nC,1\n", error=["header=None"]),
    _case("names_in_quotes", b'"10","10"\n5,10\n10,8\n11,12\n', error=["header=None"]),
    _case("title_over_data", b"Title,,\n1,2,3\n4,5,6\n7,8,9\n", error=["title", "skip=1"]),
    _case(
        "row_names",
        b'"n","w"\n"a",1,"x"\n"b",5,"y"\n"c",7,"z"\n',
        rows={"column_1": ["a", "b", "c"], "n": [1, 5, 7], "w": ["x", "y", "z"]},
        facts={"names": "the first column has no name"},
    ),
    _case(
        "row_names_declared",
        b'"n","w"\n"1",1,"x"\n"2",5,"y"\n"3",7,"z"\n',
        reader='Csv(columns={"n": "int64", "w": "string"})',
        rows={"n": [1, 5, 7], "w": ["x", "y", "z"]},
    ),
    _case(
        "row_numbers",
        b'"n","w"\n1,1,"x"\n2,5,"y"\n3,7,"z"\n',
        rows={"column_1": [1, 2, 3], "n": [1, 5, 7], "w": ["x", "y", "z"]},
    ),
    _case("row_names_all_quoted", b'"n","w"\n"1","1","x"\n"2","5","y"\n"3","7","z"\n', error=["2 names"]),
    _case("row_names_glued", b'"id name","w"\n"a",1,"x"\n"b",5,"y"\n"c",7,"z"\n', error=["2 names"]),
    _case("row_names_twice", b'"n","w"\n"a",1,"x"\n"a",5,"y"\n"c",7,"z"\n', error=["2 names"]),
    _case(
        "no_header_told",
        b"1,Anna,2.5\n2,Bert,3.5\n",
        reader=THREE[:-1] + ", header=None)",
        rows={"id": [1, 2], "name": ["Anna", "Bert"], "price": [2.5, 3.5]},
    ),
    _case(
        "no_header_no_names",
        b"x,1\ny,2\n",
        reader="Csv(header=None)",
        rows={"column_1": ["x", "y"], "column_2": [1, 2]},
        facts={"header": "none"},
    ),
    _case(
        "years_are_a_header",
        b"land,2019,2020\nDE,10,12\nFR,11,15\n",
        rows={"land": ["DE", "FR"], "2019": [10, 11], "2020": [12, 15]},
    ),
    _case("name_twice", b"id,x,x\n1,2,3\n", rows={"id": [1], "x": [2], "x_2": [3]}, facts={"names": "x again: x_2"}),
    _case("name_twice_taken", b"x,x,x_2\na,b,c\n", rows={"x": ["a"], "x_3": ["b"], "x_2": ["c"]}),
    _case(
        "name_blank",
        b"id,name,\n1,Anna,x\n",
        rows={"id": [1], "name": ["Anna"], "column_3": ["x"]},
        facts={"names": "column_3"},
    ),
    _case(
        "name_blank_told", b"a,b,\n1,Anna,x\n", reader=AB, rows={"a": ["1"], "b": ["Anna"]}, facts={"names": "column_3"}
    ),
    _case("break_in_name", b'"id\nno",name\n1,Anna\n2,Bert\n', rows={"id\nno": [1, 2], "name": ["Anna", "Bert"]}),
    _case("line_separator_in_name", "a\u2028b,c\u0085d\nx,y\n".encode(), rows={"a\u2028b": ["x"], "c\u0085d": ["y"]}),
    _case(
        "quote_in_header",
        b'id,"name,w\n1,"Anna",x\n2,"Bert",y\n',
        rows={"id": [1, 2], '"name': ["Anna", "Bert"], "w": ["x", "y"]},
    ),
    _case("header_alone", b"id,name\n", rows={"id": [], "name": []}, facts={"note": "no records"}),
    _case("header_alone_told", b"a,b\r\n", reader=AB, rows={"a": [], "b": []}, facts={"note": "no records"}),
    _case(
        "header_again",
        b"id,name\n1,Anna\nid,name\n2,Bert\n",
        rows={"id": [1, 2], "name": ["Anna", "Bert"]},
        rejects=[(1, "header")],
    ),
    _case(
        "header_again_quoted",
        b'id,name\n1,Anna\n"id","name"\n2,Bert\n',
        rows={"id": [1, 2], "name": ["Anna", "Bert"]},
        rejects=[(1, "header")],
    ),
    _case(
        "header_again_declared",
        b"id,name,price\n1,Anna,2.5\n",
        reader=ABC.replace('"a"', '"id"').replace('"b"', '"name"').replace('"c"', '"price"')[:-1] + ", header=None)",
        rows={"id": ["1"], "name": ["Anna"], "price": ["2.5"]},
        rejects=[(0, "header")],
    ),
    _case(
        "word_like_its_column",
        b"x\nword\ny\n",
        reader='Csv(columns={"word": "string"}, header=None)',
        rows={"word": ["x", "word", "y"]},
    ),
    _case(
        "first_name_in_column",
        b"x,y\nx,1\nx,2\n",
        reader='Csv(columns={"x": "string", "y": "string"})',
        rows={"x": ["x", "x"], "y": ["1", "2"]},
    ),
    _case(
        "table_twice",
        b"id,name\n" + NAMED + b'"id","name"\n' + NAMED,
        rows={"id": list(range(1, 9)), "name": list("abcdefgh")},
        rejects=[(8, "header"), *((row, "duplicate") for row in range(9, 17))],
    ),
    _case(
        "table_twice_and_more",
        b"id,name\n" + NAMED + b"9,i\n10,j\nid,name\n" + NAMED + b"9,i\n10,k\n",
        reader='Csv(columns={"id": "int64", "name": "string"})',
        rows={"id": [*range(1, 11), 10], "name": [*"abcdefghij", "k"]},
        rejects=[(10, "header"), *((row, "duplicate") for row in range(11, 20))],
    ),
    _case(
        "tables_alike",
        b"id,name\n" + NAMED + b"id,name\n" + NAMED[8:] + b"9,i\n10,j\n",
        rows={"id": [*range(1, 9), *range(3, 11)], "name": [*"abcdefgh", *"cdefghij"]},
        rejects=[(8, "header")],
    ),
    _case(
        "few_values_twice",
        b"id,name\n" + b"1,a\n2,b\n" * 5 + b"id,name\n" + b"1,a\n2,b\n" * 5,
        rows={"id": [1, 2] * 10, "name": ["a", "b"] * 10},
        rejects=[(10, "header")],
    ),
    _case("names_glued", b"idname,text,url,note\n" + LINKS, error=["may lack a delimiter", "right of it"]),
    _case("names_glued_quoted", b'id,"name"text,url,note\n' + LINKS, error=["may lack a delimiter", "quote within"]),
    _case(
        "names_and_one_more_field",
        b"id,name,text,url\n" + LINKS,
        rows={
            "id": list(range(1, 7)),
            "name": ["Anna"] * 6,
            "text": ["a word"] * 6,
            "url": [f"https://example.com/{i}" for i in range(1, 7)],
        },
        facts={"note": "1 empty field"},
    ),
    _case(
        "delimiter_missing_before_pairs",
        b'a,b,c\n1,2,"x, 24"""\n1,2"y, 5"" z","w"\n',
        reader=ABC,
        rows={"a": ["1"], "b": ["2"], "c": ['x, 24"']},
        rejects=[(1, "quote")],
    ),
    _case(
        "header_again_told",
        b"id,name,price\n1,Anna,2.5\nid,name,price\n2,Bert,3.5\n",
        reader=THREE,
        rows={"id": [1, 2], "name": ["Anna", "Bert"], "price": [2.5, 3.5]},
        rejects=[(1, "header")],
    ),
    # Ragged records
    _case(
        "trailing_comma",
        b"id,name\n1,Anna,\n2,Bert,\n",
        rows={"id": [1, 2], "name": ["Anna", "Bert"]},
        facts={"note": "1 empty field"},
    ),
    _case(
        "trailing_commas_told",
        b"a,b\n1,Anna,,\n2,Bert,,\n3,Carl\n",
        reader=AB,
        rows={"a": ["1", "2", "3"], "b": ["Anna", "Bert", "Carl"]},
    ),
    _case(
        "one_surplus_is_shifted",
        b"a,b,c\n1,x,\n,2,y,\n3,z,\n",
        reader=ABC,
        rows={"a": ["1", "3"], "b": ["x", "z"], "c": [None, None]},
        rejects=[(1, "columns")],
    ),
    # Quotes
    _case("tsv_without_pairs", QUOTES, file="a.tsv", rows=FILMS, facts={"quote": "none"}),
    _case(
        "tsv_without_pairs_told",
        QUOTES,
        reader='Csv(delimiter="\\t")',
        file="a.tsv",
        rows=FILMS,
        facts={"quote": "none"},
    ),
    _case("tsv_with_pairs", b'id\tw\n1\t"a\tb"\n2\t"c\nd"\n', file="a.tsv", rows={"id": [1, 2], "w": ["a\tb", "c\nd"]}),
    _case(
        "text_after_quote",
        b'a,b,c\n1,"x",y\n2,"6,b,"y, z"\n3,"v",w\n',
        rows={"a": [1, 3], "b": ["x", "v"], "c": ["y", "w"]},
        rejects=[(1, "quote")],
    ),
    _case("quote_within", b'a,b\n1,5" pipe\n2,6" pipe\n', rows={"a": [1, 2], "b": ['5" pipe', '6" pipe']}),
    _case(
        "quote_opens_and_swallows",
        b'a,b\n1,"x\n2,y\n3,z\n4,"w"\n',
        reader=AB,
        rows={"a": ["2", "3", "4"], "b": ["y", "z", "w"]},
        rejects=[(0, "quote")],
    ),
    _case(
        "quote_never_closes",
        b'a,b\n1,x\n2,"y\n3,z\n',
        reader=AB,
        rows={"a": ["1", "3"], "b": ["x", "z"]},
        rejects=[(1, "quote")],
    ),
    _case(
        "quotes_within_many_lines",
        b'a,b,c\n1,"some\n"words" of\nmine",x\n2,y,z\n',
        reader=ABC,
        rows={"a": ["2"], "b": ["y"], "c": ["z"]},
        rejects=[(0, "quote")],
    ),
    _case("break_within_quotes", b'a,b\n1,"x\r\ny"\n2,z\n', reader=AB, rows={"a": ["1", "2"], "b": ["x\r\ny", "z"]}),
    _case(
        "backslash",
        b'"a","b"\n"1","he said \\"hi\\" there"\n"2","plain"\n"3","x"\n',
        rows={"a": [1, 2, 3], "b": ['he said "hi" there', "plain", "x"]},
        facts={"escape": "\\"},
    ),
    _case(
        "backslash_told",
        b'a,b\n1,"x \\"y, z\\""\n2,"\\\\"\n',
        reader=AB[:-1] + ', escape="\\\\")',
        rows={"a": ["1", "2"], "b": ['x "y, z"', "\\"]},
    ),
    _case(
        "backslash_not_told",
        b'a,b\n1,"x \\"y\\" z"\n2,w\n',
        reader=AB,
        rows={"a": ["2"], "b": ["w"]},
        rejects=[(0, "quote")],
    ),
    _case("windows_folder", b'a,b\n1,"C:\\dir\\"\n2,"D:\\"\n', rows={"a": [1, 2], "b": ["C:\\dir\\", "D:\\"]}),
    _case("lone_returns", b"a,b\r1,x\r2,y\r", rows={"a": [1, 2], "b": ["x", "y"]}),
    _case("is_json", b'{"error":"unauthorised","code":401}', error=["JSON", "no header", ".jsonl"]),
    _case("is_json_in_lines", b'{\n  "error": "unauthorised",\n  "code": 401\n}\n', error=["JSON"]),
    _case("is_xml", b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', error=["XML"]),
    _case("is_a_page_s_part", b"<br />\n<b>Warning</b>:  failed in <b>x.php</b><br />\n", error=["HTML"]),
    _case("is_a_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", error=["git lfs"]),
    _case(
        "has_json_in_cells",
        b'j;n\n{"a":1};2\n{"a":2};3\n{"a":3};4\n',
        rows={"j": ['{"a":1}', '{"a":2}', '{"a":3}'], "n": [2, 3, 4]},
    ),
    _case("utf8_bom", b"\xef\xbb\xbfid;w\n1;a\n2;b\n", rows={"id": [1, 2], "w": ["a", "b"]}),
]
