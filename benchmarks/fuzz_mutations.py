"""Damage to sound answers, from a generator of random numbers: of bytes, of numbers in text, of JSON by its structure.

Every way is something that happened to somebody: cut and doubled bodies, other encodings, `NaN` from a careless
encoder, numbers as text and text as numbers, keys that vanish or come twice, lists that grow, nesting without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["damaged"]

_LONGEST = 1 << 20
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WRAPPED = re.compile(rb"^(?P<before>[^\[{]*)(?P<inner>[\[{].*[\]}])(?P<after>[^\]}]*)$", re.DOTALL)

_TOKENS = (
    b"", b"null", b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"true", b"1e999", b"-1e308", b"5e-324", b"-1", b"0",
    b"-0.0", b"00", b"0x1F", b"1_000", b"1,000", b"1.000,5", b"--", b"-", b"None", b"N/A", b"9" * 400, b"[]", b"{}",
    b'"', b"'", b",", b";", b"~", b"\n", b"\r\n", b"\t", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xa3\xa4", b"\\ud800",
    b"\\u0000", b"<html>", b"*/", b"/*", b"(", b")", b"2024-02-30", b"0000-00-00", b"9999-12-31", b"20240131", b"=1+1",
    "\u0661".encode(), "\u2212".encode(), b"%s", b"..", b"1e5", b"1E+05",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 10**30, 10**400, -(2**63), 2**63, 0.1,
    "", " ", "-", "NaN", "inf", "null", "0", "1e400", "2024-01-02", "2024-02-30", "9999-12-31", "1700000000", "\x00",
    "\ud800", "x" * 5000, "1" * 5000, "\u0661\u0662", [], {}, [None], [[]], {"": None}, [1, "a", None], {"raw": 1},
)  # fmt: skip
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "gb18030", "latin-1", "utf-8-sig", "utf-7")


def damaged(body: bytes, random: Random) -> bytes:
    """One to four kinds of damage done to a body, a mebibyte at most. The same generator gives the same bytes.

    Args:
        body: A sound answer.
        random: Where the choices come from.
    """
    ways = _JSON_WAYS if _WRAPPED.match(body) and random.random() < 0.6 else _WAYS
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        body = random.choice(ways)(body, random)[:_LONGEST]
    return body


# --- bytes -----------------------------------------------------------------------------------------------------------


def _flip(body: bytes, random: Random) -> bytes:
    changed = bytearray(body)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(body: bytes, random: Random) -> bytes:
    start, end = _slice(body, random)
    return random.choice((body[:start], body[start:], body[:start] + body[end:]))


def _repeat(body: bytes, random: Random) -> bytes:
    start, end = _slice(body, random)
    times = min(random.choice((1, 1, 2, 1000)), _LONGEST // max(1, end - start))
    return body[:end] + body[start:end] * times + body[end:]


def _insert(body: bytes, random: Random) -> bytes:
    at = random.randint(0, len(body))
    until = at + random.choice((0, 0, 1, 4, 20))
    return body[:at] + random.choice(_TOKENS) + body[until:]


def _number(body: bytes, random: Random) -> bytes:
    """Another token where a number stood: the way most broken cells come about."""
    found = list(_NUMBER.finditer(body[:200_000]))
    if not found:
        return _insert(body, random)
    place = random.choice(found)
    return body[: place.start()] + random.choice(_TOKENS) + body[place.end() :]


def _swap(body: bytes, random: Random) -> bytes:
    (a, b), (c, d) = sorted((_slice(body, random), _slice(body, random)))
    return body[:a] + body[c:d] + body[b:c] + body[a:b] + body[d:] if b <= c else body


def _recode(body: bytes, random: Random) -> bytes:
    return body.decode("utf-8", "replace").encode(random.choice(_ENCODINGS), "replace")


def _shuffle_lines(body: bytes, random: Random) -> bytes:
    lines = body.split(b"\n")
    random.shuffle(lines)
    return b"\n".join(lines)


def _slice(body: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(body))
    return start, min(len(body), start + random.choice((1, 8, 40, 400, len(body))))


# --- JSON by its structure -------------------------------------------------------------------------------------------


def _structure(body: bytes, random: Random) -> bytes:
    """One node of the document replaced, dropped, renamed, doubled, wrapped or grown."""
    found = _WRAPPED.match(body)
    if found is None:
        return _insert(body, random)
    try:
        holder = [json.loads(found["inner"].decode("utf-8", "replace"))]
    except (ValueError, RecursionError):
        return _flip(body, random)
    parent, key = _node(holder, random)
    _change(parent, key, random)
    try:
        inner = json.dumps(holder[0] if holder else None, ensure_ascii=random.random() < 0.5)
    except (ValueError, RecursionError):
        return body
    return found["before"] + inner.encode("utf-8", "surrogatepass") + found["after"]


def _change(parent: Any, key: Any, random: Random) -> None:
    node = parent[key]
    match random.randrange(8):
        case 0 | 1:
            parent[key] = random.choice(_VALUES)
        case 2:
            del parent[key]
        case 3 if isinstance(parent, dict):
            parent[random.choice(("", "x", key.upper(), f" {key}", f"{key}\u200b"))] = parent.pop(key)
        case 3 | 4:
            parent[key] = random.choice(([node], {"a": node}, str(node)[:1000], [node] * random.choice((2, 50))))
        case 5:
            for _ in range(random.choice((3, 99, 101, 400))):
                node = [node]
            parent[key] = node
        case 6 if isinstance(node, list) and node:
            random.choice((random.shuffle, lambda many: many.extend(many * 3), lambda many: many.pop()))(node)
        case 6 | 7:
            scale = random.choice((-1, 0, 1e9, 1e-9, 100, 10**20))
            numeric = isinstance(node, int | float) and not isinstance(node, bool) and abs(node) < 1e200
            parent[key] = node * scale if numeric else random.choice(_VALUES)


def _node(holder: list[Any], random: Random) -> tuple[Any, Any]:
    """A container and a place in it, found by walking down at random."""
    parent: Any = holder
    key: Any = 0
    while True:
        node = parent[key]
        if not isinstance(node, dict | list) or not node or random.random() < 0.15:
            return parent, key
        parent, key = node, random.choice(list(node)) if isinstance(node, dict) else random.randrange(len(node))


def _twice(body: bytes, random: Random) -> bytes:
    """A key with its value, once more: what no encoder writes and every parser reads its own way."""
    found = list(re.finditer(rb'"[^"\\]{1,40}"\s*:\s*(?:"[^"]{0,40}"|-?[\d.]+|null|true)', body[:200_000]))
    if not found:
        return _insert(body, random)
    place = random.choice(found)
    return body[: place.end()] + b"," + place.group() + body[place.end() :]


def _deep(body: bytes, random: Random) -> bytes:
    levels = random.choice((90, 120, 3000, 100_000))
    opened, closed = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return opened * levels + random.choice((body[:1000], b"1")) + closed * random.choice((levels, 0))


_Way = Callable[[bytes, Random], bytes]
_WAYS: tuple[_Way, ...] = (_flip, _cut, _repeat, _insert, _insert, _number, _number, _swap, _recode, _shuffle_lines)
_JSON_WAYS: tuple[_Way, ...] = (*(_structure,) * 12, *(_number,) * 3, _twice, _twice, _deep)
