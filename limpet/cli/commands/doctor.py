"""`limpet doctor`."""

from __future__ import annotations

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation

__all__ = ["command"]


@click.command("doctor", cls=Command)
@pass_invocation
def command(invocation: Invocation) -> int:
    """Look at the machine and the home, and say what to type where something is wrong.

    Exit code 1 where anything fails. It stores a few bytes and removes them; nothing else is changed.
    """
    invocation.hush()
    from limpet.cli.terminal import output
    from limpet.home.doctor.examine import examine

    findings = tuple(examine(invocation.home))
    if invocation.json:
        output.emit(findings=findings, healthy=all(finding.status != "fail" for finding in findings))
    else:
        rows = [(finding.status, finding.name, finding.detail, finding.hint) for finding in findings]
        output.table(("status", "what", "how it is", "what to type"), rows)
    return int(any(finding.status == "fail" for finding in findings))
