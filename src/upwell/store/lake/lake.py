"""An open lake: its tables by the names they have in SQL.

``shop.orders__log`` is the table ``orders__log`` in the namespace ``shop``. A lake belongs to one
project: its ledger, ``upwell.versions``, says to which, and through which version every table is in
(see ``writer.py``). Opening a lake changes nothing in it.

Each table that was ever made has a folder of its own, so that one may take another's name while
the files of both stay. A catalog may hold other people's tables too: those that do not lie below
the lake's address are none of ours, and never touched.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.table import Table, TableProperties

from upwell.core.errors import EnvironmentFault
from upwell.core.schema import Column
from upwell.store.lake import files
from upwell.store.lake.catalog import (
    CATALOG_FILE,
    Access,
    catalog_faults,
    catalog_name,
    folder_catalog,
    shown,
    sql_name,
)
from upwell.store.lake.layout import iceberg_schema, iceberg_type
from upwell.store.lake.objects import Folder, Objects
from upwell.store.lake.tables import LakeTable

#: The only version of Iceberg's format that is written and read here.
FORMAT_VERSION = 2
_BUCKET = re.compile(r"s3://[^/]+(/[^/]+)+")
_SERVER = re.compile(r"https?://[^/\s]+(/\S*)?")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]")


class Lake:
    """See the module. Not to be used from two threads at once."""

    def __init__(self, objects: Objects, catalog: Catalog) -> None:
        self.objects = objects
        self._catalog = catalog

    @property
    def root(self) -> str:
        """Its address, for people and for other programs."""
        return self.objects.root

    def names(self) -> list[str]:
        """The tables there are, as SQL names them; of some, ``table`` may say they are not ours."""
        with catalog_faults("listing its tables", self.root):
            return sorted(
                ".".join(map(sql_name, identifier))
                for namespace in self._catalog.list_namespaces()
                for identifier in self._catalog.list_tables(namespace)
            )

    def table(self, name: str) -> LakeTable | None:
        """A table as it stands now; None where there is none of ours."""
        with catalog_faults(f"loading {name}", self.root):
            try:
                loaded = self._catalog.load_table(_identifier(name))
            except NoSuchTableError:
                return None
            if not self._has(loaded):
                return None
            if loaded.metadata.format_version > FORMAT_VERSION:
                raise EnvironmentFault(
                    "lake_format",
                    f"Opening {name} in the lake: it has format {loaded.metadata.format_version}, "
                    f"this Upwell knows {FORMAT_VERSION}.",
                    where=loaded.metadata_location,
                    next_step="Use the Upwell that wrote it, or a newer one.",
                )
            return LakeTable(name, self._catalog, loaded)

    def create(
        self,
        name: str,
        columns: Sequence[Column],
        properties: dict[str, str],
        partition: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
    ) -> LakeTable:
        """A new, empty table; or the one there is, if there is one of that name."""
        namespace, table = _identifier(name)
        with catalog_faults(f"making {name}", self.root):
            with suppress(NamespaceAlreadyExistsError):
                self._catalog.create_namespace(namespace)
            try:
                created = self._catalog.create_table(
                    (namespace, table),
                    schema=iceberg_schema(columns),
                    location=f"{self.root}/{_folder_name(name)}",
                    partition_spec=partition,
                    properties={**_PROPERTIES, **properties},
                )
            except TableAlreadyExistsError:  # some catalogs answer with it instead
                created = self._catalog.load_table((namespace, table))
            if not self._has(created):
                raise EnvironmentFault(
                    "lake_name_taken",
                    f"Making {name} in the lake: its catalog has a table of that name that is not "
                    f"of this lake.",
                    where=created.location(),
                    next_step="Give the lake a catalog, or a warehouse in it, of its own.",
                )
        return LakeTable(name, self._catalog, created)

    def widen(self, table: LakeTable, columns: Sequence[Column]) -> None:
        """Give a table the columns that it does not have yet."""
        present = {field.name for field in table.schema.fields}
        added = [column for column in columns if column.name not in present]
        if not added:
            return
        with catalog_faults(f"adding columns to {table.name}", table.location):
            loaded = self._catalog.load_table(_identifier(table.name))
            with loaded.update_schema() as update:
                for column in added:
                    update.add_column((column.name,), iceberg_type(column.type))
        table.refresh()

    def rename(self, name: str, to: str) -> None:
        """Give a table another name; its files stay where they are."""
        with catalog_faults(f"renaming {name}", self.root):
            self._catalog.rename_table(_identifier(name), _identifier(to))

    def forget(self, name: str) -> None:
        """Take a table out of the catalog; what the catalog leaves of its files is swept."""
        with catalog_faults(f"removing {name}", self.root):
            self._catalog.drop_table(_identifier(name))

    def _has(self, table: Table) -> bool:
        return table.location().startswith(f"{self.root}/")

    def close(self) -> None:
        self._catalog.close()


#: Retries are ours, since only we know what is already in; few metadata files are kept for looking
#: back, and sweeping is ours too.
_PROPERTIES = {
    TableProperties.FORMAT_VERSION: str(FORMAT_VERSION),
    TableProperties.COMMIT_NUM_RETRIES: "0",
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: "10",
    "write.parquet.compression-codec": "zstd",
}


def _identifier(name: str) -> tuple[str, str]:
    namespace, _, table = name.partition(".")
    return catalog_name(namespace), catalog_name(table)


def _folder_name(name: str) -> str:
    """A folder for one table and no other, named so that every program finds it."""
    return f"{_UNUSUAL.sub('_', name)}-{uuid.uuid4().hex[:8]}"


def open_lake(uri: str, folder: Path, access: Access) -> Lake:
    """The lake at ``uri``: ``s3://bucket/prefix``, or a path relative to the project's ``folder``.

    Raises EnvironmentFault where it cannot be used, Unavailable where it is away for now.
    """
    if uri.startswith("s3:"):
        return _open_bucket(uri.rstrip("/"), access)
    path = _folder(uri, folder)
    objects = Folder(path)
    files.announce(objects)
    return Lake(objects, folder_catalog(path, objects.root))


def find_lake(uri: str, folder: Path, access: Access) -> Lake | None:
    """As ``open_lake``, for reading; None for a folder in which there is no lake."""
    if not _BUCKET.match(uri) and not (_folder(uri, folder) / CATALOG_FILE).exists():
        return None
    return open_lake(uri, folder, access)


def _folder(uri: str, folder: Path) -> Path:
    return Path(urlsplit(uri).path) if uri.startswith("file:") else folder / Path(uri).expanduser()


def _open_bucket(uri: str, access: Access) -> Lake:
    from upwell.store.lake.bucket import Bucket  # noqa: PLC0415 - obstore is only for this
    from upwell.store.lake.rest import rest_catalog  # noqa: PLC0415 - as above

    if not _BUCKET.fullmatch(uri):
        raise EnvironmentFault(
            "lake_address",
            "Opening the lake: a lake in a bucket lies below a folder of its own, since what it "
            "does not know there is swept.",
            where=uri,
            next_step="Set lake.uri in upwell.yaml to s3://bucket/folder.",
        )
    if not access.catalog:
        raise EnvironmentFault(
            "lake_catalog_missing",
            "Opening the lake: one in a bucket needs an Iceberg REST catalog.",
            where=uri,
            next_step="Set lake.catalog in upwell.yaml to its address.",
        )
    for setting, address in (("catalog", access.catalog), ("endpoint", access.endpoint)):
        if address and not _SERVER.fullmatch(address):
            raise EnvironmentFault(
                "lake_address",
                f"Opening the lake: its {setting} is not the address of a server.",
                where=shown(address),
                next_step=f"Set lake.{setting} in upwell.yaml to http://… or https://….",
            )
    objects = Bucket(uri, access)
    objects.check()
    files.announce(objects)
    return Lake(objects, rest_catalog(access, access.warehouse or urlsplit(uri).netloc))
