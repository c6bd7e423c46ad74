"""Recorded answers as payloads: each goes to the parser of the provider whose host the index says it came from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from tests.provider_kit import NOW
from vprism_pipelines.providers.base import Payload, Request

# Hosts by the end of their name, old ones and mirrors included.
HOSTS: Mapping[str, str] = {
    "yahoo.com": "yahoo",
    "alphavantage.co": "alpha_vantage",
    "quandl.com": "nasdaq_data_link",
    "data.nasdaq.com": "nasdaq_data_link",
    "gtimg.cn": "tencent",
    "finance.qq.com": "tencent",
    "eastmoney.com": "eastmoney",
    "sinajs.cn": "sina",
    "sina.com.cn": "sina",
    "sina.cn": "sina",
    "kbsec.com.vn": "kbs",
    "vietcap.com.vn": "vci",
    "tcbs.com.vn": "tcbs",
    "vndirect.com.vn": "vndirect_finfo",
}
_ROW = re.compile(
    r"\| `(?P<file>[^`]+)` \| `(?P<method>\w+) (?P<endpoint>[^` ]+)[^`]*` \| `(?P<query>[^`]*)` \| (?P<status>\d+)"
)
_SYMBOL = re.compile(r"/(?P<symbol>[A-Z0-9^][A-Z0-9.=^-]*[A-Z][A-Z0-9.=^-]*|[A-Z])(?=/|$)")
_UNSAID = re.compile(r"\?|\.\.|REDACTED|\{")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded answer.

    Attributes:
        name: Folder and file.
        provider: Whose answer it is, by its host.
        endpoint: Host and path.
        query: What was asked, as far as the index says.
        payload: The answer with its request, as the lake would have archived it.
    """

    name: str
    provider: str
    endpoint: str
    query: str
    payload: Payload


def recordings(folder: Path) -> list[Recording]:
    """Every file below `folder`, in order of name; its `INDEX.md` says what was asked.

    A file that the index does not know counts as an answer of its folder's provider to a question nobody remembers.
    """
    rows = {row["file"]: row for row in _ROW.finditer((folder / "INDEX.md").read_text(encoding="utf-8"))}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "INDEX.md")
    names = [path.relative_to(folder).as_posix() for path in files]
    return [_recording(name, rows.get(name), path.read_bytes()) for name, path in zip(names, files, strict=True)]


def _recording(name: str, row: re.Match[str] | None, body: bytes) -> Recording:
    endpoint, query = (row["endpoint"], row["query"].replace("\\|", "|")) if row else ("", "")
    path, _, in_path = endpoint.partition("?")
    host = path.partition("/")[0]
    by_host = [owner for end, owner in HOSTS.items() if host == end or host.endswith(f".{end}")]
    provider = by_host[0] if by_host else re.sub(r"^(cn|vn)_", "", name.partition("/")[0])
    posted = query if query.startswith("{") else None
    told = parse_qsl(f"{in_path}&{query.replace(', ', '&')}")
    params = {} if posted else {name: value for name, value in told if not _UNSAID.search(value)}
    asked = json.loads(posted) if posted else {}
    named = params.get("symbol") or params.get("secid") or params.get("symbols") or asked.get("symbol")
    request = Request(
        provider=provider,
        dataset="bars",
        market="vn" if name.startswith("vn_") else "cn" if name.startswith("cn_") else "us",
        symbol=None,
        provider_symbol=named or next(iter(asked.get("symbols", ())), None) or _in(path, provider),
        start=None,
        end=None,
        method=row["method"] if row else "GET",
        url="" if _UNSAID.search(path) else f"https://{path}",
        params=params,
        body=posted,
    )
    return Recording(name, provider, path, query, Payload(request, int(row["status"]) if row else 200, body, NOW))


def _in(path: str, provider: str) -> str | None:
    """The symbol that a path names; the codes of data sets are their provider's own business."""
    found = None if provider == "nasdaq_data_link" else _SYMBOL.search(path)
    return found["symbol"] if found else None
