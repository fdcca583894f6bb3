"""The verbs: one JSON object, an exit code that means something, an error that says what next."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.stored import take_in
from upwell import __version__
from upwell.cli import access
from upwell.cli import main as command_line
from upwell.cli.operate import seconds
from upwell.core.errors import Exit, UsageError
from upwell.core.schema import Column, TableSchema
from upwell.project.read import read_project
from upwell.start import open_store
from upwell.store.place import StatePlace
from upwell.testing import MemorySource

ORDERS = TableSchema(
    "shop.orders",
    (
        Column("id", "BIGINT", nullable=False),
        Column("total", "DECIMAL(12,2)"),
        Column("placed_at", "TIMESTAMPTZ"),
    ),
    ("id",),
)
ROWS = pa.table(
    {
        "id": pa.array([1, 2**53 + 1], pa.int64()),
        "total": ["0.10", None],
        "placed_at": pa.array([1_780_000_000_000_001, None], pa.timestamp("us", "UTC")),
    }
)
SETTINGS = """
name: shop
sources:
  shop: {type: postgres, url: "postgresql://upwell@127.0.0.1:1/shop", tables: [orders]}
"""
MODEL = "-- What was sold.\nselect count(*) as orders, sum(total) as total from shop.orders\n"

Run = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line: exit code, standard output, standard error."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # a test's process keeps its own

    def call(*arguments: str) -> tuple[int, bytes, bytes]:
        with pytest.raises(SystemExit) as ended:
            command_line.main(arguments)
        out, err = capfdbinary.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that was run once and is stopped now."""
    (tmp_path / "models").mkdir()
    (tmp_path / "upwell.yaml").write_text(SETTINGS)
    (tmp_path / "models" / "sold.sql").write_text(MODEL)
    store = open_store(StatePlace(tmp_path), zone="UTC", report=lambda *_, **__: None)
    models = read_project(tmp_path, environment={}).models.values()
    take_in(store, MemorySource("shop", [(ORDERS, ROWS)]), list(models))
    store.close()
    return tmp_path


def said(out: bytes) -> Any:
    """The one JSON object that was printed."""
    assert out.count(b"\n") == 1

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    return json.loads(out, parse_constant=refuse)


WRONG: dict[str, Sequence[str]] = {
    "no such verb": ["nope"],
    "no such option": ["status", "--bogus"],
    "an argument too few": ["query"],
    "an argument too many": ["explain", "a", "b"],
    "no model named": ["explain"],
    "a rate of nothing": ["demo", "--rate", "0"],
    "a rate in words": ["demo", "--rate", "fast"],
    "no duration": ["demo", "--for", "soon"],
    "no project to run": ["run", "--project", "/nonexistent"],
    "no project to validate": ["validate", "--project", "/nonexistent"],
    "no project to look at": ["status", "--project", "/nonexistent"],
    "no project to query": ["query", "select 1", "--project", "/nonexistent"],
    "no project to explain": ["explain", "sold", "--project", "/nonexistent"],
    "no project to prove": ["prove", "--project", "/nonexistent"],
    "no project to verify": ["verify", "--project", "/nonexistent"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_exits_with_2_and_one_json_object(case: str, run: Run) -> None:
    code, out, err = run(*WRONG[case], "--json")
    told = said(out)
    assert code == Exit.USAGE
    assert err == b""
    assert told["ok"] is False
    assert set(told["error"]) == {"code", "what", "where", "next"}
    assert told["error"]["what"]
    assert told["error"]["next"]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_to_people_on_standard_error(case: str, run: Run) -> None:
    code, out, err = run(*WRONG[case])
    assert code == Exit.USAGE
    assert out == b""
    assert b"next:" in err
    assert b"Traceback" not in err


def test_the_version_is_told(run: Run) -> None:
    code, out, _ = run("version", "--json")
    assert code == Exit.DONE
    assert said(out) == {"ok": True, "data": {"version": __version__}}


def test_a_project_without_data_is_the_surroundings_fault(tmp_path: Path, run: Run) -> None:
    (tmp_path / "upwell.yaml").write_text(SETTINGS)
    code, out, _ = run("status", "--project", str(tmp_path), "--json")
    assert code == Exit.ENVIRONMENT
    assert said(out)["error"]["code"] == "no_data"


@pytest.mark.parametrize(
    ("verb", "key"),
    [
        (["status"], "sources"),
        (["validate"], "models"),
        (["explain", "sold"], "text"),
        (["prove"], "proved"),
        (["prove", "sold"], "proved"),
        (["verify"], "requirements"),
        (["query", "from sold"], "rows"),
    ],
)
def test_a_stopped_project_answers(verb: Sequence[str], key: str, run: Run, project: Path) -> None:
    code, out, err = run(*verb, "--project", str(project), "--json")
    assert (code, err) == (Exit.DONE, b"")
    told = said(out)
    assert told["ok"] is True
    assert key in told["data"]
    code, out, _ = run(*verb, "--project", str(project))
    assert code == Exit.DONE
    assert out


@pytest.mark.parametrize("verb", ["explain", "prove"])
def test_an_unknown_model_is_told_with_the_one_that_was_meant(
    verb: str, run: Run, project: Path
) -> None:
    code, out, _ = run(verb, "solt", "--project", str(project), "--json")
    assert code == Exit.USAGE
    assert said(out)["error"]["next"] == "Did you mean sold?"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("select * from shop.ordres", "unknown_table"),
        ("select * from shop.orders; select 1", "not_a_select"),
        ("select nothing from shop.orders", "query_failed"),
        ("selec", "query_does_not_parse"),
    ],
)
def test_a_wrong_query_is_wrong_use(sql: str, code: str, run: Run, project: Path) -> None:
    exit_code, out, _ = run("query", sql, "--project", str(project), "--json")
    assert exit_code == Exit.USAGE
    assert said(out)["error"]["code"] == code
    assert said(out)["error"]["next"]


def test_a_query_in_json_keeps_every_value_exactly(run: Run, project: Path) -> None:
    sql = "from shop.orders order by id"
    _, out, _ = run("query", sql, "--project", str(project), "--json")
    data = said(out)["data"]
    assert data["columns"] == [
        {"name": "id", "type": "BIGINT"},
        {"name": "total", "type": "DECIMAL(12,2)"},
        {"name": "placed_at", "type": "TIMESTAMP WITH TIME ZONE"},
    ]
    at = dt.datetime.fromisoformat(data["rows"][0].pop("placed_at"))
    assert at == dt.datetime(2026, 5, 28, 20, 26, 40, 1, tzinfo=dt.UTC)
    assert data["rows"] == [
        {"id": 1, "total": "0.10"},
        {"id": 2**53 + 1, "total": None, "placed_at": None},
    ]


NEW_TABLE = "select id as refund from shop.refunds\n"


def follow_refunds_too(project: Path) -> None:
    """What a user does to follow another table: name it, and write a model of it."""
    (project / "upwell.yaml").write_text(SETTINGS.replace("[orders]", "[orders, refunds]"))
    (project / "models" / "returned.sql").write_text("-- What came back.\n" + NEW_TABLE)


def test_a_table_added_since_the_last_run_is_no_mistake(run: Run, project: Path) -> None:
    follow_refunds_too(project)
    code, out, _ = run("validate", "--project", str(project), "--json")
    assert code == Exit.DONE
    assert said(out)["data"]["tables_from"] == ""
    assert said(out)["data"]["models"] == ["returned", "sold"]


@pytest.mark.parametrize("verb", [["status"], ["prove"], ["query", "from sold"]])
def test_what_stands_in_the_store_is_told_though_the_project_went_on(
    verb: Sequence[str], run: Run, project: Path
) -> None:
    follow_refunds_too(project)
    code, out, _ = run(*verb, "--project", str(project), "--json")
    assert code == Exit.DONE
    assert "returned" not in out.decode()


def test_a_table_added_since_the_last_run_is_asked_of_the_source(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refunds = TableSchema("shop.refunds", (Column("id", "BIGINT", nullable=False),), ("id",))
    found = {schema.name: schema for schema in (ORDERS, refunds)}
    monkeypatch.setattr(access, "source_layouts", lambda _project: found)
    follow_refunds_too(project)
    code, out, _ = run("validate", "--project", str(project), "--json")
    assert code == Exit.DONE
    assert said(out)["data"]["tables_from"] == "source"
    (project / "models" / "returned.sql").write_text("select nothing from shop.refunds\n")
    code, _, _ = run("validate", "--project", str(project), "--json")
    assert code == Exit.USAGE


@pytest.mark.parametrize("form", ["json", "table", "csv"])
def test_times_that_python_cannot_hold_are_printed(form: str, run: Run, project: Path) -> None:
    sql = (
        "select timestamp_ns '2026-06-01 10:00:00.123456789' as precise, 1 as whole, "
        "'infinity'::date as never, date '0044-03-15 (BC)' as long_ago"
    )
    code, out, err = run("query", sql, "--project", str(project), "--format", form)
    assert (code, b"Traceback" in err) == (Exit.DONE, False)
    if form == "csv":
        return
    for text in (b"10:00:00.123456789", b"infinity", b"0044-03-15 (BC)"):
        assert text in out


def test_floats_that_json_cannot_hold_are_told_as_text(run: Run, project: Path) -> None:
    sql = "select 'nan'::double as n, '-inf'::double as i, [0.5, 'inf'::double] as l, {'a': 1} as s"
    _, out, _ = run("query", sql, "--project", str(project), "--json")
    (row,) = said(out)["data"]["rows"]
    assert row == {"n": "NaN", "i": "-Infinity", "l": [0.5, "Infinity"], "s": {"a": 1}}
    assert math.isnan(float(row["n"]))


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_a_query_comes_back_from_every_format(form: str, run: Run, project: Path) -> None:
    sql = "select id, total from shop.orders order by id"
    code, out, _ = run("query", sql, "--project", str(project), "--format", form)
    assert code == Exit.DONE
    read = {
        "parquet": lambda: pyarrow.parquet.read_table(io.BytesIO(out)),
        "arrow": lambda: pa.ipc.open_stream(out).read_all(),
        "csv": lambda: pyarrow.csv.read_csv(io.BytesIO(out)),
    }
    found = read[form]()
    assert found.column_names == ["id", "total"]
    assert found.column("id").to_pylist() == [1, 2**53 + 1]
    assert [value and float(value) for value in found.column("total").to_pylist()] == [0.1, None]


def test_a_format_nobody_knows_is_told_with_those_there_are(run: Run, project: Path) -> None:
    code, _, err = run("query", "select 1", "--project", str(project), "--format", "xml")
    assert code == Exit.USAGE
    assert b"parquet" in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("8", 8.0), ("0.5s", 0.5), (" 2m ", 120.0)],
)
def test_a_duration_is_read(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "5min", "1e3", "inf", "1.s", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration") as caught:
        seconds(text)
    assert caught.value.next_step
