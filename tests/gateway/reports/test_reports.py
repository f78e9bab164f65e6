"""A report says the same in every format and language, loads nothing, and has no zero where nothing is known."""

from __future__ import annotations

import csv
import io
import re
import sys
import zipfile
import zlib
from base64 import a85decode
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
import reportlab

from gateway.projections.kpi import HOUR_MS, NAMES, Reason, Sources
from gateway.reports.as_pdf import as_pdf
from gateway.reports.document import DASH, document
from gateway.reports.render import FORMATS, Format, file_name, render
from gateway.reports.words import FIGURES, REASONS, TEXTS, Language
from tests.gateway.reports.shop import BAD, DAY, NIGHT, TEN, Past

LANGUAGES: tuple[Language, ...] = ("zh_CN", "en")


@pytest.fixture(scope="module")
def past() -> Past:
    return Past()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("week", [False, True])
def test_every_format_of_every_report_can_be_made(past: Past, format: Format, language: Language, week: bool) -> None:
    assert len(render(past.report(week=week), format, language)) > 500


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_day_without_data_says_so_in_every_format_and_shows_no_zero(
    past: Past, format: Format, language: Language
) -> None:
    nothing = past.report("2025-01-01")
    assert nothing.empty
    content = render(nothing, format, language)
    if format in ("text", "html"):
        assert TEXTS["nothing"][language == "en"] in content.decode()
    if format == "csv":
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        assert {row[4] for row in rows[1:] if row} == {""}
    if format == "json":
        assert all(it["value"] is None for it in msgspec.json.decode(content)["kpis"]["figures"].values())


def test_figures_are_in_every_format_as_they_are(past: Past) -> None:
    made = past.report()
    assert made.kpis["footfall"].value == 1140 and made.kpis["transactions"].value == 126
    assert "1,140" in render(made, "text", "zh_CN").decode() and "1,140" in render(made, "html", "en").decode()
    assert msgspec.json.decode(render(made, "json", "en"))["kpis"]["figures"]["footfall"]["value"] == "1140"
    assert f"{DAY},,footfall,客流量,1140,1," in render(made, "csv", "zh_CN").decode("utf-8-sig")
    with zipfile.ZipFile(io.BytesIO(render(made, "xlsx", "en"))) as book:
        assert "<v>1140</v>" in book.read("xl/worksheets/sheet1.xml").decode()


def test_an_unfinished_day_is_compared_up_to_the_same_full_hour(past: Past) -> None:
    made = past.report(now=TEN + 2 * HOUR_MS + 1_200_000)
    assert not made.over
    assert made.so_far["footfall"].value == 40 + 50
    assert made.compared["footfall"].value == 40 + 50 + 2 * (7 % 5)
    assert "尚未结束" in document(made, "zh_CN").subtitle


def test_a_week_has_its_days_and_the_week_before(past: Past) -> None:
    made = past.report(week=True)
    assert (made.first, made.last, len(made.points)) == ("2026-11-16", "2026-11-22", 5)
    assert made.compared_first == "2026-11-09"
    assert made.kpis["transactions"].value == 5 * 126
    assert made.so_far["transactions"].value == made.compared["transactions"].value


def test_a_young_shop_has_no_forecast_and_says_how_much_is_missing() -> None:
    young = Past(days=10)
    assert "1 周" in " ".join(document(young.report(), "zh_CN").notes)
    assert "1 weeks of at least 3" in " ".join(document(young.report(), "en").notes)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_the_page_loads_nothing_and_runs_nothing_and_a_bad_name_stays_a_name(past: Past) -> None:
    content = render(past.report(), "html", "zh_CN").decode()
    links = _Links()
    links.feed(content)
    assert links.loaded == [] and "script" not in links.tags and "b" in links.tags
    assert "=cmd()&lt;b&gt;&amp;" in content and BAD not in content
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/)", content)


def test_no_cell_that_somebody_named_becomes_a_formula(past: Past) -> None:
    made = past.report()
    assert f"'{BAD}" in render(made, "csv", "en").decode("utf-8-sig")
    with zipfile.ZipFile(io.BytesIO(render(made, "xlsx", "en"))) as book:
        pages = [book.read(name).decode() for name in book.namelist() if name.startswith("xl/worksheets/")]
    assert not any("<f>" in page for page in pages)


def test_chinese_goes_into_the_pdf_with_a_font_that_can_be_read_and_has_its_letters(past: Past) -> None:
    """One that is missing, has other outlines or lacks letters is passed over; without any, the viewer's is named."""
    vera = Path(reportlab.__file__).with_name("fonts") / "Vera.ttf"
    broken = Path(reportlab.__file__)
    report = document(past.report(), "zh_CN")
    without = as_pdf(report, (Path("/nowhere.ttf"), broken, vera))
    assert b"/STSong-Light" in without and b"/FontFile2" not in without
    carried = as_pdf(report, (broken, vera), needed="A1")
    assert b"/FontFile2" in carried and b"/STSong-Light" not in carried
    assert as_pdf(report, (broken, vera), needed="A1") == carried


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pdf_is_one_page_with_everything_on_it(past: Past, language: Language) -> None:
    content = as_pdf(document(past.report(), language), ())  # whatever fonts this machine has
    assert len(re.findall(rb"/Type /Page\b", content)) == 1
    assert (b"STSong-Light" in content) is True  # the zones' names are Chinese in both
    drawn = re.search(rb"stream\r?\n(.*?)endstream", content, re.DOTALL)
    assert drawn is not None
    lines = zlib.decompress(a85decode(drawn[1].strip(), adobe=False) if b"~>" not in drawn[1] else
                            a85decode(b"<~" + drawn[1].strip(), adobe=True)).decode("latin-1")  # fmt: skip
    heights = [float(y) for y in re.findall(r"1 0 0 1 [\d.]+ ([-\d.]+) Tm", lines)]
    assert len(heights) > 60 and min(heights) > 20


def test_the_same_report_is_the_same_file(past: Past) -> None:
    made = past.report()
    for format in ("pdf", "json", "text", "csv"):
        assert render(made, format, "zh_CN") == render(made, format, "zh_CN")


def test_every_figure_and_reason_has_words_in_both_languages() -> None:
    assert set(FIGURES) == set(NAMES)
    reasons = set(REASONS) | {""}
    assert reasons == set(Reason.__args__)  # type: ignore[attr-defined]
    assert all(chinese and english for _, (chinese, english) in FIGURES.values())


def test_a_lower_bound_says_so_and_has_no_change(past: Past) -> None:
    two_tills = past.report(sources=Sources(True, ("till", "till2"), "CNY"))
    tile = next(it for it in document(two_tills, "en").tiles if it.name == "transactions")
    assert tile.value.startswith("≥ ") and tile.change == "" and "50.0% seen" in tile.note
    dark = next(it for it in document(two_tills, "en").tiles if it.name == "conversion")
    assert dark.value == DASH and dark.note == "a till was dark"


def test_files_have_names_and_libraries_leave_nothing_behind(past: Past) -> None:
    made = past.report(week=True)
    assert file_name(made, "pdf") == "storefront-0042-2026-11-16_2026-11-22.pdf"
    assert not [hook for hook in sys.meta_path if "Plugin" in type(hook).__name__]


def test_progress_is_told_from_nothing_to_all(past: Past) -> None:
    from gateway.projections.store_time import StoreTime
    from gateway.reports.report import report

    told: list[float] = []
    made = report(DAY, past.query, Sources(), StoreTime("UTC"), NIGHT, week=True, progress=told.append)
    render(made, "text", "en", told.append)
    assert told[0] == 0.0 and told[-1] == 1.0 and all(0 <= share <= 1 for share in told) and len(told) > 5
