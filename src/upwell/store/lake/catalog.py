"""The catalog that says which metadata file each table of a lake is at.

A lake in a folder keeps it in SQLite beside the data (the layout of Iceberg's JDBC catalog, so
others can read it); a lake in a bucket uses an Iceberg REST catalog, which every engine can share.

Whatever pyiceberg and its libraries raise leaves as an error of ours. No error names a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pydantic
import requests
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    BadRequestError,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    UnauthorizedError,
    ValidationError,
)

from upwell.core.errors import EnvironmentFault, IntegrityError, Unavailable, UpwellError
from upwell.store.lake import files

CATALOG_FILE = "catalog.db"
NAME = "upwell"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request to a bucket or a catalog may take, and how long it is tried again."""

    connect_seconds: float = 5.0
    request_seconds: float = 60.0
    retry_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Access:
    """How a bucket and its catalog are reached; secrets are never shown.

    ``warehouse`` is what the catalog calls the place of the lake; that is the bucket's name where
    nothing else is said.
    """

    catalog: str = ""
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""
    warehouse: str = ""
    patience: Patience = Patience()

    def __repr__(self) -> str:
        return f"Access(catalog={shown(self.catalog)!r}, endpoint={shown(self.endpoint)!r})"


def shown(address: str) -> str:
    """An address as people may see it: without the name and password that it may hold."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


# ── names ────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = re.compile(r"(?!x_)[a-z0-9]([a-z0-9_]*[a-z0-9])?")
_ESCAPED = re.compile(r"x_(.+)_x")
_CODE = re.compile(r"_(_|(?:[0-9a-f]{1,5}|10[0-9a-f]{4})_)")


def catalog_name(name: str) -> str:
    """A schema's or a table's name in SQL as catalogs take it: ``Sum`` is ``x__53_um_x``.

    Many take only small letters, digits and, between these, the underscore. A name of another kind
    stands between ``x_`` and ``_x``; in it each other character is its code between underscores,
    and an underscore is two.
    """
    if _PLAIN.fullmatch(name):
        return name
    return "x_" + re.sub(r"[^a-z0-9]", lambda found: _code(found[0]), name) + "_x"


def sql_name(name: str) -> str:
    """The name in SQL of what a catalog names so."""
    escaped = _ESCAPED.fullmatch(name)
    if escaped is None:
        return name
    return _CODE.sub(
        lambda found: "_" if found[1] == "_" else chr(int(found[1][:-1], 16)), escaped[1]
    )


def _code(character: str) -> str:
    return "__" if character == "_" else f"_{ord(character):x}_"


# ── the two kinds ────────────────────────────────────────────────────────────────────────────────


def folder_catalog(folder: Path, root: str) -> Catalog:
    """The catalog of a lake in a folder, made where it is missing."""
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415 - SQLAlchemy is only for this

    with catalog_faults("opening the catalog", str(folder / CATALOG_FILE)):
        return SqlCatalog(
            NAME,
            **{
                "uri": f"sqlite:///{folder.resolve() / CATALOG_FILE}",
                "warehouse": root,
                "py-io-impl": files.NAME,
            },
        )


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────

_DENIED = (UnauthorizedError, ForbiddenError, OAuthError, AuthorizationExpiredError)
_AWAY = (RESTError, requests.RequestException, TimeoutError, ConnectionError)


@contextmanager
def catalog_faults(doing: str, where: str = "") -> Iterator[None]:
    """What pyiceberg and its libraries raise, as errors of ours."""
    try:
        yield
    except UpwellError:
        raise
    except Exception as error:
        if (named := as_ours(error, doing, where)) is None:
            raise
        raise named from error


def as_ours(error: Exception, doing: str, where: str) -> UpwellError | None:
    """The error of ours that ``error`` is; None where it is one of the program itself."""
    what = f"The lake, {doing}"
    match error:
        case _ if isinstance(error, _DENIED):
            return EnvironmentFault(
                "lake_denied",
                f"{what}: the catalog denied it ({_first_line(error)}).",
                where=where,
                next_step="See that the lake's access_key and secret_key hold, and that they may "
                "do this.",
            )
        case NoSuchNamespaceError():
            return EnvironmentFault(
                "lake_warehouse_missing",
                f"{what}: the catalog has no such place ({_first_line(error)}).",
                where=where,
                next_step="Make the warehouse (the bucket, where the catalog owns buckets), and "
                "see that the lake's key may look into it.",
            )
        case NoSuchTableError():
            return IntegrityError(
                "lake_table_missing",
                f"{what}: a table that was there is gone ({_first_line(error)}).",
                where=where,
                next_step="See who else writes to this catalog; Upwell reads anew what is lost.",
            )
        case BadRequestError() | NotImplementedError():
            return EnvironmentFault(
                "lake_catalog_unfit",
                f"{what}: the catalog does not do that ({_first_line(error)}).",
                where=where,
                next_step="Use a catalog that takes Iceberg tables at addresses of their own, "
                "renames them, and sets properties in a commit.",
            )
        case ValidationError():
            return IntegrityError(
                "lake_metadata_damaged",
                f"{what}: a metadata file holds what no metadata file holds "
                f"({_first_line(error)}).",
                where=where,
                next_step="Run `upwell scrub`: it tells what is damaged and repairs what can be.",
            )
        case pydantic.ValidationError():
            return Unavailable(
                "lake_catalog_unclear",
                f"{what}: what the catalog answered cannot be read ({_first_line(error)}).",
                where=where,
                next_step="It is tried again. If it stays so, see that the address is that of an "
                "Iceberg REST catalog.",
            )
        case _ if isinstance(error, _AWAY):
            return Unavailable(
                "lake_unavailable",
                f"{what}: {_first_line(error)}",
                where=where,
                next_step="Nothing is lost; it is tried again.",
            )
        case _ if type(error).__module__.startswith("sqlalchemy"):
            return _of_sqlite(error, doing, where)
        case _:
            return None


def _of_sqlite(error: Exception, doing: str, where: str) -> UpwellError:
    text = str(error.__cause__ or error)
    if "locked" in text or "busy" in text:
        return Unavailable(
            "lake_busy",
            f"The lake, {doing}: its catalog is in use ({text}).",
            where=where,
            next_step="Nothing is lost; it is tried again.",
        )
    return EnvironmentFault(
        "lake_catalog_unusable",
        f"The lake, {doing}: its catalog cannot be used ({text}).",
        where=where,
        next_step=f"See that {CATALOG_FILE} in the lake's folder is whole and can be written, and "
        f"that the disk has room.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
