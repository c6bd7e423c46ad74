"""Numbers in text: where a value may be spelled, and how to misspell a number without moving a byte. Pure.

The text is anything a provider answers: CSV, JSON, JavaScript, in any encoding in which digits are ASCII characters.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from math import isfinite
from typing import Final

import numpy as np
import numpy.typing as npt

_NUMBER: Final = re.compile(rb"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_SEPARATOR: Final = rb"(?:[.,' ]|\xc2?\xa0)?"  # what people group thousands with
_END: Final = rb"(?!\d)(?!\.\d)(?![eE][-+]?\d)"
_FLOAT32: Final = 5e-7  # relative; a price that went through a float32 is off by less
_POWERS: Final = tuple(10.0**power for power in (-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6))
_DATES: Final = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y.%m.%d", "%d.%m.%Y")
_WIDE: Final = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
# A whole number changes in its last digit, a fraction in one that a float32 still tells apart.
_WHOLE_DIGITS, _FRACTION_DIGITS = 12, 4
_SHOWN: Final = 48  # characters of context on each side


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """A number in a text: first character and the one after the last."""

    start: int
    end: int


class Text:
    """A body as text, one byte per character, in which numbers are found and misspelt.

    Args:
        body: As it was archived; UTF-16 and UTF-32 are recognised by their zero bytes.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._encoding = _wide(body)
        self._text = body.decode(self._encoding) if self._encoding else ""
        self.chars = self._text.encode("latin-1", "replace") if self._encoding else body

    def spelled(self, value: float) -> list[Token]:
        """Where exactly this number stands, zeros before and behind it aside."""
        whole, fraction = _digits(value)
        lead = rb"(?<![\d.])0*" + whole if whole else rb"(?<![\d.])0*"
        tail = rb"\." + fraction + rb"0*" if fraction else rb"(?:\.0*)?" if whole else rb"0(?:\.0*)?"
        return self._found(lead + tail + _END)

    def grouped(self, value: float) -> list[Token]:
        """Where it stands with thousands set apart, or with a decimal comma."""
        whole, fraction = _digits(value)
        first = len(whole) % 3
        groups = [whole[:first]] * bool(first) + [whole[at : at + 3] for at in range(first, len(whole), 3)]
        lead = rb"(?<![\d.,])" + (_SEPARATOR.join(groups) or rb"0?")
        tail = rb"[.,]" + fraction + rb"0*" if fraction else rb"(?:[.,]0*)?"
        return self._found(lead + tail + rb"(?!\d)")

    def near(self, value: float) -> list[Token]:
        """Numbers that are the value but for the noise of a float32."""
        return self._valued(np.abs(self._values - value) <= _FLOAT32 * abs(value))

    def scaled(self, value: float) -> list[Token]:
        """Numbers that are the value in another power of ten."""
        hits = [np.abs(self._values - value * power) <= _FLOAT32 * abs(value * power) for power in _POWERS]
        return self._valued(np.logical_or.reduce(hits))

    def numbers(self) -> list[Token]:
        """Every number."""
        return list(self._tokens)

    def ratios(self, besides: Iterable[float]) -> list[Token]:
        """Numbers that can be terms of a ratio: neither 0 nor 1, of moderate size, and none of `besides`."""
        others = np.sort(np.fromiter((value for value in besides if isfinite(value)), float).astype(np.float32))
        magnitude = np.abs(self._values)
        moderate = (magnitude >= 1e-4) & (magnitude <= 1e4) & (magnitude != 1)
        return self._valued(moderate & ~np.isin(self._values.astype(np.float32), others))

    def beside(self, token: Token, reach: int = 2) -> list[Token]:
        """The numbers around one of `numbers`."""
        at = self._tokens.index(token)
        return [other for other in self._tokens[max(at - reach, 0) : at + reach + 1] if other != token]

    def dated(self, day: date) -> list[Token]:
        """Where a date may stand: as text, or as the seconds or milliseconds of an instant on it, in any zone."""
        texts = {day.strftime(form).encode() for form in _DATES}
        found = self._found(rb"(?<!\d)(?:" + b"|".join(map(re.escape, sorted(texts))) + rb")(?=\D|\d{6}\D|$)")
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        first, last = ((midnight + timedelta(hours=hours)).timestamp() for hours in (-14, 38))
        values = self._values
        stamps = ((values >= first) & (values <= last)) | ((values >= first * 1e3) & (values <= last * 1e3))
        return found + self._valued(stamps)

    def misspelt(self, tokens: Collection[Token], *, dates: bool = False) -> bytes:
        """The body with another number (or date) in some places, every other byte where it was."""
        other = another_day if dates else misspelt
        edited = bytearray(self.chars)
        for token in tokens:
            edited[token.start : token.end] = other(self.chars[token.start : token.end])
        if not self._encoding:
            return bytes(edited)
        pieces, last = [], 0
        for token in sorted(tokens):
            pieces += [self._text[last : token.start], edited[token.start : token.end].decode("latin-1")]
            last = token.end
        return "".join([*pieces, self._text[last:]]).encode(self._encoding)

    def written(self, token: Token) -> str:
        """A number as it stands there."""
        return self.chars[token.start : token.end].decode("latin-1")

    def offset(self, token: Token) -> tuple[int, int]:
        """First byte in the body, and length in bytes."""
        if not self._encoding:
            return token.start, token.end - token.start
        start = len(self._text[: token.start].encode(self._encoding))
        return start, len(self._text[token.start : token.end].encode(self._encoding))

    def line(self, token: Token) -> int:
        """Line of the text, from 1."""
        return self.chars.count(b"\n", 0, token.start) + 1

    def context(self, token: Token) -> str:
        """What stands around it, on one line, the number between guillemets."""
        before, after = max(token.start - _SHOWN, 0), token.end + _SHOWN
        parts = ((before, token.start), (token.start, token.end), (token.end, after))
        shown = [self._text[a:b] if self._encoding else self.chars[a:b].decode("utf-8", "replace") for a, b in parts]
        head, number, tail = (part.replace("\r", "").replace("\n", "⏎") for part in shown)
        return f"{'…' if before else ''}{head}«{number}»{tail}{'…' if after < len(self.chars) else ''}"

    def _found(self, pattern: bytes) -> list[Token]:
        return [Token(*match.span()) for match in re.finditer(pattern, self.chars)]

    def _valued(self, mask: npt.NDArray[np.bool_]) -> list[Token]:
        return [self._tokens[at] for at in np.flatnonzero(mask)]

    @cached_property
    def _tokens(self) -> list[Token]:
        return [Token(*match.span()) for match in _NUMBER.finditer(self.chars)]

    @cached_property
    def _values(self) -> npt.NDArray[np.float64]:
        return np.array([float(self.chars[token.start : token.end]) for token in self._tokens], dtype=np.float64)


def misspelt(number: bytes) -> bytes:
    """Another number of the same length: one digit differs, far enough to the left to survive rounding.

    >>> misspelt(b"18250"), misspelt(b"38.97999954"), misspelt(b"0.0")
    (b'18251', b'38.98999954', b'0.1')
    """
    mantissa = re.split(rb"[eE]", number)[0]
    digits = [at for at, sign in enumerate(mantissa) if sign in b"0123456789"]
    significant = [at for at in digits if mantissa[: at + 1].strip(b"+-0.,")]
    reach = _FRACTION_DIGITS if re.search(rb"\.\d|,\d{1,2}$", mantissa) else _WHOLE_DIGITS
    return _stepped(number, significant[min(len(significant), reach) - 1] if significant else digits[-1])


def another_day(moment: bytes) -> bytes:
    """Another date of the same length: a weekend of the same month, on which no other row can stand, if it can be told.

    >>> another_day(b"2024-01-31"), another_day(b"31/01/2024"), another_day(b"1704128400")
    (b'2024-01-27', b'30/01/2024', b'1704560400')
    """
    if moment.isdigit() and len(moment) > len("20240131"):
        unit = 1 if len(moment) <= len("1704128400") else 1_000
        return str(int(moment) + 86_400 * unit * _to_weekend(date(1970, 1, 1), int(moment) // unit // 86_400)).encode()
    digits = [at for at, sign in enumerate(moment) if sign in b"0123456789"]

    def number(places: Sequence[int]) -> int:
        return int(bytes(moment[at] for at in places))

    if moment[:4].isdigit():
        pair = digits[6:8]
        first = date(number(digits[:4]), number(digits[4:6]), 1)
        other = number(pair) + _to_weekend(first, number(pair) - 1)
        while not 1 <= other <= monthrange(first.year, first.month)[1]:
            other += 7 if other < 1 else -7
    else:  # With the year last, what exceeds 12 is the day; where nothing does, any month has the other.
        pair = next((pair for pair in (digits[2:4], digits[:2]) if number(pair) > 12), digits[:2])
        other = number(pair) - 1 or 2
    edited = bytearray(moment)
    for at, sign in zip(pair, f"{other:02}".encode(), strict=True):
        edited[at] = sign
    return bytes(edited)


def _to_weekend(first: date, days: int) -> int:
    """Days from a day to the next Saturday, from a Saturday to its Sunday."""
    weekday = (first + timedelta(days=days)).weekday()
    return 1 if weekday == 5 else (5 - weekday) % 7


def _stepped(number: bytes, at: int) -> bytes:
    """One digit another one; never a new zero in front."""
    digit = number[at] - ord("0")
    return number[:at] + str(digit - 1 if digit == 9 else digit + 1).encode() + number[at + 1 :]


def _digits(value: float) -> tuple[bytes, bytes]:
    """Digits before and behind the decimal point, without outer zeros."""
    whole, _, fraction = f"{abs(Decimal(repr(float(value)))):f}".partition(".")
    return whole.lstrip("0").encode(), fraction.rstrip("0").encode()


def _wide(body: bytes) -> str | None:
    """The encoding of a text with several bytes per digit."""
    if b"\x00" not in body[:4096]:
        return None
    for encoding in _WIDE:
        try:
            text = body[: 4096 // 4 * 4].decode(encoding)
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                continue
            text = body[: error.start].decode(encoding)
        if text and "\x00" not in text and sum(sign.isascii() for sign in text) * 2 > len(text):
            return encoding
    return None
