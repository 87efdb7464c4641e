"""`tpe doctor`: what tpe finds on this machine, to be pasted into a bug report."""

from __future__ import annotations

import typer

from tpe_core.errors import FAILED
from tpe_tui.cli.console import print_lines
from tpe_tui.cli.options import OUTPUT, takes
from tpe_tui.cli.table_output import print_json, rows_of

__all__ = ["doctor"]


@takes(OUTPUT, rows_of("findings"))
def doctor(*, json_: bool) -> None:
    """Print versions, terminal, torch, GPU and folders, and what to do where something hurts; exit code 1 if broken."""
    from tpe_tui.cli.doctor_tables import examine, report, worst

    findings = examine()
    if json_:
        from dataclasses import asdict

        print_json({"verdict": worst(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        print_lines(report(findings))
    if worst(findings) == "broken":
        raise typer.Exit(FAILED)
