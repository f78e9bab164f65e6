"""EPC banks: published tags, broken ones, and every SGTIN that can be made."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.intake import epc
from gateway.intake.epc import Epc, decode, is_ignored

DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).parents[4] / "shared" / "data") / "devices"
PARTITIONS = [(40, 12, 4), (37, 11, 7), (34, 10, 10), (30, 9, 14), (27, 8, 17), (24, 7, 20), (20, 6, 24)]


def data(name: str) -> Any:
    file = DATA / name
    if not file.is_file():
        pytest.skip("the EPC vectors beside the project are absent (STOREFRONT_DATA)")
    return json.loads(file.read_text("utf-8"))["vectors"]


def sgtin(partition: int, company: int, item: int, serial: int, filter_: int = 1, *, bits: int = 96) -> str:
    """The hex of an SGTIN, built here and not by the module."""
    company_bits, _, item_bits = PARTITIONS[partition] if partition < 7 else (20, 6, 24)
    binary = f"{0x30 if bits == 96 else 0x36:08b}{filter_:03b}{partition:03b}"
    binary += f"{company:0{company_bits}b}{item:0{item_bits}b}"
    binary += f"{serial:0{bits - 58}b}"
    binary += "0" * (-len(binary) % 16)
    return f"{int(binary, 2):0{len(binary) // 4}X}"


def test_the_collected_tags_decode() -> None:
    """Every tag of the collection: URI, GTIN and filter as another decoder had them, and its errors too."""
    for vector in data("epc_hex_vectors.json"):
        decoded = decode(vector["hex"])
        if "error" in vector:
            assert decoded.uri is None
            assert decoded.reason
            continue
        assert decoded.uri == vector["epc_uri"]
        assert decoded.filter == vector["filter"]
        assert decoded.gtin == vector.get("gtin14")
        assert decoded.reason is None


def test_the_protocol_vectors_decode() -> None:
    """Tag URI, pure identity and GS1 element of the published EPCs, in all their schemes."""
    vectors = [vector for vector in data("protocol_vectors.json") if vector["protocol"] == "epc"]
    assert len(vectors) == 5
    for vector in vectors:
        decoded, wanted = decode(vector["hex"]), vector["decoded"]
        assert decoded.uri == wanted["pure"]
        assert wanted["tag_uri"].startswith(f"urn:epc:tag:{decoded.scheme}:{decoded.filter}.")
        if decoded.gtin:
            assert wanted["gs1"] == f"(01){decoded.gtin}(21){decoded.serial}"


def test_the_standard_s_examples() -> None:
    """The two worked examples of the Tag Data Standard, in full."""
    assert decode("3074257bf7194e4000001a85") == Epc(
        hex="3074257BF7194E4000001A85",
        uri="urn:epc:id:sgtin:0614141.812345.6789",
        scheme="sgtin-96",
        gtin="80614141123458",
        serial="6789",
        filter=3,
    )
    long = decode("3674257BF6B7A659B2C2BF1000000000000000000000000000")
    assert (long.uri, long.serial, long.scheme) == ("urn:epc:id:sgtin:0614141.712345.32a%2Fb", "32a/b", "sgtin-198")


@pytest.mark.parametrize(
    ("bank", "why"),
    [
        ("", "hex"),
        ("3", "hex"),
        ("30G4257BF7194E4000001A85", "hex"),
        ("3074 257BF7194E4000001A8", "hex"),
        ("+074257BF7194E4000001A85", "hex"),
        ("3074257BF7194E4000001A8", "hex"),  # odd
        ("30" * 400, "hex"),  # longer than any bank
        ("3074257BF7194E4000001A", "96 bits"),  # short
        ("3074257BF7194E4000001A850001", "96 bits"),  # more than padding
        ("3674257BF6B7A659B2C2BF10", "198 bits"),
        ("303C257BF7194E4000001A85", "partition 7"),
        (sgtin(5, 10_000_000, 1, 1), "too many digits"),
        (sgtin(5, 1, 1_000_000, 1), "too many digits"),
        (sgtin(0, 10**12, 1, 1), "too many digits"),
        (sgtin(5, 614141, 1, 0, bits=198), "serial"),  # empty
        (sgtin(5, 614141, 1, (0x41 << 133) | (0x42 << 119), bits=198), "serial"),  # NUL inside
        (sgtin(5, 614141, 1, 0x23 << 133, bits=198), "serial"),  # '#' is none of the 82
        (sgtin(5, 614141, 1, 0x20 << 133, bits=198), "serial"),
        ("F7" + "0" * 22, "header F7"),  # SGTIN+ of TDS 2
        ("E28011700000021B2F6F85F0", "header E2"),
        ("000000000000000000000000", "header 00"),
        ("3138257BF4499602D2000000", "header 31"),  # SSCC, prefix too large
        ("313C257BF4499602D2000000", "header 31"),  # SSCC, partition 7
        ("3174257BF4499602D20000", "as long as"),
    ],
)
def test_what_is_no_epc_is_said_and_not_guessed(bank: str, why: str) -> None:
    """No URI, no GTIN, and a reason that a person understands."""
    decoded = decode(bank)
    assert (decoded.uri, decoded.gtin, decoded.serial) == (None, None, None)
    assert why in str(decoded.reason)


def test_the_toggle_bit_means_no_epc() -> None:
    """A PC word with bit 0100 marks an ISO application's bank, whatever its bits look like."""
    assert decode("3074257BF7194E4000001A85", "3000").uri
    assert decode("3074257BF7194E4000001A85", "3100").uri is None
    assert "ISO" in str(decode("3074257BF7194E4000001A85", "31A5").reason)
    assert decode("3074257BF7194E4000001A85", "wxyz").uri  # a reader's nonsense is no reason to lose the tag


def test_padding_after_the_scheme_is_no_fault() -> None:
    """Tags with longer banks are padded with zeros."""
    assert decode("3074257BF7194E4000001A85" + "00000000").uri == "urn:epc:id:sgtin:0614141.812345.6789"


@pytest.mark.parametrize(
    ("bank", "ignored"),
    [("", True), ("0000", True), ("0" * 24, True), ("E2801170000002", True), ("e20000172211", True), ("3000", False),
     ("000000000000000000000313", False), ("E30011", False)],
)  # fmt: skip
def test_empty_and_factory_epcs_are_ignored(bank: str, ignored: bool) -> None:
    """All zero and chip makers' EPCs name nothing, unless the shop says otherwise."""
    assert is_ignored(bank) is ignored
    assert is_ignored(bank, ()) is (not bank.strip("0"))


@given(st.data())
def test_every_sgtin_comes_back(draw: st.DataObject) -> None:
    """Company, item, serial and filter survive for every partition, and the GTIN's check digit is right."""
    partition = draw.draw(st.integers(0, 6))
    company_digits = PARTITIONS[partition][1]
    company = draw.draw(st.integers(0, 10**company_digits - 1))
    item = draw.draw(st.integers(0, 10 ** (13 - company_digits) - 1))
    serial, filter_ = draw.draw(st.integers(0, 2**38 - 1)), draw.draw(st.integers(0, 7))
    decoded = decode(sgtin(partition, company, item, serial, filter_))
    reference = f"{item:0{13 - company_digits}d}"
    assert decoded.uri == f"urn:epc:id:sgtin:{company:0{company_digits}d}.{reference}.{serial}"
    assert decoded.filter == filter_
    assert decoded.gtin is not None
    assert decoded.gtin[:13] == f"{reference[0]}{company:0{company_digits}d}{reference[1:]}"
    assert sum(int(digit) * (3, 1)[at % 2] for at, digit in enumerate(decoded.gtin)) % 10 == 0


@given(st.text(alphabet="!\"%&'()*+,-./0123456789:;<=>?ABCXYZ_abcxyz", min_size=1, max_size=20))
def test_every_long_serial_comes_back(serial: str) -> None:
    """SGTIN-198: the serial as characters, and escaped in the URI."""
    packed = 0
    for character in serial.ljust(20, "\0"):
        packed = packed << 7 | ord(character)
    decoded = decode(sgtin(5, 614141, 712345, packed, bits=198))
    assert decoded.serial == serial
    assert not set('"&/<>?') & set(str(decoded.uri).rpartition(".")[2] if "." not in serial else "")


@given(
    st.integers(0x2C, 0x41) | st.integers(0, 255), st.binary(min_size=11, max_size=30), st.none() | st.text(max_size=6)
)
def test_no_bank_raises(header: int, rest: bytes, pc: str | None) -> None:
    """Any bytes are an answer: a URI or a reason, never both, never neither."""
    decoded = decode(f"{header:02x}{rest.hex()}", pc)
    assert (decoded.uri is None) is (decoded.reason is not None)


def test_it_is_fast_and_its_memory_bounded() -> None:
    """At least half of 50,000 new EPCs a second on a busy machine (the bench measures); the cache has a lid."""
    banks = [sgtin(5, 614141, 812345, serial) for serial in range(5_000)]
    decode(banks[0])
    start = time.process_time()
    for bank in banks:
        decode(bank)
    assert len(banks) / (time.process_time() - start) > 25_000
    for serial in range(epc.CACHED + 500):
        decode(sgtin(5, 614141, 1, serial))
    assert epc._decode.cache_info().currsize <= epc.CACHED
