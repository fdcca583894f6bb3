"""The command line: one function a verb; errors and exit codes in one place.

Every verb takes ``--project`` and ``--json``. The work is done in ``operate``, ``inspect`` and the
like, each imported by the verb that needs it: half of Upwell need not be loaded to print a help
text, and a supervisor that loads little weighs little.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell import __version__
from upwell.cli.output import answer, fail
from upwell.core.errors import UpwellError, UsageError

app = typer.Typer(
    name="upwell",
    help="From a shop's database to live dashboards, SQL and models, within a second.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Option("--project", help="The project's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models; all of them if none is named.")]
Tables = Annotated[list[str], typer.Argument(help="Tables, named as in SQL: shop.orders.")]
TableNames = Annotated[
    str | None, typer.Option("--tables", help="Tables, with commas between: orders,sales.items.")
]
HERE = Path()


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the sample project is written, to read and edit.")
    ] = Path("upwell-demo"),
    rate: Annotated[float, typer.Option(min=0.01, help="Orders a second.")] = 2.0,
    duration: Annotated[
        str | None,
        typer.Option("--for", help="End by itself, e.g. 60s or 5m, from the first live tile."),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the dashboard.")
    ] = False,
    http: Annotated[str | None, typer.Option(help="Where to serve, e.g. 127.0.0.1:8400.")] = None,
    as_json: Json = False,
) -> None:
    """A real PostgreSQL shop with simulated customers, and Upwell on it."""
    from upwell.cli import operate

    operate.demo(
        directory,
        rate=rate,
        duration=duration,
        browser=not no_browser,
        http=http,
        stop=_stop_signal(),
        as_json=as_json,
    )


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where the project is written.")],
    url: Annotated[str, typer.Option("--from", help="The database: postgresql://…")],
    yes: Annotated[bool, typer.Option("--yes", help="Take every proposal, ask nothing.")] = False,
    tables: TableNames = None,
    fact: Annotated[
        str | None, typer.Option(help="The table that records what the page is about.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="The column that says when, e.g. orders.placed_at.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="Time zone of the business, e.g. Europe/London.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The project's name; default: DIR's.")] = None,
    as_json: Json = False,
) -> None:
    """Look at a database and draft a project: tables, model, metrics, dashboard."""
    from upwell.cli import drafting

    options = drafting.Options(url, _listed(tables), fact, time, zone, name, asks=not yes)
    drafting.init(directory, options, as_json=as_json)


@app.command()
def doctor(
    url: Annotated[
        str | None, typer.Argument(help="The database; default: the source of the project here.")
    ] = None,
    tables: TableNames = None,
    role_script: Annotated[
        str | None,
        typer.Option(help="Print the SQL that makes this role, with just the rights needed."),
    ] = None,
    project: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Is a database fit to be followed, and what to run if not."""
    from upwell.cli import doctor as surgery

    if role_script is not None:
        if url is not None or tables is not None:
            raise UsageError(
                "role_script_of_project",
                "a role script is for the sources and tables of a project",
                next_step="leave out URL and --tables; draft a project first: upwell init",
            )
        surgery.role_scripts(project, role_script, as_json=as_json)
        return
    surgery.doctor(url, project, _listed(tables), as_json=as_json)


@app.command()
def run(project: Folder = HERE, as_json: Json = False) -> None:
    """Everything a project says, until stopped."""
    from upwell.cli import operate

    operate.run(project, stop=_stop_signal(), as_json=as_json)


@app.command()
def validate(project: Folder = HERE, as_json: Json = False) -> None:
    """Check the project's files against themselves, and models against the tables known."""
    from upwell.cli import inspect

    inspect.validate(project, as_json=as_json)


@app.command()
def status(project: Folder = HERE, as_json: Json = False) -> None:
    """Freshness and health."""
    from upwell.cli import inspect

    inspect.status(project, as_json=as_json)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over tables and models.")],
    project: Folder = HERE,
    output: Annotated[
        str, typer.Option("--format", help="table, csv, json, parquet or arrow.")
    ] = "table",
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="A past version, or a time such as 2026-03-31 18:00."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a SELECT over tables and models, at one version or as of the past."""
    from upwell.cli import inspect

    inspect.query(project, sql, output="json" if as_json else output, as_of=as_of)


@app.command()
def explain(name: str, project: Folder = HERE, as_json: Json = False) -> None:
    """How a model refreshes, and why."""
    from upwell.cli import inspect

    inspect.explain(project, name, as_json=as_json)


@app.command()
def prove(names: Names = None, project: Folder = HERE, as_json: Json = False) -> None:
    """Incremental = full, row by row, on the data there is."""
    from upwell.cli import inspect

    inspect.prove(project, names or [], as_json=as_json)


@app.command()
def verify(project: Folder = HERE, as_json: Json = False) -> None:
    """Every stakeholder requirement: met, not met, not measured, with the evidence."""
    from upwell.cli import inspect

    inspect.verify(project, as_json=as_json)


@app.command()
def resync(
    tables: Names = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Read all rows, without comparing first.")
    ] = False,
    project: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Compare tables with their source by ranges of keys, and read what differs."""
    from upwell.cli import keeping

    keeping.resync(project, tables or [], anew=anew, as_json=as_json)


@app.command()
def drift(project: Folder = HERE, as_json: Json = False) -> None:
    """When tables were compared with their source, and which rows differed and were mended."""
    from upwell.cli import keeping

    keeping.drift(project, as_json=as_json)


@app.command()
def pause(tables: Tables, project: Folder = HERE, as_json: Json = False) -> None:
    """Let tables stand still until they are resumed; everything else goes on."""
    from upwell.cli import keeping

    keeping.pause(project, tables, as_json=as_json)


@app.command()
def resume(tables: Tables, project: Folder = HERE, as_json: Json = False) -> None:
    """Compare paused tables with their source, read what differs, and follow them again."""
    from upwell.cli import keeping

    keeping.resume(project, tables, as_json=as_json)


@app.command()
def drill(
    quick: Annotated[bool, typer.Option("--quick", help="A few faults, within 45 s.")] = False,
    as_json: Json = False,
) -> None:
    """Kill Upwell at every point where it commits, on a scratch shop, and count every row."""
    from upwell.cli import operate

    operate.drill(quick=quick, stop=_stop_signal(), as_json=as_json)


@app.command()
def scrub(
    project: Folder = HERE,
    mend: Annotated[
        bool, typer.Option("--repair", help="Repair what is damaged; Upwell must not run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every file of the lake against what was written."""
    from upwell.cli import keeping

    keeping.scrub(project, mend=mend, as_json=as_json)


@app.command()
def backup(archive: Path, project: Folder = HERE, as_json: Json = False) -> None:
    """Write what neither lake nor source hold into an archive (a .tar.gz)."""
    from upwell.cli import keeping

    keeping.backup(project, archive, as_json=as_json)


@app.command()
def restore(archive: Path, directory: Path, as_json: Json = False) -> None:
    """Put a backup into an empty folder; `run` there goes on where it ended."""
    from upwell.cli import keeping

    keeping.restore(archive, directory, as_json=as_json)


@app.command()
def version(as_json: Json = False) -> None:
    """Which Upwell this is."""
    answer({"version": __version__}, as_json=as_json, show=lambda data: print(data["version"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exits with the codes of ``core.errors.Exit``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        result: Any = app(args=given, prog_name="upwell", standalone_mode=False)
    except UpwellError as error:
        fail(error, as_json=as_json)
    except typer.TyperException as error:
        wrong = UsageError(
            "wrong_use", str(error) or type(error).__name__, next_step="See `upwell --help`."
        )
        fail(wrong, as_json=as_json)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)


def _listed(names: str | None) -> tuple[str, ...] | None:
    """``a, b`` as names; None where none were given."""
    found = tuple(name.strip() for name in (names or "").split(",") if name.strip())
    return found or None


def _stop_signal() -> threading.Event:
    """Set by Ctrl-C and SIGTERM, which also raise KeyboardInterrupt once, wherever we are."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            return  # already stopping: let it finish what it cleans up
        stop.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop


if __name__ == "__main__":
    main()
