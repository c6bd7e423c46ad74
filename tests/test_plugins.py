"""Packages add providers and commands; none of them can break the house."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.cli_kit import PROGRAM
from tests.conftest import ROOT
from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.plugins import GROUP, INTERFACE, Entry, Plugin
from vprism_pipelines.providers import installed
from vprism_pipelines.providers.base import Payload
from vprism_pipelines.serving.cli import plugins as commands
from vprism_pipelines.serving.cli.session import application

EXAMPLE = ROOT / "examples" / "plugin"
Install = Callable[..., None]


def distribution(folder: Path, name: str, points: dict[str, str]) -> None:
    """What an installer writes down about a package."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    listed = "\n".join(f"{point} = {where}" for point, where in points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{listed}\n")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module with these lines; the module is the package's name."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    names = []

    def put(name: str, code: str, point: str = "plugin") -> None:
        module = name.replace("-", "_")
        names.append(module)
        (site / f"{module}.py").write_text(f"from vprism_pipelines.plugins import Entry, Plugin\n{code}\n")
        distribution(site, name, {point: f"{module}:plugin"})
        installed.plugins.cache_clear()

    yield put
    for name in names:
        sys.modules.pop(name, None)
    installed.plugins.cache_clear()


def offering(*names: str) -> str:
    entries = ", ".join(f'"{name}": Entry("{name}", "nowhere:Provider", ("us",))' for name in names)
    return f"plugin = Plugin(interface={INTERFACE}, providers={{{entries}}})"


def test_a_provider_is_added_without_loading_its_module(install: Install) -> None:
    install("vprism-one", offering("one"))
    entries, additions = installed.providers(taken=["yahoo"])
    assert entries == {"one": Entry("one", "nowhere:Provider", ("us",), package="")}
    assert additions == [installed.Addition("plugin", "provider", "one")]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (f"plugin = Plugin(interface={INTERFACE + 1})", f"version {INTERFACE + 1} of the interface"),
        ("plugin = {'interface': 1}", "no vprism_pipelines.plugins.Plugin"),
        ("plugin = 1 / 0", "ZeroDivisionError"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("other = 1", "AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_skipped_with_a_warning_and_the_others_stay(
    install: Install, caplog: pytest.LogCaptureFixture, code: str, why: str
) -> None:
    install("vprism-bad", code)
    install("vprism-good", offering("good"))
    entries, _ = installed.providers(taken=[])
    assert list(entries) == ["good"]
    assert "vprism-bad" in caplog.text
    assert why in caplog.text


def test_a_name_that_is_taken_is_skipped_with_a_warning_and_the_rest_of_the_plugin_stays(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("vprism-b", offering("one", "two"), point="second")
    install("vprism-a", offering("yahoo", "one", "No Name"), point="first")
    entries, additions = installed.providers(taken=["yahoo"])
    assert list(entries) == ["one", "two"]  # in the order of the distributions' names, whoever was installed first
    problems = {(item.plugin, item.name): item.problem for item in additions}
    assert problems == {
        ("first", "yahoo"): "there is a provider of that name",
        ("first", "one"): "",
        ("first", "No Name"): "a provider's name is made of lower-case letters, digits and _",
        ("second", "one"): "there is a provider of that name",
        ("second", "two"): "",
    }
    assert caplog.text.count("is skipped") == 3


COMMANDS = """
from vprism_pipelines.serving.cli.session import command, group

def add_to(root):
    command(root, "greet")(greet)
    command(root, "sql")(greet)
    command(group(root, "mine", "A group."), "greet")(greet)

def greet(session):
    '''Say hello.'''

plugin = Plugin(interface=1, commands="{module}:add_to")
"""


def test_commands_are_added_and_a_name_that_is_taken_is_skipped_with_a_warning(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    from vprism_pipelines.serving.cli import sql

    install("vprism-broken", "plugin = Plugin(interface=1, commands='vprism_broken:nothing')")
    install("vprism-greeter", COMMANDS.format(module="vprism_greeter"))
    root = application()
    sql.add_to(root)
    standing = list(root.registered_commands)
    commands.add_commands(root)
    assert [item.name for item in root.registered_commands] == ["sql", "greet"]
    assert root.registered_commands[0] is standing[0]
    assert [item.name for item in root.registered_groups] == ["mine"]
    assert "command sql of plugin plugin is skipped: there is a `vprism sql` already" in caplog.text
    assert "commands vprism_broken:nothing of plugin plugin is skipped: AttributeError" in caplog.text


# --- the example ------------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example is installed."""
    described = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    distribution(tmp_path / "site", described["name"], described["entry-points"][GROUP])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VPRISM_", "DUCKDB_"))}
    return clean | {
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path / "site", EXAMPLE, ROOT))),
        "VPRISM_DATA_DIR": str(tmp_path / "data"),
        "VPRISM_OFFLINE": "1",
    }


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.processes
def test_the_example_adds_its_provider_and_its_command_to_the_program(example: dict[str, str]) -> None:
    listed = run(example, *PROGRAM, "plugins", "--format", "csv")
    assert listed.stdout.splitlines()[1:] == [
        "example,vprism-example 0.1.0,provider,csv_example,added",
        "example,vprism-example 0.1.0,command,extremes,added",
    ]
    assert "extremes" in run(example, *PROGRAM, "--help").stdout
    asked = run(example, *PROGRAM, "data", "fetch", "AAPL", "--provider", "csv_example", "--start", "2024-01-02")
    assert (asked.returncode, "VPRISM_OFFLINE" in asked.stderr) == (20, True)  # planned and sent, as far as it goes
    assert run(example, *PROGRAM, "extremes").stderr.startswith("error NOT_PUBLISHED")


@pytest.mark.processes
def test_the_example_has_its_assets_in_the_graph(example: dict[str, str]) -> None:
    script = "from vprism_pipelines.definitions import defs; print(*defs.resolve_asset_graph().get_all_asset_keys())"
    ended = run(example, sys.executable, "-W", "ignore", "-c", script)
    assert "'raw', 'us', 'csv_example_bars'" in ended.stdout, ended.stderr


def test_the_example_reads_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    from vprism_example import plugin
    from vprism_example.provider import CsvProvider

    assert isinstance(plugin, Plugin)
    assert plugin.interface == INTERFACE
    assert plugin.providers.keys() == {CsvProvider.name}
    now = datetime(2024, 2, 1, tzinfo=UTC)
    provider = CsvProvider()
    (request,) = provider.plan("us", "bars", ["US:STOCK:AAPL"], date(2024, 1, 2), date(2024, 1, 3), now)
    assert request.url == "https://prices.example.com/daily/AAPL.csv"

    def parse(body: str) -> list[tuple[object, ...]]:
        frame = provider.parse(Payload(request, 200, body.encode(), now)).frames["bars"]
        return frame.select("raw_symbol", "session", "close", "volume", "currency", "price_basis").rows()

    head = "date,open,high,low,close,volume\n"
    rows = "2024-01-02,187,188.4,183.9,185.6,82488700\n2024-01-04,182,183,180,181.9,71983600\n"
    assert parse(head + rows) == [("AAPL", date(2024, 1, 2), 185.6, 82_488_700.0, "USD", "raw")]
    with pytest.raises(NoData):
        parse(head)
    with pytest.raises(Malformed):
        parse("date,close\n2024-01-02,nothing\n")
