"""The bench's picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.bench import chart
from tests.bench.figures import Results
from tests.bench.workloads import NO_OP, Row

RESULTS: Results = {
    Row("no-op", "celery"): [{"rate": 2_000.0}, {"rate": 1_000.0}],
    Row("no-op", "hopd"): [{"rate": 40_000.0}, {"rate": 30_000.0}],
    Row("no-op", "ceiling"): [{"rate": 39_000.0}, {"rate": 31_000.0}],
    Row("no-op", "hopd-bare"): [{"rate": 41_000.0}, {"rate": 31_000.0}],
    Row("random", "hopd"): [{"rate": 20_000.0}, {"rate": 20_000.0}],
    Row("put", "raw"): [{"rate": 50_000.0}, {"rate": 50_000.0}],
}


def texts(svg: str) -> list[str]:
    """All that can be read in it."""
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_the_picture_is_xml_in_which_every_bar_has_name_and_rate() -> None:
    read = texts(chart.svg(RESULTS, "today"))

    assert {"today", "hopd", "Celery, gevent pool", "35,000 jobs/s", "no-op, 100 B, concurrency 500", "1-50 ms, concurrency 1,000"} <= set(
        read
    )


def test_the_same_figures_make_the_same_file() -> None:
    assert chart.svg(RESULTS, "today") == chart.svg(RESULTS, "today")


def test_the_picture_has_no_background_of_its_own() -> None:
    drawn = ET.fromstring(chart.svg(RESULTS, "today"))
    page = next(element for element in drawn.iter() if element.get("id") == "patch_1")

    assert all("fill: none" in path.get("style", "") for path in page)


def test_the_ceiling_comes_first_and_then_the_fastest() -> None:
    assert [bar.contender for bar in chart.bars(RESULTS, NO_OP)] == ["ceiling", "hopd", "celery"]


def test_a_peer_says_how_many_times_hopd_is_faster_within_a_round() -> None:
    labels = {bar.contender: bar.label for bar in chart.bars(RESULTS, NO_OP)}

    assert labels == {
        "ceiling": "35,000 jobs/s",
        "hopd": "35,000 jobs/s",
        "celery": "1,500 jobs/s · hopd does 25.0 ×",
    }


def test_nothing_is_drawn_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing of what is drawn"):
        chart.svg({Row("put", "raw"): [{"rate": 1.0}]}, "today")
