"""One table of the lake, and how it changes: each change is one commit, made exactly once.

A commit adds and removes data files, sets properties and forgets old snapshots, all together. It
asserts the snapshot it was made against, so whoever writes from an older state is refused, and it
is never retried blindly: when its outcome is unknown the table is loaded again, and tells. Every
commit carries a mark of its own and the epoch of who made it.

pyiceberg's ``Transaction`` copies all metadata a dozen times a commit, which grew from 40 to 140 ms
of processor time within 160 commits; the updates are put together here and handed to the catalog at
once, and manifests are merged when they are many.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from upwell.core.errors import EnvironmentFault, IntegrityError, Unavailable, UpwellError
from upwell.core.faults import reach
from upwell.store.lake.catalog import as_ours, catalog_faults
from upwell.store.lake.files import Named

log = structlog.get_logger(__name__)

EPOCH = "upwell.epoch"
_MARK = "upwell.commit"
_MAIN = "main"
#: From this many manifests on they are written as one.
_MERGED_AT = 12
_CODEC: AvroCompressionCodec = "deflate"


class OvertakenError(EnvironmentFault):
    """Another engine has taken the lake over: this one may write no more."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns and partitioning of a table, under numbers that it has not used otherwise yet."""

    schema: Schema
    partitioning: PartitionSpec


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does. ``removed`` are locations of data files; ``forgotten`` snapshot ids.

    With a new ``layout`` all files there were are removed: ``added`` are the only ones.
    """

    added: Sequence[DataFile] = ()
    removed: Collection[str] = ()
    properties: Mapping[str, str] | None = None
    forgotten: Sequence[int] = ()
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class _Manifest:
    file: ManifestFile
    entries: Sequence[ManifestEntry]  # of files that are there


class LakeTable:
    """An Iceberg table, as of the last time it was loaded or committed to.

    ``name`` is that of SQL: ``shop.orders__log``. Not to be used from two threads at once.
    """

    def __init__(self, name: str, catalog: Catalog, table: Table) -> None:
        self.name = name
        self._catalog = catalog
        self._table = table
        self._manifests: list[_Manifest] = []
        self._read_manifests()

    # ── what it is ───────────────────────────────────────────────────────────────────────────────

    @property
    def properties(self) -> Mapping[str, str]:
        return dict(self._table.metadata.properties)

    @property
    def schema(self) -> Schema:
        return self._table.metadata.schema()

    @property
    def partitioning(self) -> PartitionSpec:
        return self._table.metadata.spec()

    @property
    def folder(self) -> str:
        """Where its data files go."""
        return f"{self._table.metadata.location}/data"

    @property
    def location(self) -> str:
        return self._table.metadata.location

    @property
    def metadata_location(self) -> str:
        """The metadata file that describes the table as it stands."""
        return self._table.metadata_location

    @property
    def metadata(self) -> TableMetadata:
        """What Iceberg says of it: its history, and where the files of that lie."""
        return self._table.metadata

    @property
    def snapshots(self) -> Sequence[Snapshot]:
        """The snapshots that can still be read, oldest first."""
        return self._table.metadata.snapshots

    @property
    def snapshot_id(self) -> int | None:
        """The snapshot that readers see; None while nothing was ever written."""
        return self._table.metadata.current_snapshot_id

    @property
    def files(self) -> list[DataFile]:
        """The data files that make up the table, in the order in which they came."""
        entries = [entry for manifest in self._manifests for entry in manifest.entries]
        entries.sort(key=lambda entry: entry.sequence_number or 0)
        return [entry.data_file for entry in entries]

    @property
    def epoch(self) -> int:
        """Of the engine that wrote last."""
        return int(self.properties.get(EPOCH, "0"))

    def refresh(self) -> None:
        """Load the table as it stands now."""
        with catalog_faults(f"loading {self.name}"):
            self._table = self._catalog.load_table(self._table.name())
            self._read_manifests()

    def _read_manifests(self) -> None:
        snapshot = self._table.metadata.current_snapshot()
        known = {manifest.file.manifest_path: manifest for manifest in self._manifests}
        files: Sequence[ManifestFile] = []
        if snapshot is not None:
            with _decoding(snapshot.manifest_list):
                files = snapshot.manifests(self._io)
        self._manifests = [
            known.get(file.manifest_path) or self._read_manifest(file) for file in files
        ]

    def _read_manifest(self, file: ManifestFile) -> _Manifest:
        with _decoding(file.manifest_path):
            return _Manifest(file, file.fetch_manifest_entry(self._io, discard_deleted=True))

    @property
    def _io(self) -> FileIO:
        return self._table.io

    # ── how it changes ───────────────────────────────────────────────────────────────────────────

    def commit(self, change: Change, *, epoch: int) -> None:
        """Do all of ``change`` in one commit, or nothing.

        Raises OvertakenError where another epoch has written, Unavailable where it was not done
        and may be tried again, from the state that the table then shows.
        """
        if self.epoch > epoch:  # loaded since: its snapshot is no longer what keeps us out
            raise overtaken(self.name, self.epoch, epoch)
        mark = uuid.uuid4().hex
        properties = {**(change.properties or {}), _MARK: mark, EPOCH: str(epoch)}
        try:
            snapshot, manifests = self._write_snapshot(change)
            updates: list[TableUpdate] = [
                *_relaid(self._table.metadata, change.layout),
                AddSnapshotUpdate(snapshot=snapshot),
                SetSnapshotRefUpdate(
                    ref_name=_MAIN,
                    type=SnapshotRefType.BRANCH,
                    snapshot_id=snapshot.snapshot_id,
                    max_ref_age_ms=None,
                    max_snapshot_age_ms=None,
                    min_snapshots_to_keep=None,
                ),
                SetPropertiesUpdate(updates=properties),
            ]
            if change.forgotten:
                updates.append(RemoveSnapshotsUpdate(snapshot_ids=list(change.forgotten)))
            requirements = (
                AssertTableUUID(uuid=self._table.metadata.table_uuid),
                AssertRefSnapshotId(ref=_MAIN, snapshot_id=self.snapshot_id),
            )
            reach("lake.before_commit")
            answer = self._catalog.commit_table(self._table, requirements, tuple(updates))
            reach("lake.after_commit")
        except UpwellError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was: did it happen?
            self._resolve(mark, epoch, error)
            return
        self._table.metadata = answer.metadata
        self._table.metadata_location = answer.metadata_location
        self._manifests = manifests

    def _resolve(self, mark: str, epoch: int, error: Exception) -> None:
        """Find out what became of a commit whose answer was not "done"."""
        log.warning("commit_in_doubt", table=self.name, why=str(error)[:500])
        self.refresh()
        if self.properties.get(_MARK) == mark:
            return
        if self.epoch > epoch:
            raise overtaken(self.name, self.epoch, epoch) from error
        named = None
        if not isinstance(error, CommitFailedException):
            named = as_ours(error, f"committing to {self.name}", self.location)
        raise named or Unavailable(
            "lake_commit_failed",
            f"Committing to {self.name} in the lake: it was not done ({error}).",
            where=self.location,
            next_step="Nothing is lost; it is tried again.",
        ) from error

    def _write_snapshot(self, change: Change) -> tuple[Snapshot, list[_Manifest]]:
        metadata = self._table.metadata
        snapshot_id, number = metadata.new_snapshot_id(), metadata.next_sequence_number()
        layout = change.layout or Layout(metadata.schema(), metadata.spec())
        if change.layout is not None:
            change = replace(change, removed=[each.file_path for each in self.files])
        removed = set(change.removed)
        touched = [
            manifest
            for manifest in self._manifests
            if len(self._manifests) >= _MERGED_AT
            or any(entry.data_file.file_path in removed for entry in manifest.entries)
        ]
        kept = [manifest for manifest in self._manifests if manifest not in touched]
        entries = [entry for manifest in touched for entry in manifest.entries]
        gone = [entry for entry in entries if entry.data_file.file_path in removed]
        stay = [entry for entry in entries if entry.data_file.file_path not in removed]
        if len(gone) != len(removed):
            raise Unavailable(
                "lake_commit_failed",
                f"Committing to {self.name} in the lake: a file to be replaced is not there.",
                where=metadata.location,
                next_step="Nothing is lost; it is tried again.",
            )
        manifests = kept
        if change.layout is not None:  # what ended lay in another layout: no manifest of this one
            manifests = [self._write_manifest(snapshot_id, layout, change.added)]
        elif change.added or entries:
            manifests = [*kept, self._write_manifest(snapshot_id, layout, change.added, stay, gone)]
        listed = Named(f"{metadata.location}/metadata", f"snap-{snapshot_id}-0-", ".avro")
        with write_manifest_list(
            format_version=metadata.format_version,
            output_file=listed,
            snapshot_id=snapshot_id,
            parent_snapshot_id=self.snapshot_id,
            sequence_number=number,
            avro_compression=_CODEC,
        ) as writer:
            writer.add_manifests([manifest.file for manifest in manifests])
        reach("lake.snapshot_written")
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            parent_snapshot_id=self.snapshot_id,
            sequence_number=number,
            timestamp_ms=max(time.time_ns() // 1_000_000, metadata.last_updated_ms),
            manifest_list=listed.location,
            summary=self._summary(change.added, [entry.data_file for entry in gone], layout),
            schema_id=layout.schema.schema_id,
        )
        return snapshot, [manifest for manifest in manifests if manifest.entries]

    def _write_manifest(
        self,
        snapshot_id: int,
        layout: Layout,
        added: Sequence[DataFile],
        stay: Sequence[ManifestEntry] = (),
        gone: Sequence[ManifestEntry] = (),
    ) -> _Manifest:
        metadata = self._table.metadata
        number = metadata.next_sequence_number()
        new = [
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file
            )
            for file in added
        ]
        with write_manifest(
            format_version=metadata.format_version,
            spec=layout.partitioning,
            schema=layout.schema,
            output_file=Named(f"{metadata.location}/metadata", "", "-m0.avro"),
            snapshot_id=snapshot_id,
            avro_compression=_CODEC,
        ) as writer:
            for entry in new:
                writer.add(entry)
            for entry in stay:
                writer.existing(entry)
            for entry in gone:
                writer.delete(entry)
        file = writer.to_manifest_file()
        file.sequence_number = number
        if file.min_sequence_number < 0:
            file.min_sequence_number = number
        for entry in new:
            entry.sequence_number = entry.file_sequence_number = number
        return _Manifest(file, [*stay, *new])

    def _summary(
        self, added: Sequence[DataFile], gone: Sequence[DataFile], layout: Layout
    ) -> Summary:
        metadata = self._table.metadata
        collector = SnapshotSummaryCollector()
        for file in added:
            collector.add_file(file, layout.schema, layout.partitioning)
        for file in gone:
            collector.remove_file(file, metadata.schema(), metadata.spec())
        operation = Operation.OVERWRITE if gone else Operation.APPEND
        previous = metadata.current_snapshot()
        return update_snapshot_summaries(
            Summary(operation, **collector.build()),
            previous.summary if previous is not None else None,
        )


def _relaid(metadata: TableMetadata, layout: Layout | None) -> Iterator[TableUpdate]:
    """What gives a table another layout."""
    if layout is None:
        return
    schema, partitioning = layout.schema, layout.partitioning
    if schema.schema_id != metadata.current_schema_id:
        yield AddSchemaUpdate(schema_=schema)
        yield SetCurrentSchemaUpdate(schema_id=-1)
    if partitioning.spec_id != metadata.default_spec_id:
        yield AddPartitionSpecUpdate(spec=partitioning)
        yield SetDefaultSpecUpdate(spec_id=-1)


@contextmanager
def _decoding(location: str) -> Iterator[None]:
    """Whatever a decoder raises over a damaged file, as one error that names the file."""
    try:
        yield
    except UpwellError:
        raise
    except Exception as error:
        raise IntegrityError(
            "lake_metadata_damaged",
            f"Reading the lake: a metadata file cannot be read ({type(error).__name__}: {error}).",
            where=location,
            next_step="Run `upwell scrub`: it tells what is damaged and repairs what can be.",
        ) from error


def overtaken(name: str, epoch: int, ours: int) -> OvertakenError:
    """The error for an engine that another one has replaced."""
    return OvertakenError(
        "overtaken",
        f"Writing to the lake: another engine has taken it over with epoch {epoch} "
        f"(this one's is {ours}).",
        where=name,
        next_step="Let the other one work, or stop it and start this one again. Nothing is lost.",
    )
