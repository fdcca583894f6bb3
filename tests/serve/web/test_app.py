"""The application over HTTP, on a real server."""

from __future__ import annotations

import csv
import io
import json
import socket
import threading
import time
from decimal import Decimal

import numpy as np
import pytest

from upwell.core.errors import EnvironmentFault, Unavailable, UsageError
from upwell.core.histogram import Histogram
from upwell.core.schema import Column, TableSchema
from upwell.serve.web.app import create_app
from upwell.serve.web.guard import is_our_host
from upwell.serve.web.server import serve as serve_blocking
from upwell.testing import MemoryFeed

from .conftest import Running, Serve, Served, wait_until
from .shop import NET_SALES, SCHEMA, Row, batch, make_project, table


def now_us() -> int:
    return time.time_ns() // 1000


def sale(order: int, category: str | None = "Hats", amount: str = "10.00") -> Row:
    return (order, now_us(), "North", category, 1, Decimal(amount))


@pytest.fixture
def shop(feed: MemoryFeed) -> MemoryFeed:
    """A feed whose first version is there."""
    feed.replace(SCHEMA, table([sale(1)]))
    feed.commit()
    return feed


# ── what moves ───────────────────────────────────────────────────────────────────────────────────


def test_a_commit_reaches_an_open_page_without_being_asked_for(
    serve: Serve, shop: MemoryFeed
) -> None:
    views = serve().views("/live?dashboard=sales")
    assert next(views)["tiles"][NET_SALES]["value"] == 10
    shop.change(SCHEMA.name, batch([sale(2, amount="0.55")], [1]))
    version = shop.commit()
    view = next(views)
    assert (view["version"], view["tiles"][NET_SALES]["value"]) == (version, 10.55)


def test_a_page_opened_before_any_data_shows_it_when_it_comes(
    serve: Serve, feed: MemoryFeed
) -> None:
    served = serve()
    assert served.get("/readyz").status == 503
    assert served.get("/healthz").status == 200
    page = served.get("/")
    assert page.status == 200
    assert b'id="payload">null<' in page.body
    refused = served.get("/api/v1/dashboards/sales")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    views = served.views("/live?dashboard=sales")
    feed.replace(SCHEMA, table([sale(1)]))
    feed.commit()
    assert next(views)["tiles"][NET_SALES]["value"] == 10
    assert served.get("/readyz").status == 200


def test_every_second_each_viewer_hears_how_old_the_data_is_and_why(
    serve: Serve, shop: MemoryFeed
) -> None:
    served = serve()
    ages = (data for name, data in served.stream("/live?dashboard=sales") if name == "age")
    wait_until(lambda: served.site.replica.version is not None)
    live = next(age for age in ages if age["state"] != "waiting")
    assert live["state"] == "live"
    shop.stand_still("the database is away", complete_through_us=now_us() - 60_000_000)
    delayed = next(age for age in ages if age["state"] != "live")
    assert (delayed["state"], delayed["trouble"]) == ("delayed", "the database is away")
    assert 60_000 <= delayed["age_ms"] < 90_000


def test_the_page_holds_the_same_numbers_as_the_api(standing_shop: Served) -> None:
    served = standing_shop
    page = served.get("/dashboards/sales?category=Hats").body.decode()
    inlined = json.loads(page.split('id="payload">')[1].split("</script>")[0])
    api = served.get("/api/v1/dashboards/sales?category=Hats").json
    assert inlined["tiles"][NET_SALES] == api["tiles"][NET_SALES]
    assert api["filters"] == [{"dimension": "category", "key": "Hats", "label": "Hats"}]


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "10.0.0.1"])
def test_a_foreign_host_is_refused_in_clear_words(standing_shop: Served, host: str) -> None:
    served = standing_shop
    answer = served.get("/api/v1/dashboards/sales", host=host.format(port=served.port))
    assert answer.status == 421
    assert answer.json["type"] == "urn:upwell:error:foreign_host"
    assert f"http://localhost:{served.port}/" in answer.json["detail"]


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:8321", True),
        ("LOCALHOST:8321", True),
        ("127.0.0.1:8321", True),
        ("[::1]:8321", True),
        ("localhost", False),
        ("localhost:80", False),
        ("localhost.evil.example:8321", False),
        ("127.0.0.1.evil.example:8321", False),
        ("[::1]", False),
        ("", False),
        (":8321", False),
        ("localhost:8321:8321", False),
    ],
)
def test_only_loopback_with_our_port_is_our_host(host: str, is_ours: bool) -> None:
    assert is_our_host(host, 8321) is is_ours


@pytest.mark.parametrize("path", ["/", "/live?dashboard=sales", "/api/v1/dashboards/sales"])
def test_another_sites_page_may_not_read_and_nothing_can_be_written(
    standing_shop: Served, path: str
) -> None:
    served = standing_shop
    assert served.get(path, sec_fetch_site="cross-site", sec_fetch_mode="cors").status == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = served.get(path, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/freshness", "/dashboards/none", "/healthz", "/nowhere"]
)
def test_every_answer_is_sealed(standing_shop: Served, path: str) -> None:
    answer = standing_shop.get(path)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_has_nothing_inline_but_data(serve: Serve, shop: MemoryFeed) -> None:
    shop.change(SCHEMA.name, batch([sale(2, category="</script><script>alert(1)</script>")], [1]))
    shop.commit()
    served = serve()
    wait_until(lambda: served.site.replica.version is not None)
    page = served.get("/").body.decode()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert " style=" not in page
    assert " onclick" not in page


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/dashboards/sales?period=9d", 400, "expected one of: 24h, 7d, 30d"),
        ("/api/v1/dashboards/sales?colour=red", 400, "expected one of: category, region"),
        ("/api/v1/dashboards/sale", 404, "did you mean sales?"),
        ("/live?dashboard=sales&period=9d", 400, "expected one of"),
        ("/live", 404, "expected one of: sales"),
    ],
)
def test_a_wrong_question_gets_a_problem_that_says_what_is_expected(
    standing_shop: Served, path: str, status: int, says: str
) -> None:
    answer = standing_shop.get(path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json["detail"]


def test_a_reader_who_asks_wrongly_gets_a_page(standing_shop: Served) -> None:
    answer = standing_shop.get("/dashboards/sales?period=9d")
    assert answer.status == 400
    assert b"<h1>dashboard sales has no period" in answer.body


@pytest.mark.usefixtures("shop")
def test_one_viewer_too_many_is_told_so_and_the_others_stay(serve: Serve) -> None:
    served = serve(viewers_max=1)
    first = served.stream("/live?dashboard=sales")
    next(first)
    refused = served.get("/live?dashboard=sales")
    assert refused.status == 503
    assert refused.json["type"] == "urn:upwell:error:too_many_viewers"
    next(first)
    assert b"upwell_web_viewers_refused_total 1" in served.get("/metrics").body


# ── what can be taken away ───────────────────────────────────────────────────────────────────────


def test_exported_text_cannot_become_a_formula(serve: Serve, shop: MemoryFeed) -> None:
    formula = '=HYPERLINK("http://evil.example","x")'
    shop.change(SCHEMA.name, batch([sale(2, category=formula, amount="-3.50")], [1]))
    shop.commit()
    served = serve()
    wait_until(lambda: served.site.replica.version is not None)
    answer = served.get("/api/v1/dashboards/sales.csv?period=24h")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="sales_24h_' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    (row,) = [row for row in rows if "HYPERLINK" in row["category"] and row["grain"] == ""]
    assert row["category"] == "'" + formula
    assert row["value"] == "-3.50"
    assert len([row for row in rows if row["grain"] == "hour"]) == 2 * 24


def test_static_files_are_kept_for_ever_under_an_address_of_their_content(
    standing_shop: Served,
) -> None:
    served = standing_shop
    address = served.get("/").body.decode().split('src="')[1].split('"')[0]
    plain = served.get(address)
    zipped = served.get(address, accept_encoding="gzip")
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (zipped.headers["content-encoding"], plain.status) == ("gzip", 200)
    assert served.get("/static/000000000000/page.js").status == 404
    assert served.get("/static/%2e%2e/%2e%2e/app.py").status == 404


def test_freshness_counts_each_source_transaction_that_a_board_shows(
    serve: Serve, shop: MemoryFeed
) -> None:
    reported: list[tuple[str, int, Histogram]] = []
    served = serve(report=lambda *each: reported.append(each))
    wait_until(lambda: served.site.replica.version is not None)
    shop.change(SCHEMA.name, batch([sale(2)], [1]))
    shop.commit(committed_at_us=[now_us() - 200_000, now_us() - 100_000])
    wait_until(lambda: served.get("/api/v1/freshness").json["dashboards"]["sales"]["count"])
    told = served.get("/api/v1/freshness").json["dashboards"]["sales"]
    assert told["count"] == 2
    assert 90 <= told["p50_ms"] <= told["p99_ms"]
    assert b'upwell_web_freshness_seconds_count{dashboard="sales"} 2' in served.get("/metrics").body


# ── starting and stopping ────────────────────────────────────────────────────────────────────────


def test_it_stops_within_a_second_with_pages_open_and_reports_what_it_counted(
    shop: MemoryFeed,
) -> None:
    reported: list[tuple[str, int, Histogram]] = []
    app = create_app(make_project(), shop, report=lambda *each: reported.append(each))
    running = Running(app)
    streams = [running.served.stream("/live?dashboard=sales") for _ in range(3)]
    for stream in streams:
        next(stream)
    asleep = socket.create_connection(("127.0.0.1", running.served.port))
    wait_until(lambda: running.served.site.replica.version is not None)
    shop.change(SCHEMA.name, batch([sale(2)], [1]))
    shop.commit(committed_at_us=[now_us()])
    wait_until(lambda: running.served.site.replica.version == 2)
    assert running.stop() < 1.0
    asleep.close()
    assert [(name, seen.count) for name, _, seen in reported] == [("sales", 1)]
    assert threading.active_count() < 20


def test_a_port_that_is_taken_is_an_error_with_the_next_step(shop: MemoryFeed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(EnvironmentFault) as fault:
        Running(create_app(make_project(), shop), taken.getsockname()[1])
    assert fault.value.code == "port_taken"


def test_only_loopback_is_served(shop: MemoryFeed) -> None:
    app = create_app(make_project(), shop)
    with pytest.raises(UsageError, match=r"0\.0\.0\.0"):
        serve_blocking(app, "0.0.0.0", 0)  # noqa: S104 - refused


# ── following the feed ───────────────────────────────────────────────────────────────────────────


def test_after_a_lost_connection_it_goes_on_and_says_meanwhile_what_is_wrong(
    serve: Serve, shop: MemoryFeed
) -> None:
    served = serve()
    views = served.views("/live?dashboard=sales")
    next(views)
    shop.fail(Unavailable("feed_lost", "the engine does not answer"))
    wait_until(lambda: served.site.hub.age().trouble == "the engine does not answer")
    shop.change(SCHEMA.name, batch([sale(2)], [1]))
    shop.commit()
    shop.fail(None)
    assert next(views)["tiles"][NET_SALES]["value"] == 20
    wait_until(lambda: served.site.hub.age().trouble == "")


def test_a_replica_that_disagrees_with_the_feed_starts_over(serve: Serve, shop: MemoryFeed) -> None:
    served = serve()
    wait_until(lambda: served.site.replica.version is not None)
    with served.site.replica._connection.cursor() as vandal:
        vandal.execute("DELETE FROM order_categories")
    row = shop_row(shop)
    shop.change(SCHEMA.name, batch([row], [-1]))
    shop.change(SCHEMA.name, batch([sale(7, amount="70.00")], [1]))
    version = shop.commit()
    wait_until(lambda: served.site.replica.version == version)
    view = served.get("/api/v1/dashboards/sales").json
    assert view["tiles"][NET_SALES]["value"] == 70


def shop_row(shop: MemoryFeed) -> Row:
    """The one row that the first version holds."""
    snapshot = next(iter(shop.follow([SCHEMA.name], None)))
    (row,) = snapshot.rows.to_pylist()  # type: ignore[union-attr]
    placed = int(np.datetime64(row["placed_at"].replace(tzinfo=None), "us").astype(np.int64))
    return (
        row["order_id"],
        placed,
        row["region"],
        row["category"],
        row["units"],
        row["net_amount"],
    )


def test_an_engine_that_comes_back_with_other_columns_is_followed(
    serve: Serve, shop: MemoryFeed
) -> None:
    served = serve()
    views = served.views("/live?dashboard=sales")
    next(views)
    wider = TableSchema(SCHEMA.name, (*SCHEMA.columns, Column("note", "VARCHAR")), SCHEMA.key)
    rows = table([sale(5, amount="5.00")])
    shop.replace(wider, rows.append_column("note", [["new"]]))
    shop.commit()
    assert next(views)["tiles"][NET_SALES]["value"] == 5


# ── what the engine says of itself ───────────────────────────────────────────────────────────────


def test_metrics_hold_what_following_costs_the_sources(shop: MemoryFeed) -> None:
    burden = {"retained_bytes": 5_000_000, "limit_bytes": None, "connections": 3}
    failover = {"is_offered": True, "missing": ["b"], "is_synced": None}
    source = {
        "name": "shop",
        "age_ms": 250,
        "burden": burden,
        "failover": failover,
        "is_followed": True,
    }
    gauges = {
        "version": 7,
        "durable_version": None,
        "tables_still": 1,
        "tables_read": 0,
        "models_held": 2,
        "tables": [
            {"name": "shop.orders", "compared_ms_ago": 90_000, "rows_differed": 3},
            {"name": 'shop."odd"', "compared_ms_ago": None, "rows_differed": 0},
        ],
        "sources": [source],
    }
    running = Running(create_app(make_project(), shop, gauges=lambda: gauges))
    text = running.served.get("/metrics").body.decode()
    running.stop()
    assert "upwell_engine_up 1\n" in text
    assert "upwell_engine_version 7\n" in text
    assert "\nupwell_engine_durable_version " not in text
    assert 'upwell_source_retained_bytes{source="shop"} 5000000\n' in text
    assert 'upwell_source_age_seconds{source="shop"} 0.25\n' in text
    assert 'upwell_source_up{source="shop"} 1\n' in text
    assert 'upwell_table_compared_age_seconds{table="shop.orders"} 90.0\n' in text
    assert "# TYPE upwell_table_rows_differed_total counter\n" in text
    assert 'upwell_table_rows_differed_total{table="shop.orders"} 3\n' in text
    assert 'upwell_table_rows_differed_total{table="shop.\\"odd\\""} 0\n' in text
    assert 'upwell_source_failover_slot{source="shop"} 1\n' in text
    assert 'upwell_source_standbys_missing{source="shop"} 1\n' in text
    assert "\nupwell_source_slot_synchronised{" not in text  # nobody knows


def test_metrics_are_there_while_the_engine_is_away(shop: MemoryFeed) -> None:
    def away() -> None:
        raise Unavailable("engine_away", "the engine does not run")

    running = Running(create_app(make_project(), shop, gauges=away))
    text = running.served.get("/metrics").body.decode()
    running.stop()
    assert "upwell_engine_up 0\n" in text
    assert "upwell_web_viewers 0\n" in text
