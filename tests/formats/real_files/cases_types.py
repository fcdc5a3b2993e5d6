"""Types that nobody declared: no digit, no zone and no letter is lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from harness import Case, Earlier

UTC = dt.UTC


def csv(name: str, texts: Sequence[str], values: Sequence[Any], kind: str) -> Case:
    """One column of a CSV file that nobody declared."""
    data = "v,w\n" + "".join(f'"{text}",x\n' for text in texts)
    rows = {"v": list(values), "w": ["x"] * len(texts)}
    types = {"v": kind}
    return Case(name=f"types_{name}", file="a.csv", data=data.encode(), rows=rows, types=types)


def text(name: str, *texts: str) -> Case:
    """A column that stays as it is."""
    return csv(name, texts, texts, "string")


def jsonl(name: str, lines: str, rows: dict[str, list[Any]], **types: str) -> Case:
    """A file of JSON lines that nobody declared."""
    return Case(name=f"types_json_{name}", file="a.jsonl", data=lines.encode(), rows=rows, types=types)


def second(name: str, first: str, then: str, rows: dict[str, list[Any]] | None, error: Sequence[str] = ()) -> Case:
    """A file that comes into a table that another has begun."""
    before = [Earlier(file="a.csv", data=first.encode())]
    return Case(name=f"types_{name}", file="b.csv", data=then.encode(), rows=rows, error=error, earlier=before)


CASES = [
    csv("int64", ["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)], "int64"),
    csv(
        "uint64", ["11898508762506083287", "3266119658877827603"], [11898508762506083287, 3266119658877827603], "uint64"
    ),
    csv("uint64_largest", ["18446744073709551615", "0"], [2**64 - 1, 0], "uint64"),
    text("beyond_uint64", "18446744073709551616", "1"),
    text("thirty_digits", "21602730330000060100100000358582", "21602730330000060100100000358583"),
    text("negative_beside_uint64", "11898508762506083287", "-1"),
    text("a_long_whole_number_beside_a_fraction", "9007199254740993", "0.5"),
    text("leading_zeros", "08028", "01234", "00501"),
    text("one_leading_zero_among_many", *(str(i) for i in range(200)), "0200"),
    text("codes_with_an_e", "12E5", "47E3", "5E0"),
    text("small_e", "1e5", "2e6"),
    text("hex", "0x1F", "0x20"),
    text("telephone_numbers", "+43123", "+43124"),
    text("minus_zero", "-0", "1"),
    text("no_digit_before_the_point", ".5", "1.5"),
    text("no_digit_after_the_point", "5.", "1.5"),
    text("decimal_commas", "1,5", "2,5"),
    text("underscores", "1_000", "2_000"),
    text("infinite", "inf", "1.5"),
    text("blanks", " 5", "6 "),
    text("versions", "1.10", "1.100", "1.9"),
    text("versions_that_end_in_zero", "1.9", "1.10"),
    text("whole_with_and_without_point", "1", "1.0"),
    text("twenty_digits_of_a_fraction", "0.46153846153846153846", "0.5"),
    text("money_of_seventeen_digits", "123456789012345678.89", "1.25"),
    csv("prices", ["12.70", "19.95", "3.00"], [12.7, 19.95, 3.0], "double"),
    csv("prices_beside_whole", ["12.70", "3"], [12.7, 3.0], "double"),
    csv("fractions", ["2.5", "3", "-0.25"], [2.5, 3.0, -0.25], "double"),
    csv(
        "sixteen_digits_that_come_back",
        ["0.8414709848078965", "0.30000000000000004"],
        [0.8414709848078965, 0.30000000000000004],
        "double",
    ),
    csv("exponents_as_python_writes_them", ["1e-05", "0.5"], [1e-05, 0.5], "double"),
    csv("truth", ["true", "false"], [True, False], "bool"),
    text("truth_of_two_spellings", "true", "FALSE"),
    text("yes_and_no", "yes", "no"),
    csv("zero_and_one", ["0", "1"], [0, 1], "int64"),
    csv("days", ["2020-02-29", "0001-01-01"], [dt.date(2020, 2, 29), dt.date(1, 1, 1)], "date32[day]"),
    text("a_day_that_is_none", "2020-02-29", "2021-02-29"),
    text("a_day_beside_a_time", "2020-01-01", "2020-01-01 12:00:00"),
    text("times_of_day", "12:30:00", "23:59:59"),
    text("nanoseconds", "2020-01-01 12:00:00.123456789"),
    csv("times", ["2020-01-01 12:00:00.5"], [dt.datetime(2020, 1, 1, 12, 0, 0, 500_000)], "timestamp[us]"),
    csv("times_with_t", ["2020-01-01T12:00"], [dt.datetime(2020, 1, 1, 12)], "timestamp[us]"),
    csv("utc", ["2020-01-01T12:00:00Z"], [dt.datetime(2020, 1, 1, 12, tzinfo=UTC)], "timestamp[us, tz=UTC]"),
    csv(
        "one_offset", ["2020-01-01T12:00:00+02:00"], [dt.datetime(2020, 1, 1, 10, tzinfo=UTC)], "timestamp[us, tz=UTC]"
    ),
    text("two_offsets", "2020-01-01T12:00:00+01:00", "2020-07-01T12:00:00+02:00"),
    text("a_zone_beside_none", "2020-01-01T12:00:00Z", "2020-01-01T12:00:00"),
    text("days_with_points", "31.12.2020", "01.01.2021"),
    text("namibia", "NA", "DE"),
    csv("na_among_numbers", ["1", "NA", ""], [1, None, None], "int64"),
    jsonl("long", '{"v":12345678901234567890}\n{"v":1}\n', {"v": [12345678901234567890, 1]}, v="uint64"),
    jsonl(
        "longer", '{"v":21602730330000060100100000358582}\n{"v":1}\n', {"v": ["21602730330000060100100000358582", "1"]}
    ),
    jsonl(
        "long_beside_a_fraction",
        '{"v":9007199254740993}\n{"v":1}\n{"v":0.5}\n',
        {"v": ["9007199254740993", "1", "0.5"]},
    ),
    jsonl("numbers_in_quotes", '{"v":"007"}\n{"v":"8"}\n', {"v": ["007", "8"]}, v="string"),
    jsonl(
        "times",
        '{"v":"2020-01-01T12:00:00+02:00","d":"2020-01-01"}\n',
        {"v": [dt.datetime(2020, 1, 1, 10, tzinfo=UTC)], "d": [dt.date(2020, 1, 1)]},
    ),
    jsonl(
        "two_offsets",
        '{"v":"2020-01-01T12:00Z"}\n{"v":"2020-01-01T12:00+01:00"}\n',
        {"v": ["2020-01-01T12:00Z", "2020-01-01T12:00+01:00"]},
    ),
    jsonl("times_inside", '{"v":{"t":"2020-01-01T12:00:00+02:00"}}\n', {"v": [{"t": "2020-01-01T12:00:00+02:00"}]}),
    jsonl(
        "long_inside",
        '{"v":{"n":12345678901234567890}}\n{"v":{"n":1}}\n',
        {"v": ['{"n":12345678901234567890}', '{"n":1}']},
    ),
    jsonl(
        "long_inside_and_a_fraction_late",
        '{"v":[9007199254740993]}\n{"v":[9007199254740993]}\n{"v":[1,2.5]}\n',
        {"v": ["[9007199254740993]", "[9007199254740993]", "[1,2.5]"]},
    ),
    jsonl(
        "long_inside_beside_a_fraction",
        '{"v":{"n":9007199254740993}}\n{"v":{"n":9007199254740993}}\n{"v":{"n":1,"x":2.5}}\n',
        {"v": ['{"n":9007199254740993}', '{"n":9007199254740993}', '{"n":1,"x":2.5}']},
    ),
    Case(
        name="types_json_long_inside_after_a_fraction",
        file="b.jsonl",
        data=b'{"v":[9007199254740993]}\n',
        rows=None,
        error=["does not fit the table"],
        earlier=[Earlier(file="a.jsonl", data=b'{"v":[2.5]}\n')],
    ),
    Case(
        name="types_json_fraction_after_a_long_inside",
        file="b.jsonl",
        data=b'{"v":[2.5]}\n',
        rows=None,
        error=["does not fit the table"],
        earlier=[Earlier(file="a.jsonl", data=b'{"v":[9007199254740993]}\n')],
    ),
    jsonl("digits_of_a_fraction", '{"v":0.46153846153846153846}\n', {"v": ["0.46153846153846153846"]}),
    jsonl("a_fraction_late", '{"v":1}\n{"v":2}\n{"v":2.5}\n', {"v": [1.0, 2.0, 2.5]}, v="double"),
]
