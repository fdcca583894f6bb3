"""Texts and names of a database of any encoding come out as the same letters, in UTF8."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from upwell.core.sql import quote
from upwell.demo.server import Server
from upwell.sources.postgres.checksum import wal_position

from .conftest import Database
from .replica import Replica, copied, error_of, reached
from .server_encodings import ENCODINGS, REFUSED

pytestmark = pytest.mark.postgres

#: Every letter of an encoding of one byte a letter that has one in UTF8, in one text.
ALL_LETTERS = """
    create function letters() returns text language plpgsql as $$
    declare
      found text := '';
    begin
      for byte in 128 .. 255 loop
        begin
          perform convert(set_byte('\\x00', 0, byte), getdatabaseencoding(), 'UTF8');
          found := found || chr(byte);
        exception when others then null;
        end;
      end loop;
      return found;
    end $$
"""


@contextmanager
def encoded(server: Server, encoding: str) -> Iterator[Database]:
    """A database of this encoding."""
    name = f"encoded_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server.url, autocommit=True) as admin:
        make = f"create database {name} encoding '{encoding}' locale 'C' template template0"
        admin.execute(make.encode())
        try:
            with psycopg.connect(
                server.url_of(name), autocommit=True, client_encoding=client_of(encoding)
            ) as connection:
                database = Database(server, name, connection)
                yield database
                database.forget()
        finally:
            admin.execute(f"drop database {name} with (force)".encode())


def client_of(encoding: str) -> str:
    return "SQL_ASCII" if encoding in REFUSED else "UTF8"


@pytest.mark.parametrize(
    ("encoding", "beside"),
    [(name, "int") for name in ENCODINGS]
    + [(name, "text[]") for name in ("EUC_JP", "WIN1252", "ISO_8859_8")],  # a stream of text
)
def test_letters_are_the_same_wherever_they_stand(
    postgres: Server, encoding: str, beside: str
) -> None:
    """In the names of tables, columns and labels, in texts, documents and what is printed."""
    text = ENCODINGS[encoding]
    name = quote(text)
    with encoded(postgres, encoding) as database:
        database.run(ALL_LETTERS)
        database.run(
            f"create type label as enum ('{text}'); "
            f"create table {name} (id int primary key, {name} text, kind label, document jsonb, "
            f"letters text, beside {beside}); insert into {name} values "
            f"(1, '{text}', '{text}', to_jsonb('{text}'::text), letters())"
        )
        replica = Replica()
        position = database.read_into(replica, text)
        database.run(
            f"insert into {name} select 2, {name}, kind, document, letters, null from {name}"
        )
        stream = database.stream(position)
        replica.follow(stream, reached(wal_position(database.url)))
        assert replica.schemas[f"shop.{text}"].column_names[1] == text
        letters = database.value("select letters()")
        (copied,), (streamed,) = (row.to_pylist() for row in replica.rows[f"shop.{text}"].values())
        assert list(copied.values()) == [1, text, text, f'"{text}"', letters, None]
        assert streamed == copied | {"id": 2}


@pytest.mark.parametrize("encoding", REFUSED)
def test_a_database_whose_texts_have_no_utf8_is_refused(postgres: Server, encoding: str) -> None:
    with encoded(postgres, encoding) as database:
        database.run("create table m (id int primary key)")
        error = error_of(lambda: database.start("m"))
        assert error.code == "encoding_unknown"
        assert "UTF8" in error.next_step


def test_bytes_that_mean_nothing_in_an_encoding_are_named_by_copy_and_stream(
    postgres: Server,
) -> None:
    with encoded(postgres, "WIN1252") as database:
        database.run("create table m (id int primary key, note text)")
        position = database.start("m")
        database.run("insert into m values (1, chr(129))")
        stream = database.stream(position)
        replica = Replica()
        until = reached(wal_position(database.url))
        streaming = error_of(lambda: replica.follow(stream, until))
        (table,) = database.tables()
        copying = error_of(lambda: copied(database.copy(), table))
        assert streaming.code == copying.code == "text_untranslatable"
        assert "0x81" in streaming.what
        assert "0x81" in copying.what


def test_every_encoding_a_database_can_have_is_in_the_list(postgres: Server) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        known = {
            name
            for (name,) in admin.execute(
                "select pg_encoding_to_char(n) from generate_series(0, 100) n"
            )
            if name
        }
        assert set(ENCODINGS) | set(REFUSED) < known
        for name in known - set(ENCODINGS) - set(REFUSED):
            with pytest.raises(psycopg.errors.UndefinedObject, match="not a valid encoding name"):
                admin.execute(f"create database nothing encoding '{name}'".encode())
