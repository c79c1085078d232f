"""Draw docs/images/who-forgot-what.svg: the score matrices of a stream's arms side by side, under its first seed.

    make demo
    python docs/who_forgot_what.py limpet-demo/.limpet

The same home gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

import limpet
from limpet.forgetting.render.plots import draw_matrix, new_figure
from limpet.forgetting.report.arm_values import ArmReport

PICTURE = Path(__file__).parent / "images" / "who-forgot-what.svg"
# what the arms of the demo do, in the words of someone who has not read about arms yet
WORDS = {
    "isolated": "a small adapter for each task",
    "sequential-full": "the whole model, task after task",
    "sequential-shared": "one small adapter, task after task",
}


def draw(arms: list[ArmReport], file: Path) -> None:
    """Write the picture; letters stay letters, so that they can be searched and copied."""
    figure = new_figure(1.5 + 3.0 * len(arms), 4.1)
    figure.set_layout_engine("compressed")
    every_axes = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for axes, arm in zip(every_axes, arms, strict=True):
        image = draw_matrix(axes, arm)
        axes.set_title(f"{arm.name}\n{WORDS.get(arm.name, '')}".strip(), fontsize=10)
        axes.label_outer()
    figure.colorbar(image, ax=list(every_axes), shrink=0.8, label="score")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "limpet"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def main() -> None:
    """Draw the arms of a stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, help="the home in which the stream was learned")
    parser.add_argument("--stream", default="demo", help="[demo]")
    options = parser.parse_args()
    report = limpet.open(options.home).report(options.stream)
    draw([arm for arm in report.arms if arm.seed == report.arms[0].seed], PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
