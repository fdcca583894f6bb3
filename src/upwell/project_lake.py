"""A project's lake: found for reading, or held for writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from upwell.project.settings import Lake as LakeSetting
from upwell.project.values import Project
from upwell.store.lake.catalog import Access
from upwell.store.lake.holder import Hold, Holder, held
from upwell.store.lake.lake import Lake, find_lake, open_lake
from upwell.store.lake.writer import LakeWriter


def find_project_lake(project: Project) -> Lake | None:
    """The lake as it is, for reading; None where there is none (yet)."""
    setting = project.settings.lake
    return None if setting is None else find_lake(setting.uri, project.folder, access(setting))


@contextmanager
def project_lake_held(project: Project) -> Iterator[tuple[LakeWriter | None, Hold]]:
    """The lake, ours to write inside the block, made where there is none; None without one.

    Raises EnvironmentFault where another engine holds it, or it belongs to another project.
    """
    setting = project.settings.lake
    if setting is None:
        yield None, Hold()
        return
    lake = open_lake(setting.uri, project.folder, access(setting))
    with held(lake.objects, Holder.of_this_process(project.folder)) as hold:
        yield LakeWriter(lake, project.settings.name), hold


def access(setting: LakeSetting) -> Access:
    """How a lake in a bucket is reached."""
    return Access(
        setting.catalog,
        setting.endpoint,
        setting.region,
        setting.access_key,
        setting.secret_key,
        setting.warehouse,
    )
