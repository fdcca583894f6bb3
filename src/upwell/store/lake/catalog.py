"""The catalog that says which metadata file each table of a lake is at.

A lake in a folder keeps it in SQLite beside the data (the layout of Iceberg's JDBC catalog, so
others can read it); a lake in a bucket uses an Iceberg REST catalog, which every engine can share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    UnauthorizedError,
)

from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.store.lake import files

CATALOG_FILE = "catalog.db"
NAME = "upwell"


@dataclass(frozen=True, slots=True)
class Access:
    """How a bucket and its catalog are reached; secrets are never shown."""

    catalog: str = ""
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""

    def __repr__(self) -> str:
        return f"Access(catalog={self.catalog!r}, endpoint={self.endpoint!r})"


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


def rest_catalog(access: Access, warehouse: str) -> Catalog:
    """An Iceberg REST catalog."""
    from pyiceberg.catalog.rest import RestCatalog  # noqa: PLC0415 - as above

    credential = f"{access.access_key}:{access.secret_key}" if access.access_key else ""
    with catalog_faults("opening the catalog", access.catalog):
        return RestCatalog(
            NAME,
            **{
                "uri": access.catalog,
                "warehouse": warehouse,
                "py-io-impl": files.NAME,
                **({"credential": credential} if credential else {}),
            },
        )


@contextmanager
def catalog_faults(doing: str, where: str = "") -> Iterator[None]:
    """What pyiceberg and its libraries raise, as errors of ours."""
    try:
        yield
    except (UpwellError, NoSuchTableError, NoSuchNamespaceError):
        raise
    except (
        UnauthorizedError,
        ForbiddenError,
        OAuthError,
        AuthorizationExpiredError,
    ) as error:
        raise EnvironmentFault(
            "lake_denied",
            f"The lake, {doing}: it was denied ({error}).",
            where=where,
            next_step="See that the lake's key and secret hold and may do this.",
        ) from error
    except (RESTError, requests.RequestException, TimeoutError, ConnectionError) as error:
        raise Unavailable(
            "lake_unavailable",
            f"The lake, {doing}: {_first_line(error)}",
            where=where,
            next_step="Nothing is lost; it is tried again.",
        ) from error
    except Exception as error:
        name = type(error).__module__
        if name.startswith("sqlalchemy"):
            raise _of_sqlite(error, doing, where) from error
        raise


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
