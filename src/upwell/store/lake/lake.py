"""An open lake: its tables by the names they have in SQL.

``shop.orders__log`` is the table ``orders__log`` in the namespace ``shop``. A lake belongs to one
project: its ledger, ``upwell.versions``, says to which, and through which version every table is in
(see ``writer.py``). Opening a lake changes nothing in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.table import TableProperties

from upwell.core.errors import EnvironmentFault
from upwell.core.schema import Column
from upwell.store.lake import files
from upwell.store.lake.catalog import Access, catalog_faults, folder_catalog, rest_catalog
from upwell.store.lake.layout import iceberg_schema, iceberg_type
from upwell.store.lake.objects import Folder, Objects
from upwell.store.lake.tables import LakeTable

#: The only version of Iceberg's format that is written and read here.
FORMAT_VERSION = 2
_BUCKET = re.compile(r"s3://[^/]+")


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
        """The tables there are, as SQL names them."""
        with catalog_faults("listing its tables", self.root):
            return sorted(
                ".".join(identifier)
                for namespace in self._catalog.list_namespaces()
                for identifier in self._catalog.list_tables(namespace)
            )

    def table(self, name: str) -> LakeTable | None:
        """A table as it stands now; None where there is none."""
        with catalog_faults(f"loading {name}", self.root):
            try:
                loaded = self._catalog.load_table(_identifier(name))
            except NoSuchTableError:
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
                    location="/".join(
                        (self.root, percent_encoded(namespace, ""), percent_encoded(table, ""))
                    ),
                    partition_spec=partition,
                    properties={**_PROPERTIES, **properties},
                )
            except TableAlreadyExistsError:
                created = self._catalog.load_table((namespace, table))
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
        """Take a table out of the catalog; its files stay until they are swept."""
        with catalog_faults(f"removing {name}", self.root):
            self._catalog.drop_table(_identifier(name))

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
    return namespace, table


def open_lake(uri: str, folder: Path, access: Access) -> Lake:
    """The lake at ``uri``: ``s3://bucket/prefix``, or a path relative to the project's ``folder``.

    Raises EnvironmentFault where it cannot be used, Unavailable where it is away for now.
    """
    if _BUCKET.match(uri):
        return _open_bucket(uri.rstrip("/"), access)
    path = Path(urlsplit(uri).path) if uri.startswith("file:") else folder / Path(uri).expanduser()
    objects = Folder(path)
    files.announce(objects)
    return Lake(objects, folder_catalog(path, objects.root))


def _open_bucket(uri: str, access: Access) -> Lake:
    from upwell.store.lake.bucket import Bucket  # noqa: PLC0415 - obstore is only for this

    if not access.catalog:
        raise EnvironmentFault(
            "lake_catalog_missing",
            "Opening the lake: one in a bucket needs an Iceberg REST catalog.",
            where=uri,
            next_step="Set lake.catalog in upwell.yaml to its address.",
        )
    objects = Bucket(uri, access)
    files.announce(objects)
    warehouse = urlsplit(uri).netloc
    return Lake(objects, rest_catalog(access, warehouse))
