"""HTTP message signatures with Ed25519: the base string, the two header fields, and checking them.

Only what the contract needs of RFC 9421: component names without parameters, one signature. The same code signs at the
gateway and checks at the platform. Knows no connection.

*Source*: RFC 9421 §2.2, §2.3, §2.5, §3.3.6.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LABEL = "gateway"
_INPUT = re.compile(r'([a-z*][a-z0-9_.*-]*)=(\(((?:"[a-z@][a-z0-9-]*" ?)*)\)((?:;[a-z]+=(?:"[^"\\]*"|\d+))*))')
_PARAMETER = re.compile(r';([a-z]+)=(?:"([^"\\]*)"|(\d+))')

COVERED_BODY = ("@method", "@target-uri", "content-digest", "content-type", "sync-range")
COVERED_BARE = ("@method", "@target-uri")


def signature_base(covered: Sequence[str], parameters: str, method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """The bytes that are signed (§2.5).

    Args:
        covered: component names in order.
        parameters: the value of `@signature-params`.
        method: request method.
        url: the absolute target URI.
        headers: field values by lower-case name.

    Raises:
        KeyError: a covered field is not in `headers`.
    """
    parts = urlsplit(url)
    derived = {
        "@method": method,
        "@target-uri": url,
        "@path": parts.path or "/",
        "@authority": _authority(parts.scheme, parts.netloc),
    }
    lines = [f'"{name}": {derived[name] if name in derived else headers[name].strip()}' for name in covered]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode()


def sign(
    key: Ed25519PrivateKey, key_id: str, created_s: int, method: str, url: str, headers: Mapping[str, str]
) -> dict[str, str]:
    """`signature-input` and `signature` for a request; covers what of the contract's fields it has."""
    wanted = COVERED_BODY if "content-digest" in headers else COVERED_BARE
    covered = [name for name in wanted if name.startswith("@") or name in headers]
    names = " ".join(f'"{name}"' for name in covered)
    parameters = f'({names});created={created_s};keyid="{key_id}";alg="ed25519"'
    signature = key.sign(signature_base(covered, parameters, method, url, headers))
    return {
        "signature-input": f"{_LABEL}={parameters}",
        "signature": f"{_LABEL}=:{b64encode(signature).decode()}:",
    }


def verify(
    keys: Mapping[str, Ed25519PublicKey], now_s: float, method: str, url: str, headers: Mapping[str, str],
    *, skew_s: float = 300.0,
) -> str | None:  # fmt: skip
    """The key id of whoever signed this; None when the signature is missing, wrong, old or covers too little."""
    match = _INPUT.fullmatch(headers.get("signature-input", "").strip())
    if match is None:
        return None
    label, parameters, names, tail = match.groups()
    covered = re.findall(r'"([^"]+)"', names)
    facts: dict[str, str] = {name: text or number for name, text, number in _PARAMETER.findall(tail)}
    key = keys.get(facts.get("keyid", ""))
    needed = COVERED_BODY[:3] if "content-digest" in headers else COVERED_BARE
    if key is None or len(set(covered)) != len(covered) or not set(needed) <= set(covered):
        return None
    if facts.get("alg", "ed25519") != "ed25519" or abs(now_s - int(facts.get("created") or 0)) > skew_s:
        return None
    value = re.fullmatch(re.escape(label) + r"=:([A-Za-z0-9+/=]+):", headers.get("signature", "").strip())
    if value is None:
        return None
    try:
        key.verify(b64decode(value[1]), signature_base(covered, parameters, method, url, headers))
    except (InvalidSignature, KeyError, ValueError):
        return None
    return facts["keyid"]


def _authority(scheme: str, netloc: str) -> str:
    authority = netloc.rpartition("@")[2].lower()
    return authority.removesuffix({"http": ":80", "https": ":443"}.get(scheme, "\0"))
