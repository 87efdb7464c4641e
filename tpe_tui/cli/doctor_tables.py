"""The report of `tpe doctor`: what the engine finds on the machine, and the terminal, the locale and the keys."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tpe_core.machine import (
    Finding,
    Verdict,
    folder_finding,
    hub_findings,
    package_findings,
    private_path,
    python_value,
    torch_findings,
)
from tpe_tui.cells import fit
from tpe_tui.cli.paragraphs import report_width, wrapped

__all__ = ["examine", "report", "terminal_findings", "worst"]

VERDICTS: tuple[Verdict, ...] = ("ok", "look", "broken")
VERDICT, NAME = 7, 17


def examine() -> list[Finding]:
    """Everything that is found, in the order of the report."""
    return [
        *_program(),
        *terminal_findings(os.environ),
        *torch_findings(),
        *package_findings(),
        *_folders(),
        *hub_findings(),
    ]


def worst(findings: Sequence[Finding]) -> Verdict:
    """The worst verdict of some findings."""
    return VERDICTS[max((VERDICTS.index(finding.verdict) for finding in findings), default=0)]


def report(findings: Sequence[Finding]) -> list[str]:
    """The findings as lines, a heading for each section, and a last line that sums up."""
    width, lines, section = report_width(), list[str](), ""
    for finding in findings:
        if finding.section != section:
            lines += [*([""] if lines else []), finding.section]
            section = finding.section
        left = f"{fit(finding.verdict, VERDICT)}{fit(finding.name, NAME)} "
        first, *more = wrapped(finding.value, width - len(left))
        lines += [left + first, *(" " * len(left) + line for line in more)]
        if finding.advice:
            lines += [" " * len(left) + line for line in wrapped(f"=> {finding.advice}", width - len(left), "   ")]
    count = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    return [*lines, "", f"{count['broken']} broken, {count['look']} to look at, {count['ok']} ok."]


def _program() -> Iterator[Finding]:
    import importlib.metadata

    import tpe_tui

    place = private_path(Path(tpe_tui.__file__).parent)
    try:
        version = importlib.metadata.version("tpe-tui")
    except importlib.metadata.PackageNotFoundError:
        version = "of no installed version"
    yield Finding(section="program", name="tpe", value=f"{version}, {place}")
    yield Finding(section="program", name="Python", value=python_value())
    yield Finding(
        section="program", name="platform", value=f"{platform.system()} {platform.release()} {platform.machine()}"
    )


def terminal_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """The terminal, its colours and size, what stands between it and tpe, and the locale's encoding."""
    from rich.console import Console

    from tpe_tui.glyphs import wants_ascii
    from tpe_tui.sizes import too_small

    def found(name: str, value: str, hurts: bool = False, advice: str = "") -> Finding:
        return Finding(
            section="terminal",
            name=name,
            value=value,
            verdict="look" if hurts else "ok",
            advice=advice if hurts else "",
        )

    term = environment.get("TERM", "")
    programs = [f"{name}={environment[name]}" for name in ("COLORTERM", "TERM_PROGRAM") if environment.get(name)]
    yield found(
        "TERM",
        ", ".join([term or "not set", *programs]),
        term in ("", "dumb", "unknown"),
        "the inspector needs a terminal: TERM=xterm-256color, where that is true.",
    )
    console = Console(force_terminal=True, _environ=environment)
    colours = {"standard": "16", "256": "256", "truecolor": "16 million", "windows": "16"}
    shown = f"{colours.get(console.color_system or '', 'none')} colours"
    no_color = "NO_COLOR" in environment
    yield found(
        "colours",
        f"{shown}, NO_COLOR is set: bold, reverse and underline only" if no_color else shown,
        console.color_system not in ("256", "truecolor") and not no_color,
        "COLORTERM=truecolor, or TERM=xterm-256color, where the terminal has them.",
    )
    if sys.stdout.isatty():
        size = shutil.get_terminal_size()
        small = too_small(size.columns, size.lines)
        yield found("size", f"{size.columns} x {size.lines} cells", bool(small), small)
    else:
        yield found("size", "standard output is no terminal")
    between = [
        name
        for name, variables in (
            ("tmux", ("TMUX",)),
            ("GNU screen", ("STY",)),
            ("ssh", ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT")),
            ("mosh", ("MOSH_CONNECTION",)),
        )
        if any(environment.get(each) for each in variables)
    ]
    yield found("inside", ", ".join(between) or "neither tmux nor screen nor ssh")
    named = [f"{name}={environment[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)]
    yield found("locale", ", ".join(named) or "not set", *_locale())
    ascii_only = wants_ascii(environment)
    yield found(
        "glyphs",
        f"{'ASCII' if ascii_only else 'Unicode'}; standard output is {sys.stdout.encoding or 'of no encoding'}",
        ascii_only,
        "plots are coarse in ASCII: LANG=C.UTF-8, or --no-ascii, where the terminal shows Unicode.",
    )


def _locale() -> tuple[bool, str]:
    """Whether the locale that the environment names is missing on this machine, and what to do then."""
    import locale

    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return True, "this machine has no such locale: LC_ALL=C.UTF-8"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return False, ""


def _folders() -> Iterator[Finding]:
    from tpe_core.store import default_root
    from tpe_core.stored import stored_entries
    from tpe_tui.keymap import default_keys_file, load_keymap
    from tpe_tui.shell.view_memory import default_state_dir

    cache = default_root().parent
    yield folder_finding("cache", cache, "make room (tpe cache prune), or set TPE_CACHE_DIR to another folder.")
    entries = stored_entries()
    broken = sum(entry.state in ("broken", "leftover") for entry in entries)
    yield Finding(
        section="folders",
        name="stored results",
        value=f"{len(entries):,}, of which {broken:,} are broken" if broken else f"{len(entries):,}",
        verdict="look" if broken else "ok",
        advice="tpe cache prune removes the broken ones." if broken else "",
    )
    file = default_keys_file()
    yield folder_finding("configuration", file.parent, "set XDG_CONFIG_HOME to a folder that you may write to.")
    problems = len(load_keymap(file).problems)
    yield Finding(
        section="folders",
        name="keys.toml",
        value=f"{problems} of its lines cannot be used as they are"
        if problems
        else "valid"
        if file.exists()
        else "none",
        verdict="look" if problems else "ok",
        advice="tpe keys names them." if problems else "",
    )
    yield folder_finding("state", default_state_dir(), "make room, or set XDG_STATE_HOME to another folder.")
