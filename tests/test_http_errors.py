"""What a parser can rely on: after its first two lines it holds sound data, or the right error was raised."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import (
    AuthRequired,
    Blocked,
    Malformed,
    NotFound,
    PremiumRequired,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Retired,
    Unavailable,
)
from vprism_pipelines.providers.base import Payload, Request
from vprism_pipelines.providers.http_errors import (
    MAX_DEPTH,
    MAX_JSON_BYTES,
    REASON_HEADER,
    load_json,
    raise_for_payload,
    retry_after,
)
from vprism_pipelines.redaction import REDACTED, redact

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAGE = b"<!DOCTYPE html><html><body>Will be right back...</body></html>"


def payload(body: bytes = b"{}", status: int = 200, error: str | None = None, **headers: str) -> Payload:
    request = Request("yahoo", "bars", "us", "US:STOCK:AAPL", "AAPL", None, None)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Payload(request, status, body, NOW, names, error=error)


def raised(answer: Payload, **options: Any) -> ProviderError | None:
    try:
        raise_for_payload(answer, **options)
    except ProviderError as error:
        return error
    return None


# --- raise_for_payload --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Blocked),
        (400, ProviderError),
        (401, AuthRequired),
        (402, PremiumRequired),
        (403, Blocked),
        (404, NotFound),
        (408, Unavailable),
        (410, Retired),
        (422, ProviderError),
        (429, RateLimited),
        (451, Blocked),
        (456, Blocked),
        (500, Unavailable),
        (501, Unavailable),
        (503, Unavailable),
        (520, Unavailable),
        (700, Malformed),
        (999, Blocked),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[ProviderError]) -> None:
    error = raised(payload(b'{"why": "this"}', status))
    assert type(error) is kind
    assert str(status) in error.message
    assert error.hint
    assert error.context == {
        "provider": "yahoo",
        "dataset": "bars",
        "symbol": "US:STOCK:AAPL",
        "status": status,
        "fetch_id": error.context["fetch_id"],
        "body": '{"why": "this"}',
    }


@given(status=st.integers(0, 1200), body=st.binary(max_size=60) | st.just(PAGE), error=st.none() | st.text(max_size=9))
def test_every_payload_either_passes_or_ends_in_a_provider_error(status: int, body: bytes, error: str | None) -> None:
    answer = payload(body, status, error)
    passed = raised(answer) is None
    assert passed <= (200 <= status < 300)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", Unavailable),
        ("BLOCKED", Blocked),
        ("MALFORMED", Malformed),
        ("RATE_LIMITED", RateLimited),
        ("QUOTA_EXHAUSTED", QuotaExhausted),
        ("SOMETHING_NEW", Unavailable),
    ],
)
def test_what_the_transport_says_is_raised_with_its_reason(code: str, kind: type[ProviderError]) -> None:
    error = raised(payload(b"", 0, code, x_vprism_reason="the cable was cut"))
    assert type(error) is kind
    assert error.message == "yahoo: the cable was cut"
    assert REASON_HEADER == "x-vprism-reason"


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b" \r\n\t", b"<!-- cached -->", b'<?xml version="1.0"?>'])
@pytest.mark.parametrize("status", [200, 400, 403])
def test_a_web_page_is_a_block_and_never_data(start: bytes, status: int) -> None:
    assert type(raised(payload(start + PAGE, status, content_type="application/json"))) is Blocked


def test_json_sent_as_html_is_data() -> None:
    assert raised(payload(b'{"a": 1}', content_type="text/html; charset=GBK")) is None


@pytest.mark.parametrize("status", [200, 403, 429, 503])
@pytest.mark.parametrize("words", [b"Error 1015", b"error code: 1015", b"<h1>Error <span>1015</span></h1>"])
def test_cloudflares_rate_limit_page_is_a_rate_limit(status: int, words: bytes) -> None:
    assert type(raised(payload(PAGE.replace(b"Will", words), status))) is RateLimited


@pytest.mark.parametrize("body", [b"", b"  \n", b"\xef\xbb\xbf", b" " * 5000])
def test_nothing_is_not_an_answer(body: bytes) -> None:
    assert type(raised(payload(body))) is Malformed


def test_statuses_that_a_parser_handles_pass_unless_their_body_says_nothing() -> None:
    assert raised(payload(b'{"error": "Data doesn\'t exist"}', 400), handled=(400, 404)) is None
    assert type(raised(payload(b'{"error": "x"}', 500), handled=(400, 404))) is Unavailable
    assert type(raised(payload(b"", 404), handled=(400, 404))) is NotFound
    assert type(raised(payload(PAGE, 404), handled=(400, 404))) is NotFound
    assert type(raised(payload(PAGE, 400), handled=(400, 404))) is Blocked


# --- retry_after --------------------------------------------------------------------------------------------------


@given(seconds=st.integers(0, 10_000_000))
def test_retry_after_reads_seconds_and_dates_alike(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after({"retry-after": str(seconds)}, NOW) == seconds
    assert retry_after({"retry-after": date}, NOW) == seconds
    error = raised(payload(b"", 429, retry_after=date))
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


@given(text=st.text(max_size=40))
def test_retry_after_is_a_sane_number_or_nothing(text: str) -> None:
    seconds = retry_after({"retry-after": text}, NOW)
    assert seconds is None or 0 <= seconds <= 366 * 86_400


# --- load_json ----------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON, ascii_only=st.booleans(), bom=st.booleans())
def test_sound_json_is_read_as_it_is(value: Any, ascii_only: bool, bom: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert load_json(payload(b"\xef\xbb\xbf" * bom + text.encode())) == value


@settings(max_examples=200)
@given(body=st.binary(max_size=80) | st.text(alphabet='[]{}",:0eE+-.NaInfity\\u d8', max_size=40).map(str.encode))
def test_anything_else_is_malformed_and_nothing_worse(body: bytes) -> None:
    try:
        value = load_json(payload(body))
    except Malformed:
        return
    assert all(math.isfinite(number) for number in _numbers(value))
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return [number for child in children for number in _numbers(child)]
    return [float(value)] if isinstance(value, float) else []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"close": NaN}', "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 400 + b".0]", "too large"),
        (b"[" + b"9" * 5000 + b"]", "4300"),
        (b'{"a": {"t": 1, "c": 2, "t": 1}}', "'t' is there twice"),
        (b'["\\ud83d"]', "surrogates"),
        (b'{"a": 1} {"b": 2}', "Extra data"),
        (b"callback([1])", "Expecting value"),
        ("[1]".encode("utf-16"), "decode"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "levels deep"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "levels deep"),
        (b"[1," * 20_000 + b"1" + b"]" * 20_000, "levels deep"),
        (b"[" * (50 << 20), "brackets"),
        (b"[" + b"[]," * 4_100_000 + b"[]]", "brackets"),
        (b'"' + b"x" * MAX_JSON_BYTES + b'"', "bytes of JSON"),
    ],
    ids=range(16),
)
def test_json_that_is_unsound_or_oversized_is_malformed_soon(body: bytes, complaint: str) -> None:
    started = time.monotonic()
    with pytest.raises(Malformed, match=complaint):
        load_json(payload(body))
    assert time.monotonic() - started < 5


def test_json_as_deep_as_allowed_is_read() -> None:
    assert load_json(payload(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH))


def test_wrapped_json_and_other_character_sets_are_read() -> None:
    wrapped = payload('var x={"名": "中国"};'.encode("gbk"))
    assert load_json(wrapped, body=wrapped.body[6:-1], encoding="gbk") == {"名": "中国"}


@pytest.mark.shared
def test_every_recorded_json_answer_is_read_as_the_standard_library_reads_it(shared_fixtures: Path) -> None:
    read = 0
    for path in sorted(shared_fixtures.rglob("*.json")):
        answer = payload(path.read_bytes())
        assert raised(answer) is None, path
        assert load_json(answer) == json.loads(answer.body), path
        read += 1
    assert read > 50


# --- redact -------------------------------------------------------------------------------------------------------

SECRETS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=8, max_size=30)


@given(secret=SECRETS, before=st.text(max_size=10), after=st.text(max_size=10))
def test_no_spelling_of_a_secret_survives(secret: str, before: str, after: str) -> None:
    spellings = (
        secret,
        secret.upper(),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret).lower(),
        "".join(f"%{ord(character):02X}" if not character.isalnum() else character for character in secret),
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
    )
    for spelling in spellings:
        cleaned = redact(f"{before}{spelling}{after}", [secret])
        assert spelling not in cleaned.replace(REDACTED, "")
        assert REDACTED in cleaned
        assert REDACTED.encode() in redact(f"{before}{spelling}{after}".encode(), [secret])


@given(text=st.text(), secret=SECRETS)
def test_what_holds_no_secret_is_not_touched(text: str, secret: str) -> None:
    assume(redact(text, [secret]) == text)
    assert redact(text, []) == redact(text, ["", secret]) == text
    assert redact(text.encode(), [secret]) == text.encode()


def test_the_longest_of_several_secrets_goes_first() -> None:
    assert redact("key=abcdefgh123&k=abcdefgh", ["abcdefgh", "abcdefgh123"]) == "key=REDACTED&k=REDACTED"


def test_a_short_secret_is_not_searched_inside_words() -> None:
    assert redact("apikey=demo; democracy, Demo.", ["demo"]) == "apikey=REDACTED; democracy, REDACTED."


def test_redacting_a_large_body_is_quick() -> None:
    body = b'{"t":[1577975400],"c":[160.62,2.5e3]},' * 800_000
    started = time.monotonic()
    assert redact(body, ["QX7/secret+Key=93zz", "0123456789abcdef"]) == body
    assert time.monotonic() - started < 10
