"""Read a project folder into a ``Project``, strictly.

Every file is read and checked for itself, then all of them against one another (``check.py``);
everything that is wrong is raised at once as ``ProjectErrors``. Invariant: a ``Project`` that comes
out holds together, so that no later stage meets an unknown name. Of the environment, and of files
outside the folder, only what references in ``upwell.yaml`` ask for is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from upwell.core.errors import ProjectError, UsageError
from upwell.project.check import check
from upwell.project.conform import conform
from upwell.project.declared import Declarations, Declared
from upwell.project.document import Document, parse
from upwell.project.files import list_files, read_text
from upwell.project.model_file import parse_model
from upwell.project.problems import Code, ProjectErrors, gathering, nearest, problem
from upwell.project.references import UnresolvedError, resolve, without_references
from upwell.project.settings import MysqlSource, PostgresSource, Settings, Source
from upwell.project.url import holds_password
from upwell.project.value import Value, references_of
from upwell.project.values import Dashboard, MetricsFile, Model, Project, RequirementsFile

SETTINGS_FILE = "upwell.yaml"

_READ_FOLDERS = ("models", "metrics", "dashboards", "requirements")
_LATER_FOLDERS = ("contracts", "recommenders", "syncs", "access", "tests")
#: Kind of source → what it is called, and how its URLs begin.
_KINDS: Mapping[type[Source], tuple[str, tuple[str, ...]]] = {
    PostgresSource: ("PostgreSQL", ("postgresql", "postgres")),
    MysqlSource: ("MySQL", ("mysql", "mariadb")),
}

T = TypeVar("T")
S = TypeVar("S", bound=Value)


def read_project(folder: Path, *, environment: Mapping[str, str]) -> Project:
    """The project in ``folder``, complete and consistent.

    Raises ``UsageError`` where there is no project, ``ProjectErrors`` with all that is wrong in it.
    """
    folder = folder.resolve()
    if not _has_settings(folder):
        raise UsageError(
            "no_project",
            f"there is no project here: the folder has no {SETTINGS_FILE}",
            where=str(folder),
            next_step="name its folder with --project; or make one: `upwell demo` with a shop to "
            "try, `upwell init DIR --from URL` from a database",
        )
    reader = _Reader(folder)
    declared = reader.declarations(environment)
    problems = [*reader.problems, *check(declared)]
    if problems or declared.settings is None:
        raise ProjectErrors(sorted(problems, key=_by_file_and_line))
    return Project(
        folder=folder,
        settings=declared.settings.value,
        models=_values(declared.models),
        semantic_models=_values(declared.semantic_models),
        metrics=_values(declared.metrics),
        dashboards=_values(declared.dashboards),
        requirements=_values(declared.requirements),
        secret_files=reader.secret_files,
        written_out=reader.written_out,
    )


def read_settings(folder: Path, *, environment: Mapping[str, str]) -> Settings:
    """What ``upwell.yaml`` says by now, each file that it refers to read anew.

    Raises ``ProjectErrors``.
    """
    return _Reader(folder).settings(environment).value


def warnings(project: Project) -> list[str]:
    """What is accepted but has no effect yet, and folders that look like a misspelling."""
    found = []
    if project.settings.serve.sql is not None:
        found.append(f"{SETTINGS_FILE}: `serve.sql` is accepted, but no SQL is served there yet")
    for name in sorted(entry.name for entry in project.folder.iterdir() if entry.is_dir()):
        meant = nearest(name, _READ_FOLDERS, likeness=0.8)
        if name in _LATER_FOLDERS:
            found.append(f"{name}/: not read yet")
        elif meant is not None and name not in _READ_FOLDERS:
            found.append(f"{name}/: not read; did you mean {meant}/?")
    return found


class _Reader:
    """Reads the files of one folder, gathering problems on its way."""

    def __init__(self, folder: Path) -> None:
        self.problems: list[ProjectError] = []
        self.secret_files: tuple[Path, ...] = ()
        self.written_out: tuple[str, ...] = ()
        self._folder = folder
        self._broken: set[str] = set()

    def declarations(self, environment: Mapping[str, str]) -> Declarations:
        settings = None
        with gathering(self.problems):
            settings = self.settings(environment)
        models = self._read_all("models", ".sql", _model)
        metrics = self._read_all("metrics", ".yaml", _yaml(MetricsFile))
        dashboards = self._read_all("dashboards", ".yaml", _yaml(Dashboard))
        requirements = self._read_all("requirements", ".yaml", _yaml(RequirementsFile))
        return Declarations(
            settings=settings,
            models=self._by_name("model", ((model.value.name, model) for model in models)),
            semantic_models=self._by_name(
                "semantic model",
                (
                    (part.name, Declared(part, file.document, ("semantic_models", index)))
                    for file in metrics
                    for index, part in enumerate(file.value.semantic_models)
                ),
            ),
            metrics=self._by_name(
                "metric",
                (
                    (part.name, Declared(part, file.document, ("metrics", index)))
                    for file in metrics
                    for index, part in enumerate(file.value.metrics)
                ),
            ),
            dashboards=self._by_name("dashboard", map(_named_by_file, dashboards)),
            requirements=self._by_name("requirements file", map(_named_by_file, requirements)),
            broken=frozenset(self._broken),
        )

    def settings(self, environment: Mapping[str, str]) -> Declared[Settings]:
        """The settings alone. Raises ``ProjectErrors``."""
        text = read_text(self._folder, SETTINGS_FILE)
        return self._resolved(_yaml(Settings)(text, SETTINGS_FILE), environment)

    def _resolved(
        self, settings: Declared[Settings], environment: Mapping[str, str]
    ) -> Declared[Settings]:
        """The settings with their references filled in."""
        resolving = _Resolving(settings, environment, self._folder)
        sources = {}
        for name, source in settings.value.sources.items():
            with gathering(resolving.problems):
                sources[name] = resolving.filled(source, "sources", name)
                _require_database(sources[name], settings.where("sources", name, "url"))
        lake, value = settings.value.lake, settings.value
        with gathering(resolving.problems):
            lake = lake and resolving.filled(lake, "lake")
        with gathering(resolving.problems):
            value = resolving.filled(value)
        if resolving.problems:
            raise ProjectErrors(resolving.problems)
        self.secret_files = tuple(dict.fromkeys(resolving.files))
        self.written_out = tuple(resolving.written_out)
        value = msgspec.structs.replace(value, sources=sources, lake=lake)
        return Declared(value, settings.document)

    def _read_all(self, kind: str, suffix: str, parse_file: Callable[[str, str], T]) -> list[T]:
        """Every file of a sub-folder that can be read; the rest are problems."""
        found: list[T] = []
        before = len(self.problems)
        for file in list_files(self._folder, kind, suffix, nested=kind == "models"):
            if isinstance(file, ProjectError):
                self.problems.append(file)
                continue
            with gathering(self.problems):
                found.append(parse_file(read_text(self._folder, file), file))
        if len(self.problems) > before:
            self._broken.add(kind)
        return found

    def _by_name(
        self, noun: str, items: Iterable[tuple[str, Declared[T]]]
    ) -> dict[str, Declared[T]]:
        named: dict[str, Declared[T]] = {}
        for name, item in items:
            first = named.setdefault(name, item)
            if first is not item:
                self.problems.append(
                    problem(
                        "project_name_taken",
                        f"the {noun} `{name}` is there already, at {first.where('name')}",
                        where=item.where("name"),
                        next_step="rename or remove one of the two",
                    )
                )
        return named


def _has_settings(folder: Path) -> bool:
    try:
        return (folder / SETTINGS_FILE).exists()
    except OSError:  # what may not be looked into is no project for us
        return False


def _yaml(kind: type[T]) -> Callable[[str, str], Declared[T]]:
    """A reader of one kind of YAML file."""

    def read(text: str, file: str) -> Declared[T]:
        document = parse(text, file)
        return Declared(conform(document, kind), document)

    return read


def _model(text: str, file: str) -> Declared[Model]:
    return Declared(parse_model(text, file), Document(file, None, {}))


def _named_by_file(item: Declared[T]) -> tuple[str, Declared[T]]:
    return PurePosixPath(item.document.file).stem, item


class _Resolving:
    """Fills in the references of settings, and notes which files they name."""

    def __init__(
        self, settings: Declared[Settings], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.problems: list[ProjectError] = []
        self.files: list[Path] = []
        self.written_out: list[str] = []
        self._settings = settings
        self._environment = environment
        self._folder = folder

    def filled(self, part: S, *place: str) -> S:
        """A part of the settings, at ``place``. Raises ProjectError for a reference to nothing."""
        found = {}
        for name, kind in references_of(type(part)).items():
            where = self._settings.where(*place, name)
            found[name] = self._value(getattr(part, name), where)
            written = without_references(getattr(part, name))
            if (kind == "secret" and written) or holds_password(written):
                self.written_out.append(where)
        return msgspec.structs.replace(part, **found)

    def _value(self, text: str, where: str) -> str:
        try:
            resolved = resolve(text, self._environment, self._folder)
        except UnresolvedError as error:
            missing = error.is_variable
            code: Code = "project_variable_missing" if missing else "project_secret_unreadable"
            raise problem(code, error.what, where=where, next_step=error.next_step) from None
        self.files += resolved.files
        return resolved.text


def _require_database(source: Source, where: str) -> None:
    """Says nothing of what is there instead: it may be a password alone."""
    kind, schemes = _KINDS[type(source)]
    if not source.url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise problem(
            "project_value_wrong",
            f"the URL is not that of a {kind} database",
            where=where,
            next_step=f"write {schemes[0]}://user:password@host:port/database",
        )


def _values(declared: Mapping[str, Declared[T]]) -> dict[str, T]:
    return {name: item.value for name, item in declared.items()}


def _by_file_and_line(one: ProjectError) -> tuple[str, int]:
    file, _, line = one.where.rpartition(":")
    return file, int(line)
