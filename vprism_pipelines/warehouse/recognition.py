"""Which files say what was said before: equal bytes under an equal mapping, and nothing else said since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vprism_pipelines.errors import VprismError
from vprism_pipelines.providers import files
from vprism_pipelines.providers.base import Payload, Request
from vprism_pipelines.warehouse.house import House

Key = tuple[str, str, str]
"""What makes files equal: their bytes (sha256), their mapping, and their name where the mapping reads it."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """Some files, held against what their provider said before them.

    Attributes:
        said: fetch_id and key of its pulls in order of their instants, from the oldest that equals one of the files.
        files: fetch_id and key of the files, in the order in which they are read.
        ahead: Keys of the files that the same command reads after them.
        taken: Pulls that the same command made before them.
    """

    said: Sequence[tuple[str, Key]]
    files: Sequence[tuple[str, Key]]
    ahead: Collection[Key]
    taken: Collection[str]

    def known(self, refused: Collection[str] = ()) -> dict[str, str]:
        """For each file the pull that says the same and still stands: an earlier one, or its own.

        A pull stands until its provider says something else: a correction taken back is news. Only what the command
        itself is about to say again is no reason to read a file once more, so that a command that is repeated, after a
        crash or by mistake, recognises what was taken. Nor is a refused file.
        """
        ids = [fetch_id for fetch_id, _ in self.said]
        places = {key: place for place, (_, key) in enumerate(self.said)}
        left = Counter([*self.ahead, *(key for _, key in self.files)])
        settled = (n for n, (fetch_id, key) in enumerate(self.said) if fetch_id in self.taken or key not in left)
        newest = max(settled, default=0)  # of the pulls that stand for good: whatever is older is overruled
        known = {}
        for fetch_id, key in self.files:
            left[key] -= 1
            place = places.get(key, -1)
            news = place < newest
            if news:
                place = places[key] = len(ids)
                ids.append(fetch_id)
            known[fetch_id] = ids[place]
            if (news or not left[key]) and ids[place] not in refused:
                newest = max(newest, place)
        return known


class Recogniser:
    """Recognises the files of one command.

    Args:
        house: The installation.
        mappings: All files of the command and what they mean.
        known_at: Since when their content is known, as the command says; None: now.
    """

    def __init__(self, house: House, mappings: Mapping[Path, files.Mapping], known_at: datetime | None) -> None:
        self._house = house
        self._mappings = mappings
        self._known_at = known_at
        meanings = {id(mapping): mapping for mapping in mappings.values()}.values()
        self._reads_name = {mapping.to_json(): mapping.reads_file_name for mapping in meanings}
        self._later: dict[Path, Key | None] = {}  # each file is read for it once, and only where a pull equals one

    def hold(self, payloads: Mapping[Path, Payload], ahead: Iterable[Path], taken: Collection[str]) -> Recognition:
        """Hold files of one market and provider against the archive.

        Args:
            payloads: The files, in the order in which they are read.
            ahead: Files of that provider that the command reads after them.
            taken: Pulls that the command made before them.
        """
        found = [(payload.fetch_id, self._key(payload.request)) for payload in payloads.values()]
        said = self._said(next(iter(payloads.values())), [sha256 for _, (sha256, _, _) in found])
        later = {key for path in ahead if (key := self._key_of(path))} if said else set()
        return Recognition(said, found, later, taken)

    def _said(self, first: Payload, sha256s: Sequence[str]) -> list[tuple[str, Key]]:
        """Pulls of the provider up to the instant, from the oldest with some of these bytes on."""
        if not self._house.warehouse.path.exists():
            return []
        mappings = list(self._reads_name)
        with self._house.warehouse.connect() as connection:
            rows = connection.execute(
                """WITH said AS (
                       SELECT fetch_id, fetched_at, sha256, request->>'$.url' AS url,
                              list_position($mappings, request->>'$.params.mapping') AS mapping
                       FROM raw.fetches
                       WHERE provider = $provider AND market = $market AND error_code IS NULL
                         AND ($known_at IS NULL OR fetched_at <= $known_at))
                   SELECT fetch_id, sha256, mapping, url FROM said
                   WHERE fetched_at >= (SELECT min(fetched_at) FROM said WHERE list_contains($sha256s, sha256))
                   ORDER BY fetched_at, fetch_id""",
                {
                    "mappings": mappings,
                    "provider": first.request.provider,
                    "market": first.request.market,
                    "known_at": self._known_at,
                    "sha256s": list(sha256s),
                },
            ).fetchall()
        return [
            (fetch_id, self._equal(sha256, mappings[mapping - 1] if mapping else "", url))
            for fetch_id, sha256, mapping, url in rows
        ]

    def _key_of(self, path: Path) -> Key | None:
        """The key of a file that is read later; None: it will not be."""
        if path not in self._later:
            self._later[path] = None
            with suppress(VprismError):
                self._later[path] = self._key(files.request(path, self._mappings[path]))
        return self._later[path]

    def _key(self, request: Request) -> Key:
        return self._equal(request.params["sha256"], request.params["mapping"], request.url)

    def _equal(self, sha256: str, mapping: str, url: str) -> Key:
        return sha256, mapping, url if self._reads_name.get(mapping) else ""
