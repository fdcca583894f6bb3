"""What goes wrong at the server, and what is said then."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.sources.mysql.conftest import Database
from tests.sources.mysql.replica import Replica
from upwell.core.errors import EnvironmentFault, GapError, Unavailable, UpwellError
from upwell.core.position import BEGINNING, Position
from upwell.sources.mysql import MySQLSource

pytestmark = pytest.mark.mariadb


def orders(database: Database) -> Replica:
    database.run(
        "create table orders (id int primary key, n int)", "insert into orders values (1, 1)"
    )
    replica = database.replica("orders")
    replica.copy()
    return replica


def sell(database: Database, *ids: int) -> None:
    for number in ids:
        database.run(f"insert into orders values ({number}, {number})")


def until_raised(replica: Replica) -> UpwellError:
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline
        try:
            batch = replica.stream.poll(1.0)
        except UpwellError as error:
            return error
        if batch is not None:
            replica.apply(batch)


DUMPS = "select id from information_schema.processlist where command like 'Binlog Dump%'"


def killed_dump(database: Database) -> None:
    for (number,) in database.rows(DUMPS):
        database.run(f"kill {number}")


def await_no_dump(database: Database) -> None:
    """A server notices that a follower is gone when it next sends a sign of life."""
    deadline = time.monotonic() + 20
    while database.rows(DUMPS):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_connection_is_unavailable_and_the_next_goes_on(database: Database) -> None:
    replica = orders(database)
    sell(database, 2)
    replica.catch_up()
    sell(database, 3)
    killed_dump(database)
    error = until_raised(replica)
    assert isinstance(error, Unavailable)
    assert error.retry
    replica.reopen()
    sell(database, 4)
    replica.catch_up()
    replica.check()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_starts_again_is_followed_on(own_database: Database, how: str) -> None:
    own_database.run("set global innodb_flush_log_at_trx_commit = 1, global sync_binlog = 1")
    replica = orders(own_database)
    server = own_database.server
    sell(own_database, 2, 3)
    own_database.run("begin", "insert into orders values (99, 0)")  # never committed
    {"stop": server.stop, "kill": server.kill}[how]()
    assert isinstance(until_raised(replica), Unavailable)
    with pytest.raises(Unavailable, match="could not connect"):
        replica.reopen()
    server.start()
    own_database.connection = server.connect(own_database.name)
    sell(own_database, 4)
    replica.stream = replica._stream()
    replica.catch_up()
    replica.check()
    replica.close()


def test_the_log_goes_on_in_other_files(database: Database) -> None:
    replica = orders(database)
    for number in range(2, 8):
        sell(database, number)
        database.run("flush binary logs")
    replica.catch_up()
    replica.check()
    replica.reopen()
    sell(database, 9)
    replica.catch_up()
    replica.check()


def test_time_goes_on_behind_a_new_file_without_changes(database: Database) -> None:
    replica = orders(database)
    database.run("flush binary logs")
    replica.catch_up()
    before = replica.batches[-1].complete_through_us
    deadline = time.monotonic() + 20
    while replica.batches[-1].complete_through_us <= before:
        assert time.monotonic() < deadline
        batch = replica.stream.poll(1.0)
        if batch is not None:
            replica.apply(batch)


def test_a_log_that_was_purged_is_a_gap(own_database: Database) -> None:
    replica = orders(own_database)
    replica.stream.close()
    await_no_dump(own_database)  # what is being read is not purged
    sell(own_database, 2)
    own_database.run("flush binary logs", "flush binary logs")
    last = own_database.rows("show binary logs")[-1][0]
    deadline = time.monotonic() + 20
    while own_database.rows("show binary logs")[0][0] != last:  # until it needs the files no more
        assert time.monotonic() < deadline
        own_database.run(f"purge binary logs to '{last}'")
    with pytest.raises(GapError, match="no longer has file") as raised:
        replica.reopen()
    assert "upwell resync" in raised.value.next_step
    assert raised.value.code == "log_lost"


def test_a_log_begun_anew_is_a_gap(own_database: Database) -> None:
    replica = orders(own_database)
    sell(own_database, *range(2, 20))
    replica.catch_up()
    replica.stream.close()
    own_database.run("reset master")
    with pytest.raises(GapError) as raised:
        replica.reopen()
    assert raised.value.code == "log_lost"
    # The new log is as long as the old one was: only the GTID tells it from that.
    own_database.run("set gtid_domain_id = 3")
    sell(own_database, *range(20, 60))
    with pytest.raises(GapError, match="is not the one read so far") as raised:
        replica.reopen()
    assert raised.value.code == "log_changed"


def test_a_log_begun_anew_while_it_is_followed_is_a_gap(own_database: Database) -> None:
    replica = orders(own_database)
    own_database.run("flush binary logs")
    sell(own_database, *range(2, 20))
    replica.catch_up()
    own_database.run("reset master")
    sell(own_database, 20, 21)
    error = until_raised(replica)
    if isinstance(error, Unavailable):  # the server may just hang up
        with pytest.raises(GapError):
            replica.reopen()
    else:
        assert isinstance(error, GapError), error
    replica.close()


def test_another_server_is_refused(own_database: Database) -> None:
    replica = orders(own_database)
    replica.stream.close()
    own_database.run("set global server_id = 8")
    for call in (replica.reopen, replica.source.copy):
        with pytest.raises(EnvironmentFault, match="another server") as raised:
            call()
        assert raised.value.code == "another_database"


def test_a_source_that_was_never_begun_has_a_gap(database: Database) -> None:
    database.run("create table orders (id int primary key)")
    source = database.source("orders")
    with pytest.raises(GapError) as raised:
        source.stream(BEGINNING, list(source.look().tables.values()))
    assert raised.value.code == "never_begun"
    with pytest.raises(UpwellError, match="no position in a binary log"):
        source.stream(Position("0/16B3748"), [])


SETTINGS = {
    "binlog_format_not_row": "set global binlog_format = 'MIXED'",
    "binlog_row_image_not_full": "set global binlog_row_image = 'MINIMAL'",
}


@pytest.mark.parametrize("code", SETTINGS)
def test_settings_that_lose_changes_are_refused_with_a_remedy(
    own_database: Database, code: str
) -> None:
    own_database.run("create table orders (id int primary key)", SETTINGS[code])
    source = own_database.source("orders")
    with pytest.raises(EnvironmentFault) as raised:
        source.begin(list(source.look().tables.values()))
    assert raised.value.code == code
    assert raised.value.next_step.startswith("SET GLOBAL")


def test_a_server_without_a_log_is_refused(own_database: Database) -> None:
    own_database.run("create table orders (id int primary key)")
    own_database.server.stop()
    del own_database.server.settings["log_bin"]
    own_database.server.start()
    source = own_database.source("orders")
    with pytest.raises(EnvironmentFault) as raised:
        source.begin(list(source.look().tables.values()))
    assert raised.value.code == "log_bin_off"


def test_a_database_that_the_log_leaves_out_is_refused(own_database: Database) -> None:
    own_database.run("create table orders (id int primary key)")
    own_database.server.stop()
    own_database.server.settings["binlog_ignore_db"] = own_database.name
    own_database.server.start()
    source = own_database.source("orders")
    with pytest.raises(EnvironmentFault, match="binlog_ignore_db") as raised:
        source.begin(list(source.look().tables.values()))
    assert raised.value.code == "database_not_logged"


def as_user(database: Database, *grants: str) -> MySQLSource:
    user = f"u{database.name[-8:]}"
    database.run(f"create or replace user {user} identified by 'pässwörd'")
    for grant in grants:
        database.run(grant.format(user=user, database=database.name))
    url = database.server.tcp_url_of(database.name, user, "p%C3%A4ssw%C3%B6rd")
    return database.source("orders", url=url)


READ = "grant select on {database}.* to {user}"


def test_a_user_with_just_the_rights_is_enough(database: Database) -> None:
    database.run("create table orders (id int primary key, n int)")
    database.run("insert into orders values (1, 1)")
    source = as_user(database, READ, "grant replication slave, binlog monitor on *.* to {user}")
    replica = Replica(source, database.url, ["orders"])
    replica.copy()
    sell(database, 2)
    replica.catch_up()
    replica.check()
    replica.close()


RIGHTS = {
    "no_replication_right": [READ, "grant binlog monitor on *.* to {user}"],
    "no_log_status_right": [READ, "grant replication slave on *.* to {user}"],
}


@pytest.mark.parametrize("code", RIGHTS)
def test_a_missing_right_is_named_with_what_grants_it(database: Database, code: str) -> None:
    database.run("create table orders (id int primary key)")
    source = as_user(database, *RIGHTS[code])
    tables = list(source.look().tables.values())
    with pytest.raises(EnvironmentFault) as raised:
        source.begin(tables)
    assert raised.value.code == code
    assert "GRANT" in raised.value.next_step


def test_rights_that_come_with_a_role_count(database: Database) -> None:
    database.run("create table orders (id int primary key)")
    role = f"r{database.name[-8:]}"
    source = as_user(
        database,
        f"create role {role}",
        f"grant replication slave, binlog monitor on *.* to {role}",
        READ,
        f"grant {role} to {{user}}",
        f"set default role {role} for {{user}}",
    )
    assert source.begin(list(source.look().tables.values())).position
    database.run(f"drop role {role}")


def test_a_table_without_select_is_unfit(database: Database) -> None:
    database.run("create table orders (id int primary key)", "create table o2 (id int)")
    source = as_user(database, "grant select on {database}.o2 to {user}")
    (unfit,) = source.look().unfit.values()
    assert unfit.code == "table_unknown"
    assert "GRANT SELECT" in unfit.next_step or "did you mean" in unfit.next_step


CONNECTIONS: dict[str, tuple[Callable[[Database], str], str]] = {
    "a wrong password": (
        lambda database: database.server.tcp_url_of(database.name, "root", "s3cret"),
        "password_wrong",
    ),
    "a database that is not there": (
        lambda database: database.server.url_of("absent"),
        "database_or_role_unknown",
    ),
    "a port where nobody listens": (
        lambda _: "mysql://root:s3cret@127.0.0.1:9/shop",
        "source_unavailable",
    ),
    "a host that is not there": (
        lambda _: "mysql://root:s3cret@no-such-host.invalid/shop",
        "host_unknown",
    ),
    "a server without TLS": (
        lambda database: database.server.tcp_url_of(
            database.name, "root", "s3cret", "ssl-mode=REQUIRED"
        ),
        "no_tls",
    ),
    "a certificate that is not there": (
        lambda database: database.server.tcp_url_of(
            database.name, "root", "s3cret", "ssl-mode=VERIFY_CA&ssl-ca=/absent.pem"
        ),
        "certificate_unreadable",
    ),
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_a_refused_connection_says_why_and_never_the_password(
    database: Database, case: str
) -> None:
    url, code = CONNECTIONS[case]
    with pytest.raises(UpwellError) as raised:
        database.source("orders", url=url(database)).look()
    assert raised.value.code == code
    error: BaseException | None = raised.value
    while error is not None:
        assert "s3cret" not in f"{error} {error!r}"
        error = error.__cause__


def test_a_stream_that_nobody_reads_stops_the_server_and_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upwell.sources.mysql.receiver.QUEUE_BYTES", 1 << 20)
    database.run("create table orders (id int primary key, n longtext)")
    replica = database.replica("orders")
    for number in range(40):
        database.run(f"insert into orders values ({number}, repeat('x', 1000000))")
    deadline = time.monotonic() + 10
    while replica.stream._receiver._queued_bytes < 1 << 20:
        assert time.monotonic() < deadline
    time.sleep(0.2)
    assert replica.stream._receiver._queued_bytes < 4 << 20
    replica.catch_up()
    replica.check()
