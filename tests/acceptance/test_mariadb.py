"""A project on MariaDB, as a user has it: real processes, the shop's own checksums, verbs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import pytest

from tests.acceptance.running import ShopProject, eventually, running
from tests.acceptance.verbs import upwell
from tests.mariadb import Server
from tests.sources.mysql.conftest import Database, drop_database, make_database
from upwell.core.errors import Exit
from upwell.sources.mysql.checksum import row_checksums
from upwell.sources.mysql.places import position_of
from upwell.sources.mysql.server import log_end, meet
from upwell.sources.mysql.session import session
from upwell.sources.mysql.url import parse_url

pytestmark = pytest.mark.mariadb

TABLES = ("customers", "orders")
SCHEMA = (
    "create table customers (id int primary key, country varchar(40))",
    (
        "create table orders (id bigint unsigned primary key auto_increment,"
        " customer_id int not null,"
        " placed_at timestamp(6) not null default now(6), total decimal(10, 2) not null,"
        " status enum('open', 'paid') not null default 'open', note text)"
    ),
    "insert into customers select seq, elt(1 + seq % 3, 'Perú', 'France', '日本') from seq_1_to_50",
    (
        "insert into orders (customer_id, total, note)"
        " select 1 + seq % 50, seq / 4, repeat('ö', seq) from seq_1_to_900"
    ),
)
SETTINGS = """\
name: shop
sources:
  shop:
    type: mysql
    url: ${SHOP_URL}
    tables: [customers, orders]
serve: {http: "127.0.0.1:0"}
lake: {commit_seconds: 1}
"""
MODEL = """\
-- What each country has paid.
select c.country, count(*) as orders, sum(o.total) as total
from shop.orders o join shop.customers c on c.id = o.customer_id
where o.status = 'paid'
group by c.country
"""
PAID = """
    select c.country, count(*), sum(o.total) from orders o join customers c on c.id = o.customer_id
     where o.status = 'paid' group by c.country
"""


@pytest.fixture
def shop(mariadb: Server) -> Iterator[Database]:
    made = make_database(mariadb)
    made.run(*SCHEMA)
    yield made
    drop_database(made)


@pytest.fixture
def url(shop: Database) -> Iterator[str]:
    """As the user of docs/howto/mysql.md, which may do no more than it needs."""
    guide = (Path(__file__).parents[2] / "docs/howto/mysql.md").read_text()
    granted = re.findall(r"^(CREATE USER .*|GRANT .*);$", guide, re.MULTILINE)
    assert len(granted) == 3
    for statement in granted:
        shop.run(statement.replace("upwell@", f"{shop.name}@").replace("shop.*", f"{shop.name}.*"))
    yield shop.server.tcp_url_of(shop.name, shop.name, quote("…"))
    shop.run(f"drop user {shop.name}@'%'")


@pytest.fixture
def project(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShopProject:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "upwell.yaml").write_text(SETTINGS)
    (folder / "models" / "by_country.sql").write_text(MODEL)
    monkeypatch.setenv("SHOP_URL", url)
    return ShopProject(folder, url, "")


def is_equal(project: ShopProject) -> bool:
    """Whether the tables have the shop's row checksums, at the end of its log."""
    with session(parse_url(project.url)) as opened:
        end = position_of(log_end(opened, meet(opened)))
    eventually(lambda: project.engine.ask("checksums")["positions"]["shop"] >= end)
    theirs = row_checksums(project.url, "shop", TABLES)
    ours = project.engine.ask("checksums")["tables"]
    return {name: [str(part) for part in sums] for name, sums in theirs.items()} == dict(ours)


def paid(project: ShopProject) -> dict[str, tuple[int, float]]:
    found = upwell(project.folder, "query", "select * from by_country order by country").data
    return {row["country"]: (row["orders"], float(row["total"])) for row in found["rows"]}


def test_a_project_follows_mariadb_through_stops_and_alters(
    project: ShopProject, shop: Database
) -> None:
    assert upwell(project.folder, "doctor").data["fit"]
    with running(project, "engine"):
        shop.run(
            "update orders set status = 'paid' where id % 3 = 0",
            "delete from orders where id % 10 = 1",
            "update customers set country = 'Österreich' where id < 9",
        )
        assert is_equal(project)
    shop.run(
        "alter table orders add shipped date, add channel varchar(10) not null default 'web'",
        "insert into orders (customer_id, total, status) values (3, 9.99, 'paid')",
        "alter table orders drop column note",
    )
    with running(project, "engine"):
        eventually(lambda: is_equal(project))
        assert paid(project) == {
            country: (count, float(total)) for country, count, total in shop.rows(PAID)
        }
        assert upwell(project.folder, "prove").data["proved"]
        eventually(lambda: bool(upwell(project.folder, "status").data["sources"][0]["burden"]))
        assert upwell(project.folder, "resync", "shop.orders").exit == 0
        assert is_equal(project)


def test_without_its_client_library_the_error_says_what_to_install(
    project: ShopProject, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "pymysql.py").write_text("raise ModuleNotFoundError('pymysql')")
    path = ":".join([str(hidden), *sys.path])
    error = upwell(project.folder, "doctor", PYTHONPATH=path).error
    assert error["code"] == "mysql_not_installed"
    assert "upwell[mysql]" in error["next"]
    error = upwell(project.folder, "run", PYTHONPATH=path).error
    assert error["code"] == "mysql_not_installed"


WRONG: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "type: oracle": ("project_value_wrong", "mysql"),
        "type: postgres": ("project_value_wrong", "postgresql://"),
    }
)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_mysql_source_is_told(project: ShopProject, kind: str) -> None:
    settings = project.folder / "upwell.yaml"
    settings.write_text(settings.read_text().replace("type: mysql", kind))
    code, said = WRONG[kind]
    outcome = upwell(project.folder, "validate")
    assert outcome.exit == Exit.USAGE
    assert code in outcome.output
    assert said in outcome.output
