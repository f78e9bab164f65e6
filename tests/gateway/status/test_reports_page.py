"""Reports for staff: chosen, made in a process of their own with progress, bounded, ended with their viewer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest

from gateway.errors import Unavailable
from gateway.projections.kpi import Sources
from gateway.reports.making import Order
from gateway.status.report_jobs import AT_ONCE, WAITING, Made, ReportJobs
from gateway.status.session import Busy
from tests.gateway.status.shop import FakeGateway, passed, sale
from tests.gateway.status.test_server import Site

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def site(gateway: FakeGateway) -> Iterator[Site]:
    gateway.keep(sale("128.50"), passed(7))
    gateway.count()
    served = Site(gateway)
    served.http.timeout = httpx.Timeout(60.0)
    yield served
    served.close()


def order(path: Path, **changes: object) -> Order:
    made = Order(
        journal=str(path), day="2026-11-22", week=False, format="csv", language="en", store="0042",
        time_zone="Asia/Shanghai", now_ms=1_795_312_800_000, sources=Sources(),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


async def here() -> bool:
    return False


def children() -> list[psutil.Process]:
    found = psutil.Process(os.getpid()).children()
    return [it for it in found if it.status() != psutil.STATUS_ZOMBIE and "gateway.reports.making" in it.cmdline()]


def test_reports_are_for_staff_and_say_where_nothing_is_known(site: Site) -> None:
    assert site.get("/reports").status_code == 401 and site.get("/reports/file?format=csv").status_code == 401
    assert "/reports" not in site.get("/").text
    site.sign_in("staff")
    page = site.get("/reports", **{"accept-language": "en"}).text
    assert "No data is not zero" not in page and "/reports/file?day=2026-11-22&amp;span=day&amp;format=pdf" in page
    assert "No data is not zero" in site.get("/reports?day=2026-01-05&span=week", **{"accept-language": "en"}).text
    assert "没有任何数据" in site.get("/reports?day=2026-01-05", **{"accept-language": "zh"}).text


@pytest.mark.parametrize("query", ["day=yesterday", "day=2026-02-30", "day=9999-01-01", "span=year", "day=0001-01-01"])
def test_no_day_is_no_report(site: Site, query: str) -> None:
    site.sign_in("staff")
    assert site.get(f"/reports?{query}").status_code == 400
    for path in ("file", "view", "progress"):
        assert site.get(f"/reports/{path}?format=csv&{query}").status_code == 400
    assert site.get("/reports/file?format=exe").status_code == 400


def test_a_plain_link_gives_the_file_and_the_page_to_print_does_nothing_by_itself(site: Site) -> None:
    site.sign_in("staff")
    csv = site.get("/reports/file?format=csv&day=2026-11-22", **{"accept-language": "en"})
    assert csv.status_code == 200 and csv.headers["content-type"].startswith("text/csv")
    assert "storefront-0042-2026-11-22.csv" in csv.headers["content-disposition"] and "128.5" in csv.text
    view = site.get("/reports/view?day=2026-11-22&span=week", **{"accept-language": "zh"})
    assert 'lang="zh-CN"' in view.text and "128.50" in view.text
    assert view.headers.get_list("content-security-policy") == [
        "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
    ]


def test_progress_ends_in_a_file_that_is_there_once_and_for_who_asked(site: Site) -> None:
    site.sign_in("staff")
    told = site.get("/reports/progress?format=xlsx&day=2026-11-22").text
    shares = [float(it) for it in re.findall(r'"done":([0-9.]+)', told)]
    assert shares == sorted(shares) and shares[-1] >= 0.6
    url = json.loads(told.rpartition("data: ")[2])["url"]
    mine = dict(site.http.cookies)
    site.sign_in("staff", "Bo")
    assert site.get(url).status_code == 404
    site.http.cookies.clear()
    for name, value in mine.items():
        site.http.cookies.set(name, value)
    assert site.get(url).content.startswith(b"PK") and site.get(url).status_code == 404


def test_the_page_answers_while_reports_are_made(site: Site) -> None:
    site.sign_in("staff")
    with site.http.stream("GET", "/reports/progress?format=pdf&day=2026-11-22&span=week") as stream:
        lines = stream.iter_lines()
        next(lines)
        started_s = time.monotonic()
        assert site.get("/").status_code == 200
        assert time.monotonic() - started_s < 3.0
        assert any("made" in line for line in lines)


def test_a_viewer_that_leaves_ends_the_process(tmp_path: Path, gateway: FakeGateway) -> None:
    async def leave() -> None:
        left = False

        async def gone() -> bool:
            return left

        async for step in ReportJobs().make(order(gateway.journal_path, format="pdf"), gone):
            if not left:
                left = True
                continue
            assert isinstance(step, float)

    asyncio.run(leave())
    assert children() == []


def test_what_is_cancelled_from_outside_leaves_no_process(gateway: FakeGateway) -> None:
    async def cancel() -> None:
        async def watch() -> None:
            async for _ in ReportJobs().make(order(gateway.journal_path, format="pdf"), here):
                pass

        task = asyncio.create_task(watch())
        until_s = time.monotonic() + 60
        while not children() and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
        assert children()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert children() == []


def test_only_a_few_are_made_at_once_and_more_are_told_so(gateway: FakeGateway) -> None:
    async def crowd() -> tuple[int, int, int]:
        jobs, most = ReportJobs(), 0

        async def one() -> str:
            nonlocal most
            try:
                async for step in jobs.make(order(gateway.journal_path), here):
                    most = max(most, len(children()))
                    if isinstance(step, Made):
                        return "made"
            except Busy:
                return "busy"
            return "nothing"

        ends = await asyncio.gather(*(one() for _ in range(AT_ONCE + WAITING + 3)))
        return most, ends.count("made"), ends.count("busy")

    most, made, busy = asyncio.run(crowd())
    assert most <= AT_ONCE and made == AT_ONCE + WAITING and busy == 3


def test_a_journal_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    async def ask() -> None:
        async for _ in ReportJobs().make(order(tmp_path / "none.db"), here):
            pass

    with pytest.raises(Unavailable, match="make report"):
        asyncio.run(ask())


def test_files_that_nobody_fetches_are_let_go() -> None:
    async def keep() -> tuple[list[Made | None], Made | None]:
        jobs = ReportJobs()
        tokens = [jobs.keep(Made(f"{n}", "x/y", b"", False), "me") for n in range(6)]
        return [jobs.take(token, "me") for token in tokens], jobs.take("nothing", "me")

    taken, nothing = asyncio.run(keep())
    assert [it is not None for it in taken] == [False, False, True, True, True, True] and nothing is None
