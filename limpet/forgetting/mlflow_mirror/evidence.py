"""What a stream shows, in MLflow: a heat map on each arm's run, report and note on the stream's run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from limpet.forgetting.mlflow_mirror.notes import stream_note, who_forgets
from limpet.forgetting.mlflow_mirror.tracking import NOTE, Tracking, milliseconds
from limpet.forgetting.render import plots
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.report.build import build_report

__all__ = ["FORGETTING", "HEATMAP_FILE", "REPORT_FILE", "push_evidence"]

HEATMAP_FILE = "matrix.png"
REPORT_FILE = "report.html"
# the tag that keeps who forgets in a stream, for the experiment's note
FORGETTING = "limpet.forgetting"
_DOTS_PER_INCH = 110


def push_evidence(
    tracking: Tracking, stream: str, stream_run: str, *, arm_runs: Sequence[tuple[str, int, str]]
) -> None:
    """Put the plots, the report and the note where readers look for them; those there before are replaced.

    Args:
        tracking: The mirror.
        stream: The stream's name.
        stream_run: The id of its run.
        arm_runs: For each arm that changed: its name, its seed and the id of its run.
    """
    made = build_report(tracking.store, stream)
    arms = {(arm.name, arm.seed): arm for arm in made.arms}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arm_name, seed, run in arm_runs:
            arm = arms.get((arm_name, seed))
            if arm is None or not arm.matrix:
                continue
            picture = folder / HEATMAP_FILE
            plots.heatmap(arm).savefig(picture, dpi=_DOTS_PER_INCH)
            tracking.client.log_artifact(run, str(picture))
            null = arm.metrics["forgetting_max_null"]
            if null is not None:
                # at one time, so that it is kept once however often it is sent
                time = milliseconds(arm.versions[-1].created_at)
                tracking.client.log_metric(run, "forgetting_max_null", null, time, len(arm.matrix))
        page = folder / REPORT_FILE
        page.write_text(render_html(made), encoding="utf-8")
        tracking.client.log_artifact(stream_run, str(page))
    tracking.client.set_tag(stream_run, FORGETTING, who_forgets(made))
    tracking.client.set_tag(stream_run, NOTE, stream_note(made))
