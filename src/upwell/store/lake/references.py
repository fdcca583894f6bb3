"""Every file that the tables of a lake refer to, by whatever snapshot they still have.

It is all of them or an error: a table that cannot be read might refer to anything. Tables that are
not of the lake lie elsewhere, and so do their files.
"""

from __future__ import annotations

from pyiceberg.manifest import ManifestFile
from pyiceberg.table.snapshots import Snapshot

from upwell.core.errors import IntegrityError, UpwellError
from upwell.store.lake.files import LakeFiles
from upwell.store.lake.lake import Lake
from upwell.store.lake.tables import LakeTable


class References:
    """Reads what is referred to; manifests never change, so each is read once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._files = LakeFiles()
        self._lists: dict[str, list[ManifestFile]] = {}
        self._manifests: dict[str, frozenset[str]] = {}

    def read(self) -> dict[str, set[str]]:
        """Locations by table. Raises IntegrityError where one or its metadata cannot be read."""
        named: dict[str, set[str]] = {}
        for name in self._lake.names():
            table = self._lake.table(name)
            if table is not None:
                named[name] = self.of(table)
        every = set().union(*named.values())
        self._lists = {path: each for path, each in self._lists.items() if path in every}
        self._manifests = {path: each for path, each in self._manifests.items() if path in every}
        return named

    def of(self, table: LakeTable) -> set[str]:
        """The files of one table: metadata old and new, manifests, data."""
        metadata = table.metadata
        named = {table.metadata_location, *(each.metadata_file for each in metadata.metadata_log)}
        for snapshot in metadata.snapshots:
            for manifest in self._manifests_of(table, snapshot):
                named |= {snapshot.manifest_list, manifest.manifest_path}
                named |= self._data_files(table, manifest)
            named.add(snapshot.manifest_list)
        return named

    def _manifests_of(self, table: LakeTable, snapshot: Snapshot) -> list[ManifestFile]:
        path = snapshot.manifest_list
        if path not in self._lists:
            try:
                self._lists[path] = snapshot.manifests(self._files)
            except UpwellError:
                raise
            except Exception as error:  # whatever a decoder makes of damaged bytes
                raise _unreadable(table.name, path, str(error)) from error
        return self._lists[path]

    def _data_files(self, table: LakeTable, manifest: ManifestFile) -> frozenset[str]:
        path = manifest.manifest_path
        if path not in self._manifests:
            try:
                entries = manifest.fetch_manifest_entry(self._files, discard_deleted=True)
            except UpwellError:
                raise
            except Exception as error:  # as above
                raise _unreadable(table.name, path, str(error)) from error
            self._manifests[path] = frozenset(each.data_file.file_path for each in entries)
        return self._manifests[path]


def _unreadable(table: str, where: str, why: str) -> IntegrityError:
    return IntegrityError(
        "lake_metadata_damaged",
        f"Reading what {table} in the lake refers to: {why}.",
        where=where,
        next_step="Run `upwell scrub`: it tells what is damaged.",
    )
