"""Which tables can be followed, and why others cannot."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mariadb import Server
from tests.sources.mysql.conftest import Database, make_database
from tests.sources.mysql.replica import Replica
from upwell.core.errors import EnvironmentFault, UpwellError, UsageError
from upwell.sources.mysql.datatypes import labels_of
from upwell.sources.mysql.url import parse_url

pytestmark = pytest.mark.mariadb

_REFERRING = "create table t (id int primary key, p int, foreign key (p) references p (id) {})"
UNFIT = {
    "no key": ("create table t (id int)", "table_without_key"),
    "a key of a prefix": ("create table t (v text, primary key (v(10)))", "table_without_key"),
    "a unique key that may be NULL": ("create table t (v int unique)", "table_without_key"),
    "MyISAM": ("create table t (id int primary key) engine = MyISAM", "table_kind"),
    "a view": ("create view t as select 1 as id", "table_kind"),
    "versions": ("create table t (id int primary key) with system versioning", "table_kind"),
    "a sequence": ("create sequence t", "table_kind"),
    "a compressed column": (
        "create table t (id int primary key, v varchar(100) compressed)",
        "column_type_unknown",
    ),
    "a character set without a table": (
        "create table t (id int primary key, v varchar(9) charset eucjpms)",
        "column_type_unknown",
    ),
    "a column of our name": (
        "create table t (id int primary key, _Weight int)",
        "column_name_taken",
    ),
    "a cascade": (
        _REFERRING.format("on delete cascade"),
        "foreign_key_cascades",
    ),
    "a reference that is emptied": (
        _REFERRING.format("on update restrict on delete set null"),
        "foreign_key_cascades",
    ),
    "a key that follows another": (
        _REFERRING.format("on update cascade"),
        "foreign_key_cascades",
    ),
    "nothing": ("do 0", "table_unknown"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_table_that_cannot_be_followed_is_unfit_with_a_reason(
    database: Database, case: str
) -> None:
    statement, code = UNFIT[case]
    database.run("create table p (id int primary key)", statement)
    looked = database.source("p", "t").look()
    assert set(looked.tables) == {"shop.p"}
    assert looked.unfit["shop.t"].code == code
    assert looked.unfit["shop.t"].next_step


def test_rows_that_a_foreign_key_deletes_are_in_no_log(database: Database) -> None:
    """What the refusal rests on."""
    database.run(
        "create table p (id int primary key)",
        "create table c (id int primary key, p int, foreign key (p) references p (id))",
    )
    replica = database.replica("p", "c")
    database.run("insert into p values (1)", "insert into c values (1, 1)")
    replica.catch_up()
    database.run(
        "alter table c drop foreign key c_ibfk_1",
        "alter table c add foreign key (p) references p (id) on delete cascade",
        "delete from p",
    )
    assert database.value("select count(*) from c") == 0
    replica.catch_up()
    assert replica.unfit == ["foreign_key_cascades"]
    assert len(replica.tables["shop.c"].rows) == 1


def test_a_foreign_key_that_only_refuses_is_fine(database: Database) -> None:
    database.run(
        "create table p (id int primary key)",
        "create table t (id int primary key, p int, foreign key (p) references p (id))",
    )
    assert not database.source("p", "t").look().unfit


def test_a_unique_key_of_columns_that_are_never_null_serves(database: Database) -> None:
    database.run(
        "create table t (a int, b int not null, c int not null, unique (a), unique (c, b))"
    )
    replica = database.replica("t")
    assert replica.tables["shop.t"].table.schema.key == ("c", "b")
    database.run("insert into t values (1, 2, 3), (null, 5, 6)", "update t set b = b + 1")
    replica.catch_up()
    replica.check()


def test_a_misspelled_table_is_guessed(database: Database) -> None:
    database.run("create table orders (id int primary key)")
    (unfit,) = database.source("ordres").look().unfit.values()
    assert unfit.next_step == "did you mean orders?"


def test_labels_are_read_as_the_catalogue_escapes_them() -> None:
    assert labels_of("'a','it''s','a\\\\b','c,d','\\n'") == ("a", "it's", "a\\b", "c,d", "\n")
    assert labels_of("''") == ("",)


URLS = {
    "": "url_empty",
    "postgresql://u@h/d": "url_invalid",
    "mysql://u:s3cret@h:port/d": "url_invalid",
    "mysql://u:s3c@ret@h/d": "url_invalid",
    "mysql://u:s3c/ret@h/d": "url_invalid",
    "mysql://u:s3cret@h": "url_invalid",
    "mysql://u:s3cret@h/d?init=x": "url_option_wrong",
    "mysql://u:s3cret@h/d?ssl-mode=maybe": "url_option_wrong",
    "mysql://u:s3cret@h/d?connect-timeout=soon": "url_option_wrong",
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_url(url)
    assert raised.value.code == URLS[url]
    assert "s3c" not in str(raised.value)


def test_a_url_names_everything() -> None:
    address = parse_url("mysql://me:p%40ss%2F@db.example:3307/shop?ssl-mode=verify_ca&ssl-ca=/ca")
    assert (address.user, address.password, address.port) == ("me", "p@ss/", 3307)
    assert (address.ssl_mode, address.ssl_ca) == ("VERIFY_CA", "/ca")
    assert "p@ss" not in repr(address)
    assert str(address) == "db.example:3307/shop"


@pytest.fixture(scope="module")
def guarded(mariadb: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A server with a certificate of an authority of its own, for 127.0.0.1."""
    assert mariadb.process_id  # or the test was skipped
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    for name, subject in (("ca", "/CN=authority"), ("other", "/CN=another")):
        _openssl(
            folder,
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj {subject}"
            f" -keyout {name}.key -out {name}.pem",
        )
    _openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=db -keyout s.key -out s.csr")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    _openssl(
        folder,
        "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext"
        " -out s.pem",
    )
    settings = {f"ssl_{part}": str(folder / file) for part, file in _SSL.items()}
    with (
        tempfile.TemporaryDirectory(prefix="upwell-test-") as name,
        Server(Path(name), {**settings, "require_secure_transport": "ON"}) as server,
    ):
        database = make_database(server)
        database.run(
            "create user u@'127.0.0.1' identified by 'pw'",
            "grant all on *.* to u@'127.0.0.1'",
            "create table t (id int primary key, v longtext)",
        )
        database.server.settings["tls_folder"] = str(folder)
        yield database
        for source in database.sources:
            source.close()


_SSL = {"ca": "ca.pem", "cert": "s.pem", "key": "s.key"}


def _openssl(folder: Path, arguments: str) -> None:
    command = ["openssl", *arguments.split(" ")]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=60)


@pytest.mark.parametrize("mode", ["PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"])
def test_tables_are_followed_over_tls(guarded: Database, mode: str) -> None:
    folder = guarded.server.settings["tls_folder"]
    verify = f"&ssl-ca={folder}/ca.pem" if mode.startswith("VERIFY") else ""
    url = guarded.server.tcp_url_of(guarded.name, "u", "pw", f"ssl-mode={mode}{verify}")
    replica = Replica(guarded.source("t", url=url), guarded.url, ["t"])
    replica.copy()
    guarded.run("delete from t", "insert into t select seq, repeat('x', 2000) from seq_1_to_3000")
    replica.catch_up()
    replica.check()
    replica.close()


REFUSED = {
    "another authority": ("ssl-mode=VERIFY_CA&ssl-ca={folder}/other.pem", "certificate_refused"),
    "another authority, preferred": ("ssl-ca={folder}/other.pem", "certificate_refused"),
    "no authority named": ("ssl-mode=VERIFY_CA", "certificate_refused"),
    "no TLS": ("ssl-mode=DISABLED", "password_wrong"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_server_that_is_not_trusted_is_refused(guarded: Database, case: str) -> None:
    options, code = REFUSED[case]
    options = options.format(folder=guarded.server.settings["tls_folder"])
    url = guarded.server.tcp_url_of(guarded.name, "u", "pw", options)
    with pytest.raises(EnvironmentFault) as raised:
        guarded.source("t", url=url).look()
    assert raised.value.code == code
    assert "ssl-" in raised.value.next_step


def test_the_library_is_an_extra(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(UpwellError, match="pymysql") as raised:
        database.source("t").look()
    assert "upwell[mysql]" in raised.value.next_step
