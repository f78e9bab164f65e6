"""Both languages say everything, in their own way of writing numbers, money and time."""

from __future__ import annotations

import inspect
import re
from decimal import Decimal
from itertools import chain

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from config.fields import fields_of
from config.settings import CameraSettings, DeviceSettings
from devices import catalogue as drivers
from gateway.setup_desk import SetupDesk
from gateway.status.language import LOCALE, Language, choose
from gateway.status.page import HERE, because
from gateway.status.reasons import MESSAGES, reason
from gateway.status.setup_words import LABELS, help_of

ZH, EN = Language("zh_CN", "Asia/Shanghai"), Language("en", "Asia/Shanghai")
PLACEHOLDER = re.compile(r"%\(\w+\)s")


def used() -> set[str]:
    """Every message in templates and `words.py`."""
    found = extract_from_dir(
        HERE, options_map={},
        method_map=[
            ("words.py", "python"), ("setup_words.py", "python"), ("reasons.py", "python"),
            ("templates/**.html", "jinja2.ext.babel_extract"),
        ],
        keywords={"_": None, "say": None},
    )  # fmt: skip
    return {str(message) for _, _, message, _, _ in found} | told_by_drivers()


def told_by_drivers() -> set[str]:
    """What a form shows in the source's own words, of drivers and of what devices and cameras have in common."""
    desk, said = SetupDesk.__new__(SetupDesk), set()
    common = (fields_of(it, leave_out=("options",)) for it in (DeviceSettings, CameraSettings))
    fields = [*chain.from_iterable(common), *desk.camera_fields()]
    for line in desk.drivers():
        said.add(line.summary)
        fields += desk.driver_fields(line.name)
    return said | {told for told, ours in map(help_of, fields) if told and not ours}


def catalogue() -> dict[str, str]:
    with (LOCALE / "zh_CN" / "messages.po").open("rb") as file:
        return {str(it.id): str(it.string) for it in read_po(file, locale="zh_CN") if it.id}


def test_no_text_is_untranslated_and_no_translation_is_unused() -> None:
    assert len(used()) > 150
    assert {message for message in used() if not catalogue().get(message)} == set()
    assert set(catalogue()) - used() == set()


def test_every_drivers_options_have_a_name() -> None:
    for name in drivers.names():
        for field in SetupDesk.__new__(SetupDesk).driver_fields(name):
            assert field.name in LABELS or field.key in LABELS, (name, field.name)


def test_what_a_drivers_own_check_says_is_known_in_chinese() -> None:
    said = set()
    for name in drivers.names():
        source = inspect.getsource(inspect.getmodule(drivers.load(name).cls))  # type: ignore[arg-type]
        said |= set(re.findall(r'raise ValueError\("[a-z_, ]+: ([^"{}]+)"\)', source))
    assert len(said) > 15
    assert {text for text in said if not reason(ZH, text)[1]} <= {
        "needs 1–4 leading digits and 4–26 more digits or capital letters",  # of a table that is written as JSON
        "needs price digits (P) or weight digits (W)",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("must be 0.02 to 3600", "必须在 0.02 到 3600 之间"),
        ("expected float, got str", "应为 float，实际是 str"),
        ("'[' is not a regular expression: unterminated character set at position 0",
         "'[' 不是正则表达式：unterminated character set at position 0"),
        ("Connection refused", "连接被拒绝"),
        ("see `storefront drivers uhf_m100`", "参见 `storefront drivers uhf_m100`"),
    ],
)  # fmt: skip
def test_a_reason_is_said_with_what_varies_in_it(text: str, said: str) -> None:
    assert reason(ZH, text) == (said, True)
    assert reason(EN, text)[0].lower() == text.lower()


def test_an_unknown_reason_stays_and_is_marked_as_english_and_none_is_markup() -> None:
    assert (
        str(because(ZH, "must be positive", "<b>x</b>")) == '必须大于零 — <span lang="en">&lt;b&gt;x&lt;/b&gt;</span>'
    )
    assert str(because(ZH, "unknown time zone '<i>'")) == "没有时区 &#39;&lt;i&gt;&#39;"
    assert str(because(ZH, "", "")) == ""
    assert reason(ZH, "missing" * 100) == ("missing" * 100, False)


@given(st.text(max_size=500))
def test_no_text_is_too_odd_for_a_reason(text: str) -> None:
    assert len(MESSAGES) == len(set(MESSAGES))
    assert isinstance(reason(ZH, text)[0], str)


def test_a_translation_has_the_placeholders_of_its_original() -> None:
    for message, translation in catalogue().items():
        assert sorted(PLACEHOLDER.findall(message)) == sorted(PLACEHOLDER.findall(translation)), message


def test_templates_hold_no_text_outside_the_catalogues() -> None:
    for path in (HERE / "templates").glob("*.html"):
        text = re.sub(
            r"\{% set \w+ %\}.*?\{% endset %\}|<code>.*?</code>", " ", path.read_text("utf-8"), flags=re.DOTALL
        )
        text = re.sub(r"\{[{%#].*?[}%#]\}", " ", text, flags=re.DOTALL)
        text = re.sub(r"<[^>]*>", " ", text)
        assert re.findall(r"[A-Za-z一-鿿]{2,}", text) in ([], ["ms"], ["doctype", "html"]), path.name


@pytest.mark.parametrize(
    ("seconds", "chinese", "english"),
    [
        (5, "不到 1 分钟", "less than a minute"), (60, "1 分钟", "1 min"), (89 * 60, "89 分钟", "89 min"),
        (5400, "2 小时", "2 h"), (40 * 3600, "2 天", "2 days"), (-5, "不到 1 分钟", "less than a minute"),
    ],
)  # fmt: skip
def test_durations_are_rounded_to_what_a_person_says(seconds: float, chinese: str, english: str) -> None:
    assert (ZH.duration(seconds), EN.duration(seconds)) == (chinese, english)


def test_money_sizes_shares_and_big_numbers() -> None:
    assert ZH.money(Decimal("1234.5"), "CNY") == "¥1,234.50" == EN.money(Decimal("1234.5"), "CNY")
    assert EN.money(Decimal("1234.5"), "CNY", whole=True) == "¥1,234"
    assert EN.money(Decimal("-3"), "EUR") == "-€3.00"
    assert EN.money(Decimal(3), "<b>") == "3 <b>"
    assert (EN.percent(Decimal("0.1234")), EN.size(1536), EN.size(5 << 30)) == ("12.3%", "1.5 KiB", "5 GiB")
    assert EN.number(12_345) == "12,345" and EN.number(2_500_000) == "2.5M" and ZH.number(25_000_000) == "2500万"


def test_times_are_the_stores() -> None:
    assert EN.time(1_795_312_800_000) == "10:00" and ZH.hour(1_795_312_800_000) == "10"
    assert "2026年11月22日" in ZH.date(1_795_312_800_000)
    assert EN.moment(1_795_312_800_000 - 86_400_000, 1_795_312_800_000).startswith("Nov 21, 2026")


def test_parameters_are_written_by_the_unit_in_their_name() -> None:
    assert EN.say("%(a_s)s|%(b_bytes)s|%(c_money)s|%(d)s|%(e)s", {
        "a_s": 120, "b_bytes": 2048, "c_money": "12.5 CNY", "d": 1234, "e": "x",
    }) == "2 min|2 KiB|¥12.50|1,234|x"  # fmt: skip
    assert ZH.say("%(streams)s · %(condition)s", {"streams": "measurements, observations", "condition": "live"}) == (
        "测量数据、感知数据 · 在线"
    )


def test_a_parameter_is_never_taken_for_a_placeholder() -> None:
    assert EN.say("%(a)s", {"a": "%(b)s %s %(", "b": "secret"}) == "%(b)s %s %("


@given(st.text(max_size=40))
def test_an_amount_of_any_text_is_said(text: str) -> None:
    assert isinstance(EN.say("%(net_money)s", {"net_money": text}), str)


@pytest.mark.parametrize(
    ("cookie", "accept", "chosen"),
    [
        ("en", "zh-CN", "en"), ("xx", "zh-CN,en;q=0.5", "zh_CN"), ("", "en-GB,zh;q=0.9", "en"),
        ("", "zh;q=0.2,en;q=0.8", "en"), ("", "de,fr", "zh_CN"), ("", "", "zh_CN"), ("", "en;q=x,;;,q", "zh_CN"),
        ("", "en;q=0", "zh_CN"),
    ],
)  # fmt: skip
def test_the_kept_choice_comes_before_the_browsers_and_that_before_the_shops(
    cookie: str, accept: str, chosen: str
) -> None:
    assert choose(cookie, accept, "zh_CN") == chosen
