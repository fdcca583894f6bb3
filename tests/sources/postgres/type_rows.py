# ruff: noqa: E501 - one value after the other is easier to compare than to wrap
r"""PostgreSQL's types: how each is stored, with values as SQL and as the store shows them.

One list, from which ``docs/reference/types.md`` is made and with which a real server is compared.
A text here is what ``CAST(column AS VARCHAR)`` gives in DuckDB; where a type is stored as text,
that is what the server prints under the settings of our sessions.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Types that somebody made, as they are in many databases.
DEFINITIONS = """\
create type mood as enum ('sad', 'ok', 'häppy, or so');
create type pair as (a int, "b c" text);
create type deep as (pairs pair[], at timestamptz, n numeric);
create type float_range as range (subtype = float8);
create domain amount as numeric(10,4);
create domain price as amount check (value >= 0);
create domain any_number as numeric;
create domain code as char(4);
create domain moods as mood[];
create domain feeling as mood;
create domain twins as pair;
create domain instant as timestamptz(3);
create domain span as int4range;
create domain length_of_time as interval;
"""
#: What the rows below need in the database.
PREPARED = f"""
    create extension hstore; create extension citext; create extension ltree; create extension cube;
    create extension isn; create extension seg; create extension intarray;
    {DEFINITIONS}
    create table stats (a int, b int);
    insert into stats select i % 10, i % 10 from generate_series(1, 100) i;
    create statistics all_kinds (ndistinct, dependencies, mcv) on a, b from stats;
    analyze stats;
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A value: an SQL expression, and the text of what is stored (or, refused, of what is kept).

    ``since`` is the first major version of PostgreSQL that has the value. A ``text`` of None: what
    the server prints is not the same on every server, only that it comes through is known.
    """

    sql: str
    text: str | None
    since: int = 0


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A source type, as a column declares it. ``note`` is what is worth knowing of it.

    ``refused`` are values that the stored type cannot hold: their rows go to quarantine. A type in
    a ``build`` is there only where the server was built with that.
    """

    declared: str
    stored: str
    samples: tuple[Sample, ...] = ()
    refused: tuple[Sample, ...] = ()
    note: str = ""
    needs_libxml: bool = False


def _row(
    declared: str,
    stored: str,
    *samples: tuple[str, str | None] | tuple[str, str | None, int],
    refused: tuple[tuple[str, str], ...] = (),
    note: str = "",
    needs_libxml: bool = False,
) -> TypeRow:
    return TypeRow(
        declared,
        stored,
        tuple(Sample(*sample) for sample in samples),
        tuple(Sample(*sample) for sample in refused),
        note,
        needs_libxml,
    )


_NUMBERS = (
    _row("boolean", "BOOLEAN", ("true", "true"), ("false", "false")),
    _row("smallint", "SMALLINT", ("-32768", "-32768"), ("32767", "32767")),
    _row("integer", "INTEGER", ("-2147483648", "-2147483648"), ("2147483647", "2147483647")),
    _row(
        "bigint",
        "BIGINT",
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807", "9223372036854775807"),
    ),
    _row(
        "numeric(12,2)",
        "DECIMAL(12,2)",
        ("9999999999.99", "9999999999.99"),
        ("-0.01", "-0.01"),
        ("1.5", "1.50"),
        ("0", "0.00"),
        refused=(("'NaN'", "NaN"),),
        note="`numeric(p,s)` of up to 38 digits. DECIMAL has no NaN.",
    ),
    _row(
        "numeric(5)", "DECIMAL(5,0)", ("99999", "99999"), ("-1", "-1"), refused=(("'NaN'", "NaN"),)
    ),
    _row(
        "numeric(18,18)",
        "DECIMAL(18,18)",
        ("0.000000000000000001", ".000000000000000001"),
        ("-0.999999999999999999", "-.999999999999999999"),
        note="DuckDB shows no zero before the point where no digit has its place there.",
    ),
    _row(
        "numeric(19,4)",
        "DECIMAL(19,4)",
        ("999999999999999.9999", "999999999999999.9999"),
        ("-999999999999999.9999", "-999999999999999.9999"),
    ),
    _row(
        "numeric(38,0)",
        "DECIMAL(38,0)",
        ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ("-99999999999999999999999999999999999999", "-99999999999999999999999999999999999999"),
    ),
    _row(
        "numeric(38,10)",
        "DECIMAL(38,10)",
        ("9999999999999999999999999999.9999999999", "9999999999999999999999999999.9999999999"),
        ("0.0000000001", "0.0000000001"),
        refused=(("'NaN'", "NaN"),),
    ),
    _row(
        "numeric(38,38)",
        "DECIMAL(38,38)",
        ("0.99999999999999999999999999999999999999", ".99999999999999999999999999999999999999"),
        ("-0.00000000000000000000000000000000000001", "-.00000000000000000000000000000000000001"),
    ),
    _row(
        "numeric(4,-2)",
        "DECIMAL(6,0)",
        ("123456", "123500"),
        ("-999900", "-999900"),
        ("49", "0"),
        refused=(("'NaN'", "NaN"),),
        note="A scale below zero (PostgreSQL 15): the digits that are always zero count too.",
    ),
    _row(
        "numeric(3,5)",
        "DECIMAL(5,5)",
        ("0.00999", ".00999"),
        ("-0.001", "-.00100"),
        note="A scale above the precision (PostgreSQL 15).",
    ),
    _row(
        "numeric(37,-1)",
        "DECIMAL(38,0)",
        ("99999999999999999999999999999999999990", "99999999999999999999999999999999999990"),
        ("5", "10"),
    ),
    _row(
        "numeric(38,-1)",
        "VARCHAR",
        ("999999999999999999999999999999999999990", "999999999999999999999999999999999999990"),
        ("'NaN'", "NaN"),
        note="Beyond 38 digits: text, every digit kept.",
    ),
    _row(
        "numeric(2,40)",
        "VARCHAR",
        ("1e-40", "0." + "0" * 39 + "1"),
        ("-99e-40", "-0." + "0" * 38 + "99"),
    ),
    _row(
        "numeric(39,0)",
        "VARCHAR",
        ("999999999999999999999999999999999999999", "999999999999999999999999999999999999999"),
        ("'NaN'", "NaN"),
    ),
    _row(
        "numeric(1000,500)",
        "VARCHAR",
        ("1e499", "1" + "0" * 499 + "." + "0" * 500),
        ("-1e-500", "-0." + "0" * 499 + "1"),
    ),
    _row(
        "numeric",
        "VARCHAR",
        ("1.10", "1.10"),
        ("-0.000", "0.000"),
        (
            "12345678901234567890123456789012345678901234567890.5",
            "12345678901234567890123456789012345678901234567890.5",
        ),
        ("1e5", "100000"),
        ("'NaN'", "NaN"),
        ("'Infinity'", "Infinity"),
        ("'-Infinity'", "-Infinity"),
        ("1e131071", "1" + "0" * 131071),
        ("1e-16383", "0." + "0" * 16382 + "1"),
        note="Without precision: text, since any fixed scale could round it; cast it in the model.",
    ),
    _row(
        "real",
        "FLOAT",
        ("0.1", "0.1"),
        ("3.4028235e38", "3.4028235e+38"),
        ("1e-45", "1e-45"),
        ("'-0'", "-0.0"),
        ("'NaN'", "nan"),
        ("- real 'NaN'", "nan"),
        ("'Infinity'", "inf"),
        ("'-Infinity'", "-inf"),
        note="Bit for bit; every NaN becomes the same one.",
    ),
    _row(
        "double precision",
        "DOUBLE",
        ("0.1", "0.1"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("5e-324", "5e-324"),
        ("'-0'", "-0.0"),
        ("'NaN'", "nan"),
        ("- float8 'NaN'", "nan"),
        ("'Infinity'", "inf"),
        ("'-Infinity'", "-inf"),
        note="As `real`.",
    ),
    _row(
        "money",
        "VARCHAR",
        ("12.34", "$12.34"),
        ("'-92233720368547758.08'", "-$92,233,720,368,547,758.08"),
        note="As printed under the database's `lc_monetary`; better `numeric`.",
    ),
)
_TEXTS = (
    _row(
        "text",
        "VARCHAR",
        ("'héllo wörld ☃ 𝄞'", "héllo wörld ☃ 𝄞"),
        ("''", ""),
        (r"E'tab\t, line\n, \\N'", "tab\t, line\n, \\N"),
        ("repeat('x', 3000)", "x" * 3000),
        ("U&'\\+01F6D2'", "\U0001f6d2"),
        ("'NULL'", "NULL"),
    ),
    _row("character varying", "VARCHAR", ("'  a '", "  a "), ("''", "")),
    _row("varchar(40)", "VARCHAR", ("repeat('ü', 40)", "ü" * 40)),
    _row("char(5)", "VARCHAR", ("'abc'", "abc  "), ("''", "     "), note="With its blanks."),
    _row("bpchar", "VARCHAR", ("'abc  '", "abc  "), ("''", "")),
    _row("name", "VARCHAR", ("'Tab le'", "Tab le"), ("''", "")),
    _row(
        '"char"',
        "VARCHAR",
        ("'x'", "x"),
        ("''", ""),
        (r"'\351'", r"\351"),
    ),
    _row("citext", "VARCHAR", ("'MiXed'", "MiXed"), note="Compared with case here."),
    _row(
        "json",
        "VARCHAR",
        ('\'{"a": [1,2,  {"b":null}], "a": 1e2}\'', '{"a": [1,2,  {"b":null}], "a": 1e2}'),
        ("'null'", "null"),
        ("'\"\\u0000\"'", '"\\u0000"'),
        note="Letter by letter.",
    ),
    _row(
        "jsonb",
        "VARCHAR",
        ('\'{"ü":"☃", "a":1.50, "b": [1, {}]}\'', '{"a": 1.50, "b": [1, {}], "ü": "☃"}'),
        ("'null'", "null"),
        ("'123456789012345678901234567890.10'", "123456789012345678901234567890.10"),
        note="As the server prints it; its numbers keep all digits.",
    ),
    _row("jsonpath", "VARCHAR", ("'$.a[*] ? (@ > 1)'", '$."a"[*]?(@ > 1)')),
    _row(
        "xml",
        "VARCHAR",
        ("'<a b=\"1\">é</a>'", '<a b="1">é</a>'),
        note="Without the encoding of its declaration.",
        needs_libxml=True,
    ),
    _row("tsvector", "VARCHAR", ("'a:1 b:2A ''c d'''", "'a':1 'b':2A 'c d'"), ("''", "")),
    _row("tsquery", "VARCHAR", ("'a & !b <-> c:*A'", "'a' & !'b' <-> 'c':*A")),
)
_BYTES = (
    _row(
        "bytea",
        "BLOB",
        ("'\\x00ff41'", "\\x00\\xFFA"),
        ("''", ""),
        ("decode(repeat('7a', 3000), 'hex')", "z" * 3000),
    ),
    _row("bit(3)", "VARCHAR", ("B'101'", "101")),
    _row(
        "bit varying",
        "VARCHAR",
        ("B''", ""),
        ("B'0101'", "0101"),
        ("repeat('10', 600)::varbit", "10" * 600),
    ),
    _row("varbit(5)", "VARCHAR", ("B'01'", "01")),
)
_TIMES = (
    _row(
        "date",
        "DATE",
        ("'2026-02-28'", "2026-02-28"),
        ("'4714-11-24 BC'", "4714-11-24 (BC)"),
        ("'0001-12-31 BC'", "0001-12-31 (BC)"),
        ("'0001-01-01'", "0001-01-01"),
        ("'10000-01-01'", "10000-01-01"),
        ("'5874897-12-31'", "5874897-12-31"),
        ("'infinity'", "infinity"),
        ("'-infinity'", "-infinity"),
        note="All of PostgreSQL's dates.",
    ),
    _row(
        "timestamp",
        "TIMESTAMP",
        ("'2026-02-28 23:59:59.999999'", "2026-02-28 23:59:59.999999"),
        ("'4714-11-24 00:00:00 BC'", "4714-11-24 (BC) 00:00:00"),
        ("'0044-03-15 12:00:00.5 BC'", "0044-03-15 (BC) 12:00:00.5"),
        ("'1969-12-31 23:59:59.999999'", "1969-12-31 23:59:59.999999"),
        ("'12026-01-01'", "12026-01-01 00:00:00"),
        ("'294247-01-10 04:00:54.775806'", "294247-01-10 04:00:54.775806"),
        ("'infinity'", "infinity"),
        ("'-infinity'", "-infinity"),
        refused=(
            ("'294247-01-10 04:00:54.775807'", "294247-01-10 04:00:54.775807"),
            ("'294276-12-31 23:59:59.5'", "294276-12-31 23:59:59.5"),
            ("'294276-12-31'", "294276-12-31 00:00:00"),
        ),
        note="From 294247-01-10 04:00:54.775807 on, refused.",
    ),
    _row("timestamp(0)", "TIMESTAMP", ("'2026-02-28 23:59:59.5'", "2026-03-01 00:00:00")),
    _row(
        "timestamptz",
        "TIMESTAMPTZ",
        ("'2026-02-28 23:59:59.999999+03'", "2026-02-28 20:59:59.999999+00"),
        ("'4714-11-24 00:00:00+00 BC'", "4714-11-24 (BC) 00:00:00+00"),
        ("'0044-03-15 12:00:00+00 BC'", "0044-03-15 (BC) 12:00:00+00"),
        ("'12026-01-01 00:00:00.001+00'", "12026-01-01 00:00:00.001+00"),
        ("'infinity'", "infinity"),
        ("'-infinity'", "-infinity"),
        refused=(("'294276-12-31 23:59:59.999999+00'", "294276-12-31 23:59:59.999999+00"),),
        note="The instant; shown in the project's time zone. Refused as `timestamp`.",
    ),
    _row(
        "time",
        "VARCHAR",
        ("'23:59:59.999999'", "23:59:59.999999"),
        ("'24:00:00'", "24:00:00"),
        ("'00:00:00'", "00:00:00"),
    ),
    _row("time(3)", "VARCHAR", ("'12:00:00.1235'", "12:00:00.124")),
    _row(
        "timetz",
        "VARCHAR",
        ("'24:00:00-03:30'", "24:00:00-03:30"),
        ("'12:00:00.5+15:59:59'", "12:00:00.5+15:59:59"),
        note="With the offset it was stored with.",
    ),
    _row(
        "interval",
        "VARCHAR",
        ("'1 year 2 mons -3 days -04:05:06.789'", "1 year 2 mons -3 days -04:05:06.789"),
        ("'0'", "00:00:00"),
        ("'-178000000 years'", "-178000000 years"),
        ("'2147483647 days 2562047788:00:54.775807'", "2147483647 days 2562047788:00:54.775807"),
        ("'infinity'", "infinity", 17),
        ("'-infinity'", "-infinity", 17),
        note="DuckDB casts it to INTERVAL, as far as that reaches (no infinity).",
    ),
    _row("interval hour to second(2)", "VARCHAR", ("'1 day 02:03:04.567'", "1 day 02:03:04.57")),
)
_SPECIAL = (
    _row(
        "uuid",
        "UUID",
        ("'12345678-1234-5678-1234-56781234ABCD'", "12345678-1234-5678-1234-56781234abcd"),
        ("'ffffffff-ffff-ffff-ffff-ffffffffffff'", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ("'00000000-0000-0000-0000-000000000000'", "00000000-0000-0000-0000-000000000000"),
    ),
    _row(
        "inet",
        "VARCHAR",
        ("'10.0.0.1/8'", "10.0.0.1/8"),
        ("'10.0.0.1'", "10.0.0.1"),
        ("'::ffff:1.2.3.4/96'", "::ffff:1.2.3.4/96"),
        ("'fe80::1'", "fe80::1"),
    ),
    _row(
        "cidr",
        "VARCHAR",
        ("'10.0.0.0/8'", "10.0.0.0/8"),
        ("'10.1.2.3'", "10.1.2.3/32"),
        ("'::/0'", "::/0"),
    ),
    _row("macaddr", "VARCHAR", ("'08-00-2B-01-02-03'", "08:00:2b:01:02:03")),
    _row("macaddr8", "VARCHAR", ("'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05")),
    _row(
        "point",
        "VARCHAR",
        ("'(1,2.5)'", "(1,2.5)"),
        ("point('NaN', '-Infinity')", "(NaN,-Infinity)"),
        ("point(0.1, -0.0::float8)", "(0.1,-0)"),
    ),
    _row("line", "VARCHAR", ("'{1,-2,0.1}'", "{1,-2,0.1}")),
    _row("lseg", "VARCHAR", ("'[(0,0),(1,1e300)]'", "[(0,0),(1,1e+300)]")),
    _row("box", "VARCHAR", ("'((0,0),(1,2))'", "(1,2),(0,0)")),
    _row(
        "path",
        "VARCHAR",
        ("'[(0,0),(1,1.5)]'", "[(0,0),(1,1.5)]"),
        ("'((0,0),(1,1))'", "((0,0),(1,1))"),
    ),
    _row("polygon", "VARCHAR", ("'((0,0),(1,0),(1,1))'", "((0,0),(1,0),(1,1))")),
    _row("circle", "VARCHAR", ("'<(1,2),3>'", "<(1,2),3>")),
)
_RANGES = (
    _row("int4range", "VARCHAR", ("'(1,5]'", "[2,6)"), ("'empty'", "empty"), ("'(,)'", "(,)")),
    _row("int8range", "VARCHAR", ("'[1,9223372036854775807)'", "[1,9223372036854775807)")),
    _row(
        "numrange",
        "VARCHAR",
        ("'[1.50,NaN]'", "[1.50,NaN]"),
        ("'[-Infinity,1e40)'", "[-Infinity,1" + "0" * 40 + ")"),
    ),
    _row(
        "tsrange",
        "VARCHAR",
        ("'[2026-01-01 00:00,infinity)'", '["2026-01-01 00:00:00",infinity)'),
        ("'(0044-03-15 BC,)'", '("0044-03-15 00:00:00 BC",)'),
    ),
    _row(
        "tstzrange",
        "VARCHAR",
        (
            "'[2026-01-01 00:00+03,2026-01-02 00:00+03)'",
            '["2025-12-31 21:00:00+00","2026-01-01 21:00:00+00")',
        ),
    ),
    _row("daterange", "VARCHAR", ("'[2026-01-01,infinity)'", "[2026-01-01,infinity)")),
    _row("int4multirange", "VARCHAR", ("'{[1,3),[5,)}'", "{[1,3),[5,)}"), ("'{}'", "{}")),
    _row("int8multirange", "VARCHAR", ("'{[1,3),[3,4)}'", "{[1,4)}")),
    _row("nummultirange", "VARCHAR", ("'{[1.0,2.00]}'", "{[1.0,2.00]}")),
    _row(
        "tsmultirange",
        "VARCHAR",
        ("'{[2026-01-01,2026-01-02)}'", '{["2026-01-01 00:00:00","2026-01-02 00:00:00")}'),
    ),
    _row(
        "tstzmultirange", "VARCHAR", ("'{[2026-01-01 00:00+00,)}'", '{["2026-01-01 00:00:00+00",)}')
    ),
    _row("datemultirange", "VARCHAR", ("'{[2026-01-01,2026-01-02]}'", "{[2026-01-01,2026-01-03)}")),
)
OWN_TYPES = (
    _row(
        "mood",
        "VARCHAR",
        ("'häppy, or so'", "häppy, or so"),
        ("'sad'", "sad"),
        note="An enum: its label. A label that is renamed stays as it was in rows that do not change.",
    ),
    _row(
        "price",
        "DECIMAL(10,4)",
        ("12.34567", "12.3457"),
        ("0", "0.0000"),
        refused=(("'NaN'", "NaN"),),
        note="A domain: as what it is made of, however deep.",
    ),
    _row("any_number", "VARCHAR", ("1.10", "1.10"), ("'NaN'", "NaN")),
    _row("code", "VARCHAR", ("'a'", "a   ")),
    _row("feeling", "VARCHAR", ("'ok'", "ok")),
    _row(
        "instant",
        "TIMESTAMPTZ",
        ("'2026-01-01 00:00:00.1235+00'", "2026-01-01 00:00:00.124+00"),
        ("'infinity'", "infinity"),
    ),
    _row("span", "VARCHAR", ("'[1,2]'", "[1,3)")),
    _row("moods", "VARCHAR", ("'{sad,\"häppy, or so\"}'", '{sad,"häppy, or so"}')),
    _row("twins", "VARCHAR", ("row(1, null)", "(1,)")),
    _row("length_of_time", "VARCHAR", ("'36 hours'", "36:00:00")),
    _row("information_schema.sql_identifier", "VARCHAR", ("'a name'", "a name")),
    _row(
        "pair",
        "VARCHAR",
        ("row(1, 'x, \"y\"')", '(1,"x, ""y""")'),
        ("row(1, null)", "(1,)"),
        ("row(null, null)", "(,)"),
        ("row(null, '')", '(,"")'),
        note="A composite; one of NULLs alone is not NULL.",
    ),
    _row(
        "deep",
        "VARCHAR",
        (
            "row(array[row(1, 'a')::pair, null, row(null, null)::pair], '2026-01-01 00:00+03', 1.50)",
            '("{""(1,a)"",NULL,""(,)""}","2025-12-31 21:00:00+00",1.50)',
        ),
    ),
    _row("float_range", "VARCHAR", ("'[0.1,Infinity]'", "[0.1,Infinity]")),
    _row("float_multirange", "VARCHAR", ("'{[0.1,0.3)}'", "{[0.1,0.3)}")),
    _row(
        "integer[]",
        "VARCHAR",
        ("'{1,2,NULL,-3}'", "{1,2,NULL,-3}"),
        ("'{}'", "{}"),
        ("'{{1,2},{3,4}}'", "{{1,2},{3,4}}"),
        ("'[-1:0][2:2]={{1},{2}}'", "[-1:0][2:2]={{1},{2}}"),
        note="An array, of any type and any number of dimensions.",
    ),
    _row(
        "text[]",
        "VARCHAR",
        (
            "array['a b', '', null, 'NULL', 'q\"\\', '{,}']",
            '{"a b","",NULL,"NULL","q\\"\\\\","{,}"}',
        ),
    ),
    _row(
        "numeric[]",
        "VARCHAR",
        (
            "array[1.50, null, 'NaN', '-Infinity', 1e40]",
            "{1.50,NULL,NaN,-Infinity,1" + "0" * 40 + "}",
        ),
    ),
    _row("numeric(8,2)[]", "VARCHAR", ("'{1.5,NaN}'", "{1.50,NaN}")),
    _row(
        "double precision[]",
        "VARCHAR",
        ("array[0.1, '-0', 'NaN', 'Infinity', 5e-324]::float8[]", "{0.1,-0,NaN,Infinity,5e-324}"),
    ),
    _row(
        "timestamptz[]",
        "VARCHAR",
        (
            "'{2026-01-01 00:00+03,infinity,0044-03-15 00:00+00 BC}'",
            '{"2025-12-31 21:00:00+00",infinity,"0044-03-15 00:00:00+00 BC"}',
        ),
    ),
    _row("interval[]", "VARCHAR", ("'{1 day,-00:00:01}'", '{"1 day",-00:00:01}')),
    _row("bytea[]", "VARCHAR", ("array['\\x00ff'::bytea]", '{"\\\\x00ff"}')),
    _row("mood[]", "VARCHAR", ("array['sad', null]::mood[]", "{sad,NULL}")),
    _row(
        "pair[]",
        "VARCHAR",
        ("array[row(1, 'x y')::pair, row(null, null)::pair, null]", '{"(1,\\"x y\\")","(,)",NULL}'),
    ),
    _row("price[]", "VARCHAR", ("'{1.5,NULL}'", "{1.5000,NULL}")),
    _row(
        "hstore",
        "VARCHAR",
        ('\'a=>1, "b c"=>NULL, d=>""\'', '"a"=>"1", "d"=>"", "b c"=>NULL'),
        ("''", ""),
        note="A type of an extension, like the ones below: as printed.",
    ),
    _row("ltree", "VARCHAR", ("'top.science'", "top.science")),
    _row("cube", "VARCHAR", ("'(1,2),(3,4)'", "(1, 2),(3, 4)")),
    _row("seg", "VARCHAR", ("'1.50 .. 2'", "1.50 .. 2")),
    _row("isbn13", "VARCHAR", ("'978-0-393-04002-9'", "978-0-393-04002-9")),
    _row("query_int", "VARCHAR", ("'1&(2|3)'", "1 & ( 2 | 3 )")),
)
_SERVERS_OWN = (
    _row("oid", "UINTEGER", ("0", "0"), ("4294967295", "4294967295")),
    _row("xid", "VARCHAR", ("'4294967295'", "4294967295")),
    _row("xid8", "VARCHAR", ("'18446744073709551615'", "18446744073709551615")),
    _row("cid", "VARCHAR", ("'1'", "1")),
    _row("tid", "VARCHAR", ("'(4294967295,65535)'", "(4294967295,65535)")),
    _row("pg_lsn", "VARCHAR", ("'16/B374D848'", "16/B374D848"), ("'0/0'", "0/0")),
    _row("txid_snapshot", "VARCHAR", ("'10:20:10,14'", "10:20:10,14")),
    _row("pg_snapshot", "VARCHAR", ("'10:20:10,14'", "10:20:10,14")),
    _row("int2vector", "VARCHAR", ("'1 -2 3'", "1 -2 3"), ("''", "")),
    _row("oidvector", "VARCHAR", ("'1 2'", "1 2")),
    _row(
        "regclass",
        "VARCHAR",
        ("'pg_class'", "pg_class"),
        ("'public.stats'", "public.stats"),
        ("0::regclass", "-"),
        ("4294967295::oid::regclass", "4294967295"),
        note="The object's name when the row was written, with its schema unless that is `pg_catalog`; so do all the `reg…` types. A later renaming does not change it.",
    ),
    _row("regtype", "VARCHAR", ("'int4'", "integer"), ("'public.mood'", "public.mood")),
    _row("regproc", "VARCHAR", ("'pg_sleep'", "pg_sleep")),
    _row("regprocedure", "VARCHAR", ("'sum(int4)'", "sum(integer)")),
    _row("regoper", "VARCHAR", ("'pg_catalog.||/'", "||/")),
    _row("regoperator", "VARCHAR", ("'*(int4,int4)'", "*(integer,integer)")),
    _row("regconfig", "VARCHAR", ("'simple'", "simple")),
    _row("regdictionary", "VARCHAR", ("'simple'", "simple")),
    _row("regnamespace", "VARCHAR", ("'pg_catalog'", "pg_catalog")),
    _row("regrole", "VARCHAR", ("'pg_monitor'", "pg_monitor")),
    _row("regcollation", "VARCHAR", ("'\"C\"'", '"C"')),
    _row(
        "aclitem",
        "VARCHAR",
        ("'pg_monitor=r*w/pg_signal_backend'", "pg_monitor=r*w/pg_signal_backend"),
    ),
    _row("refcursor", "VARCHAR", ("'a cursor'", "a cursor")),
    _row(
        "pg_node_tree",
        "VARCHAR",
        ("(select ev_action from pg_rewrite where ev_class = 'pg_tables'::regclass)", None),
    ),
    _row("pg_ndistinct", "VARCHAR", ("(select stxdndistinct from pg_statistic_ext_data)", None)),
    _row(
        "pg_dependencies", "VARCHAR", ("(select stxddependencies from pg_statistic_ext_data)", None)
    ),
    _row("pg_mcv_list", "VARCHAR", ("(select stxdmcv from pg_statistic_ext_data)", None)),
    _row(
        "gtsvector",
        "VARCHAR",
        note="Only indexes hold values of this and the next two types: a column of them is NULL.",
    ),
    _row("pg_brin_bloom_summary", "VARCHAR"),
    _row("pg_brin_minmax_multi_summary", "VARCHAR"),
)

#: Heading → its types.
TYPE_ROWS: dict[str, tuple[TypeRow, ...]] = {
    "Numbers and truth": _NUMBERS,
    "Text": _TEXTS,
    "Bytes and bits": _BYTES,
    "Dates and times": _TIMES,
    "Identifiers, addresses, shapes": _SPECIAL,
    "Ranges": _RANGES,
    "Your own types, arrays and extensions": OWN_TYPES,
    "The server's own": _SERVERS_OWN,
}
