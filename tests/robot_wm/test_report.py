"""The report stands alone and hides no spike."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from robot_wm.report import MOST_POINTS, Line, Panel, _thin, write_report


def test_the_page_holds_figures_plots_and_video_and_needs_nothing_else(tmp_path):
    time = np.linspace(0, 10, 500)
    video = tmp_path / "video.mp4"
    video.write_bytes(b"film")
    panels = [Panel("Plan time", "[ms]", [Line("used", time, np.sin(time))], marks=[(5.0, "hold")], bound=0.5)]
    page = write_report(
        tmp_path / "report.html", "sim <cartpole>", {"return": 812.25, "bag": "a&b"}, panels, video
    ).read_text()
    assert "sim &lt;cartpole&gt;" in page and "812.2" in page and "a&amp;b" in page and "ZmlsbQ" in page
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    ElementTree.fromstring(svg)
    assert "<script" not in page and 'src="http' not in page and "<link" not in page


def test_thinning_a_long_line_keeps_its_spike():
    y = np.zeros(100_000)
    y[77_777] = 9.0
    x, thin = _thin(np.arange(len(y), dtype=float), y)
    assert len(thin) <= MOST_POINTS and thin.max() == 9.0 and x[thin.argmax()] == 77_777
