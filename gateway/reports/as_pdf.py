"""A report as one page of A4, drawn with reportlab.

Chinese is set in a font of this machine whose used letters go into the file, where there is one that reportlab can read
(TrueType outlines; Noto CJK has others); else in STSong-Light, which the viewer replaces by a Chinese font of its own.
reportlab is loaded here and only when a report is made.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.projections.heat import HeatMap
from gateway.reports.document import Chart, Document, Sheet
from gateway.reports.words import text

_WIDTH, _HEIGHT, _EDGE = 595.28, 841.89, 32.0  # points; A4
_INNER = _WIDTH - 2 * _EDGE
_COLUMNS = 4
_TILE_HEIGHT, _GAP = 47.0, 5.0
_INK, _SOFT, _LINE = "#1c2321", "#55605c", "#d5dbd8"
_COLOURS = ("#1f6f5c", "#9aa5a1", "#c77b30")
_ROWS_MOST = 6
_CHINESE = "STSong-Light"
_CARRIED = "Carried"
FONTS = tuple(
    Path("/usr/share/fonts/truetype") / name
    for name in ("wqy/wqy-microhei.ttc", "wqy/wqy-zenhei.ttc", "droid/DroidSansFallbackFull.ttf")
)
"""Where Debian puts Chinese fonts that may be embedded and that reportlab can read."""
_NEEDED = "门店0A¥–≥…"  # a font for other letters only would show boxes


def as_pdf(document: Document, fonts: Iterable[Path] = FONTS, needed: str = _NEEDED) -> bytes:
    """The report as a PDF file of one page; the same report gives the same bytes.

    Args:
        document: what it says.
        fonts: files tried in order for what is not Latin.
        needed: letters that such a font must have.
    """
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfgen.canvas import Canvas

    font = "Helvetica"
    if document.language == "zh_CN" or not _latin(document):
        font = _carried(fonts, needed) or _CHINESE
        if font == _CHINESE:
            pdfmetrics.registerFont(UnicodeCIDFont(font))
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(_WIDTH, _HEIGHT), invariant=1)
    canvas.setTitle(f"{document.title} {document.subtitle}")
    canvas.setLang(document.language.replace("_", "-")) if hasattr(canvas, "setLang") else None
    page = _Page(canvas, font)
    page.line(document.title, 17, _INK)
    page.line(document.subtitle, 8.5, _SOFT)
    page.skip(8)
    if document.empty:
        page.line(document.empty, 12, _INK)
    else:
        page.tiles(document)
        page.charts([chart for chart in document.charts if chart.labels])
        page.sheets(document)
        page.maps(document)
    page.notes(document.notes)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _carried(fonts: Iterable[Path], needed: str) -> str:
    """The name under which the first usable font is known now; "" where there is none."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFError, TTFont

    for path in fonts:
        try:
            font = TTFont(_CARRIED, str(path))
        except (TTFError, OSError):
            continue
        if all(ord(letter) in font.face.charToGlyph for letter in needed):
            pdfmetrics.registerFont(font)
            return _CARRIED
    return ""


class _Page:
    """A canvas and how far down it is filled."""

    def __init__(self, canvas: Any, font: str) -> None:
        self._canvas, self._font = canvas, font
        self._y = _HEIGHT - _EDGE

    def skip(self, points: float) -> None:
        self._y -= points

    def line(self, said: str, size: float, colour: str) -> None:
        self._y -= size * 1.25
        self._write(_EDGE, self._y, said, size, colour, _INNER)

    def tiles(self, document: Document) -> None:
        width = (_INNER - _GAP * (_COLUMNS - 1)) / _COLUMNS
        before = text("compared", document.language)
        for index, tile in enumerate(document.tiles):
            x = _EDGE + index % _COLUMNS * (width + _GAP)
            if index % _COLUMNS == 0:
                self._y -= _TILE_HEIGHT + (_GAP if index else 0)
            self._canvas.setStrokeColor(_LINE)
            self._canvas.roundRect(x, self._y, width, _TILE_HEIGHT, 4)
            top, inner = self._y + _TILE_HEIGHT, width - 12
            self._write(x + 6, top - 11, tile.label, 7.5, _SOFT, inner)
            self._write(x + 6, top - 25, tile.value, 12.5, _SOFT if tile.dark else _INK, inner)
            if not tile.dark:
                self._write(x + 6, top - 34.5, f"{before} {tile.compared} {tile.change}".rstrip(), 6.5, _SOFT, inner)
            self._write(x + 6, top - 43, tile.note, 6.5, _SOFT, inner)
        self.skip(6)

    def charts(self, charts: list[Chart]) -> None:
        from reportlab.graphics import renderPDF

        width, height = (_INNER - 12) / 2, 140.0
        if not charts:
            return
        self._y -= 14 + height
        for index, chart in enumerate(charts[:2]):
            x = _EDGE + index * (width + 12)
            self._write(x, self._y + height + 2, chart.title, 9, _INK, width)
            renderPDF.draw(_drawing(chart, width, height - 14, self._font), self._canvas, x, self._y + 12)
            self._legend(chart, x, self._y + 2, width)
        self.skip(4)

    def sheets(self, document: Document) -> None:
        width = (_INNER - 12) / 2
        low = self._y
        for index, sheet in enumerate(document.sheets[:2]):
            low = min(low, self._sheet(sheet, _EDGE + index * (width + 12), self._y, width, document))
        if document.sheets[2:]:
            self._y = low
            low = self._sheet(document.sheets[2], _EDGE, self._y, width, document)
        self._y = low - 4

    def maps(self, document: Document) -> None:
        room = self._y - _EDGE - 14 * len(document.notes) - 30
        if not document.maps or room < 60:
            return
        height = min(room - 16, 110.0)
        self._y -= height + 14
        x = _EDGE
        for title, map_ in document.maps[:4]:
            width = min(height * map_.cols / map_.rows, (_INNER - 3 * 12) / 4)
            self._write(x, self._y + height + 3, title, 8, _INK, (_INNER - 36) / 4)
            self._heat(map_, x, self._y, width, width * map_.rows / map_.cols)
            x += (_INNER - 36) / 4 + 12
        self.skip(6)

    def notes(self, notes: tuple[str, ...]) -> None:
        self.skip(4)
        for note in notes:
            for part in self._broken(note, 7.5):
                self.line(part, 7.5, _SOFT)

    def _legend(self, chart: Chart, x: float, y: float, width: float) -> None:
        if len(chart.series) < 2:
            return
        for index, series in enumerate(chart.series):
            left = x + index * width / len(chart.series)
            self._canvas.setFillColor(_COLOURS[index % len(_COLOURS)])
            self._canvas.rect(left, y, 6, 6, stroke=0, fill=1)
            self._write(left + 9, y, series.label, 6.5, _SOFT, width / len(chart.series) - 12)

    def _sheet(self, sheet: Sheet, x: float, y: float, width: float, document: Document) -> float:
        rows = [sheet.head, *sheet.rows[:_ROWS_MOST]]
        self._write(x, y - 11, sheet.title, 9, _INK, width)
        y -= 14
        first = width * (0.34 if len(sheet.head) > 4 else 0.4)
        other = (width - first) / (len(sheet.head) - 1)
        for number, row in enumerate(rows):
            y -= 10.5
            colour = _SOFT if number == 0 else _INK
            self._write(x, y, row[0], 7, colour, first - 4)
            for column, cell in enumerate(row[1:]):
                self._write_right(x + first + (column + 1) * other, y, cell, 7, colour, other - 2)
            self._canvas.setStrokeColor(_LINE)
            self._canvas.line(x, y - 2.5, x + width, y - 2.5)
        if len(sheet.rows) > _ROWS_MOST:
            y -= 10.5
            self._write(x, y, text("more", document.language, count=len(sheet.rows) - _ROWS_MOST), 7, _SOFT, width)
        return y - 6

    def _heat(self, map_: HeatMap, x: float, y: float, width: float, height: float) -> None:
        from reportlab.lib.colors import Color

        self._canvas.setFillColor("#eef1f0")
        self._canvas.rect(x, y, width, height, stroke=0, fill=1)
        most, wide, high = max(map_.person_s), width / map_.cols, height / map_.rows
        for index, value in enumerate(map_.person_s):
            if value > 0:
                row, column = divmod(index, map_.cols)
                self._canvas.setFillColor(Color(0.70, 0.15, 0.12, alpha=max(0.05, value / most)))
                self._canvas.rect(x + column * wide, y + height - (row + 1) * high, wide, high, stroke=0, fill=1)

    def _write(self, x: float, y: float, said: str, size: float, colour: str, width: float) -> None:
        self._canvas.setFillColor(colour)
        self._canvas.setFont(self._font, size)
        self._canvas.drawString(x, y, self._cut(said, size, width))

    def _write_right(self, x: float, y: float, said: str, size: float, colour: str, width: float) -> None:
        self._canvas.setFillColor(colour)
        self._canvas.setFont(self._font, size)
        self._canvas.drawRightString(x, y, self._cut(said, size, width))

    def _cut(self, said: str, size: float, width: float) -> str:
        if self._font == _CHINESE:
            said = said.replace("·", "|")  # the font is the viewer's own, and many show a box for it
        if self._canvas.stringWidth(said, self._font, size) <= width:
            return said
        while said and self._canvas.stringWidth(said + "…", self._font, size) > width:
            said = said[:-1]
        return said + "…"

    def _broken(self, said: str, size: float) -> list[str]:
        """The text in lines that fit; between words, or anywhere in Chinese."""
        lines, line = [], ""
        for letter in said:
            if self._canvas.stringWidth(line + letter, self._font, size) > _INNER:
                head, space, tail = line.rpartition(" ")
                lines.append(head if space else line)
                line = tail if space else ""
            line += letter
        return [*lines, line]


def _drawing(chart: Chart, width: float, height: float, font: str) -> Any:
    from reportlab.graphics.charts.barcharts import VerticalBarChart
    from reportlab.graphics.charts.linecharts import HorizontalLineChart
    from reportlab.graphics.shapes import Drawing
    from reportlab.lib.colors import HexColor

    drawn = VerticalBarChart() if chart.bars else HorizontalLineChart()
    drawn.x, drawn.y, drawn.width, drawn.height = 26, 12, width - 30, height - 16
    drawn.data = [series.values for series in chart.series]
    drawn.categoryAxis.categoryNames = list(chart.labels)
    for axis in (drawn.categoryAxis, drawn.valueAxis):
        axis.labels.fontName, axis.labels.fontSize = font, 6
        axis.strokeColor = HexColor(_LINE)
    most = max((value for one in chart.series for value in one.values if value is not None), default=0.0)
    drawn.valueAxis.valueMin = 0
    drawn.valueAxis.valueMax = max(most * 1.08, 1.0)
    drawn.valueAxis.maximumTicks = 5
    drawn.valueAxis.labelTextFormat = "%.0f"
    drawn.valueAxis.visibleGrid = True
    drawn.valueAxis.gridStrokeColor = HexColor(_LINE)
    for index in range(len(chart.series)):
        colour = HexColor(_COLOURS[index % len(_COLOURS)])
        if chart.bars:
            drawn.bars[index].fillColor, drawn.bars[index].strokeColor = colour, None
        else:
            drawn.lines[index].strokeColor, drawn.lines[index].strokeWidth = colour, 1.6 if index == 0 else 1.0
    drawing = Drawing(width, height)
    drawing.add(drawn)
    return drawing


def _latin(document: Document) -> bool:
    """Whether Helvetica has a sign for every letter; names of zones may be in any script."""
    said = [document.subtitle, *(cell for sheet in document.sheets for row in sheet.rows for cell in row)]
    said += [title for title, _ in document.maps]
    return all(ord(letter) < 0x250 or letter in "–…≥“”" for text_ in said for letter in text_)
