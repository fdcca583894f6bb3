"""The verbs that run something until stopped: ``run`` and ``demo``."""

from __future__ import annotations

import os
import re
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from upwell.app import commands
from upwell.cli.output import answer, errors
from upwell.core.errors import UsageError
from upwell.project.read import read_project
from upwell.store.place import StatePlace
from upwell.supervise import Event, Supervisor

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class Telling:
    """Shows what happens as it happens, on standard error; silent for ``--json``."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._progress: Progress | None = None
        self._bars: dict[str, Any] = {}

    def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        if self._silent:
            return
        if event == "snapshot_progress":
            self._advance(facts)
            return
        if event == "snapshot_finished":
            self.close()
        line = _line(event, facts)
        if line:
            errors.print(line, highlight=False)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._bars.clear()

    def _advance(self, facts: Mapping[str, Any]) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("  reading {task.description:<28}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                console=errors,
                transient=True,
            )
            self._progress.start()
        table = facts["table"]
        if table not in self._bars:
            self._bars[table] = self._progress.add_task(table)
        self._progress.update(self._bars[table], completed=facts["rows"], total=facts["of"])


def run(folder: Path, *, stop: threading.Event, as_json: bool) -> None:
    """Run a project until stopped."""
    project = read_project(folder, environment=os.environ)
    place = StatePlace(project.folder)
    telling = Telling(silent=as_json)
    address = f"http://{project.settings.serve.http}"

    def on_event(event: Event) -> None:
        telling(event["event"], event)
        if event["event"] == "ready" and event["process"] == "web":
            telling("serving", {"address": address})

    supervisor = Supervisor(commands(project.folder), place.logs, on_event)
    try:
        with place.held(), supervisor.running():
            supervisor.watch(stop)
    except KeyboardInterrupt:
        pass
    finally:
        telling.close()
    answer({"stopped": True}, as_json=as_json, show=lambda _: errors.print("stopped"))


def demo(
    folder: Path,
    *,
    rate: float,
    duration: str | None,
    browser: bool,
    http: str | None,
    stop: threading.Event,
    as_json: bool,
) -> None:
    """Run the demonstration until stopped, or for ``duration`` with a report."""
    from upwell.demo.run import Options, run_demo

    options = Options(folder, rate, http, None if duration is None else seconds(duration))
    telling = Telling(silent=as_json)

    def tell(event: str, facts: Mapping[str, Any]) -> None:
        telling(event, facts)
        if event == "live" and browser:
            webbrowser.open(facts["address"])

    report = None
    try:
        report = run_demo(options, tell, stop)
    except KeyboardInterrupt:
        pass
    finally:
        telling.close()
    if report is None:
        answer({"stopped": True}, as_json=as_json, show=lambda _: errors.print("stopped"))
        return
    sound = bool(report["proved"] and report["source_equals_replica"])
    answer(report, as_json=as_json, show=_show_report, ok=sound)


def drill(*, quick: bool, stop: threading.Event, as_json: bool) -> None:
    """Go through the drill. Exit code 1 where a row was lost or doubled, or nothing came back."""
    from upwell.drill.run import run_drill

    telling = Telling(silent=as_json)
    try:
        report = run_drill(quick=quick, tell=telling, stop=stop)
    except KeyboardInterrupt:
        report = None
    finally:
        telling.close()
    if report is None:
        answer({"stopped": True}, as_json=as_json, show=lambda _: errors.print("stopped"))
        return
    sound = (
        report["equal"]
        and report["proved"]
        and report["settled"]
        and report["survived"] == report["faults"]
        and not report["untried"]
    )
    answer(report, as_json=as_json, show=_show_drill, ok=sound)


def seconds(text: str) -> float:
    """``90``, ``90s``, ``5m``, ``1h`` in seconds. Raises UsageError for anything else."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            "not_a_duration",
            f"Reading --for: {text!r} is not a duration.",
            next_step="Write for instance 30s, 5m or 1h.",
        )
    return float(found[1]) * _SECONDS[found[2]]


def _line(event: str, facts: Mapping[str, Any]) -> str:
    match event:
        case "server_started":
            return _done("the shop's PostgreSQL is up", f"psql {facts['url']}")
        case "history_loaded":
            orders = facts["rows"]["orders"]
            return _done("90 days of history", f"{orders:,} orders")
        case "snapshot_finished":
            return _done(f"snapshot of {facts['source']}", f"{facts['rows']:,} rows")
        case "models_finished":
            return _done("models built", ", ".join(facts["models"]))
        case "serving":
            return _done("serving", facts["address"])
        case "live":
            return (
                f"[green]✓[/] live after {facts['seconds']:.1f} s\n\n"
                f"  dashboard   [bold]{facts['address']}[/]\n"
                f"  the shop    psql {facts['url']}\n"
                f"  project     {facts['folder']}\n\n"
                "  Ctrl-C stops everything."
            )
        case "drill_started":
            return _done("a scratch shop", f"{facts['faults']} faults to come")
        case "rebuild_started":
            return (
                f"[yellow]![/] rebuilding the hot store from the lake, version {facts['version']}"
            )
        case "rebuild_finished":
            return _done("hot store rebuilt", f"{facts['rows']:,} rows in {facts['seconds']} s")
        case "lake_begun_anew":
            return f"[yellow]![/] the lake at {facts['lake']} holds nothing yet: it begins now"
        case "store_set_aside":
            return f"[yellow]![/] {facts['why']} Set aside as {facts['moved_to']}; reading anew."
        case "privacy_changed":
            said = (
                f"what is left out of {facts['table']} has changed: it is read anew; its history "
                "until now stays in the lake, if there is one"
            )
            return f"[yellow]![/] {said}"
        case "drift_mended":
            said = (
                f"{facts['table']} differed from its source in {facts['differing']:,} of "
                f"{facts['rows']:,} rows: they were mended in version {facts['version']:,} "
                "(`upwell drift`)"
            )
            return f"[yellow]![/] {said}"
        case "died":
            return f"[yellow]![/] the {facts['process']} process died; starting it again"
        case _:
            return ""


def _done(what: str, detail: str) -> str:
    return f"[green]✓[/] {what:<30} [dim]{detail}[/]"


def _show_report(report: Mapping[str, Any]) -> None:
    fresh = report["freshness_ms"]
    errors.print(
        f"\n{report['orders_written']:,} orders written, {report['changes_captured']:,} changes "
        f"captured in {report['versions']:,} versions\n"
        f"commit to visible: p50 {fresh['p50']} ms, p99 {fresh['p99']} ms\n"
        f"every model equals its full recompute: {'yes' if report['proved'] else 'NO'}\n"
        f"every table equals the shop's: {'yes' if report['source_equals_replica'] else 'NO'}\n"
        f"memory (PSS): "
        + ", ".join(f"{name} {size:.0f} MB" for name, size in report["pss_mb"].items()),
        highlight=False,
    )


def _show_drill(report: Mapping[str, Any]) -> None:
    for trial in report["trials"]:
        sign = "[green]✓[/]" if trial["survived"] else "[red]✗[/]"
        times = f" ×{trial['times']}" if trial["times"] > 1 else ""
        errors.print(f"{sign} {trial['what']}{times} [dim]{trial['point']}[/]", highlight=False)
    for point in report["untried"]:
        errors.print(f"[yellow]![/] never reached: {point}", highlight=False)
    lines = Table(
        *("table", "source", "log", "current", "lake", "lost", "doubled", "every row equal"),
        box=None,
        pad_edge=False,
    )
    for line in report["tables"]:
        counts = (f"{line[place]:,}" for place in ("source", "log", "current", "lake"))
        equal = "yes" if line["equal"] else "[red]NO[/]"
        lines.add_row(line["table"], *counts, str(line["lost"]), str(line["doubled"]), equal)
    errors.print(lines)
    errors.print(
        f"{report['faults']} faults, {report['survived']} survived; {report['changes']:,} changes "
        f"under load; {report['lost']} rows lost, {report['doubled']} doubled; every model equals "
        f"its full recompute: {'yes' if report['proved'] else 'NO'}; {report['seconds']} s",
        highlight=False,
    )
