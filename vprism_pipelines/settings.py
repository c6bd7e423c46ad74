"""Every environment variable, its default and its unit, in one class.

Names that were established before this project keep their spelling (`DUCKDB_DATABASE`, `PROVIDER_TIMEOUT`, …).
A `.env` file in the working directory is read; real environment variables win. Nothing here is read at import time.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Settings(BaseSettings):
    """Configuration of one installation. Paths may be relative to the working directory."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    env: Literal["development", "test", "production"] = Field(default="development", validation_alias="VPRISM_ENV")
    log_level: LogLevel = Field(default="INFO", validation_alias="LOG_LEVEL")
    log_format: Literal["text", "json"] = Field(
        default="text", validation_alias="LOG_FORMAT", description="of the log on stderr"
    )
    log_file: Path | None = Field(
        default=None,
        validation_alias="LOG_FILE",
        description="a second log, one JSON object a line; begun anew at 50 MB",
    )
    otel_endpoint: str | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="where spans are sent over OTLP/HTTP, http://127.0.0.1:4318; needs the extra otel",
    )
    otel_headers: SecretStr | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="name=value,name=value: sent with spans",
    )
    otel_service_name: str = Field(default="vprism", validation_alias="OTEL_SERVICE_NAME")
    metrics: bool = Field(default=True, validation_alias="VPRISM_METRICS", description="count what happens")
    metrics_textfile: Path | None = Field(
        default=None,
        validation_alias="VPRISM_METRICS_TEXTFILE",
        description="file of node_exporter's textfile collector, ending in .prom",
    )
    metrics_pushgateway: str | None = Field(
        default=None, validation_alias="VPRISM_METRICS_PUSHGATEWAY", description="http://127.0.0.1:9091"
    )

    data_dir: Path = Field(
        default=Path("data"), validation_alias="VPRISM_DATA_DIR", description="lake, warehouse, run storage"
    )
    duckdb_database: Path | None = Field(
        default=None,
        validation_alias="DUCKDB_DATABASE",
        description="the published file readers open; default <data>/vprism.duckdb",
    )
    duckdb_memory_limit: str = Field(default="2GB", validation_alias="DUCKDB_MEMORY_LIMIT", description="per process")
    duckdb_threads: int = Field(default=0, validation_alias="DUCKDB_THREADS", ge=0, description="0: all cores")
    lock_timeout: float = Field(default=120.0, validation_alias="VPRISM_LOCK_TIMEOUT", gt=0, description="seconds")
    keep_snapshots: int = Field(default=3, validation_alias="VPRISM_KEEP_SNAPSHOTS", ge=1)

    provider_timeout: float = Field(
        default=30.0, validation_alias="PROVIDER_TIMEOUT", gt=0, description="seconds per request"
    )
    provider_retry_attempts: int = Field(
        default=3, validation_alias="PROVIDER_RETRY_ATTEMPTS", ge=0, description="after the first"
    )
    provider_backoff_factor: float = Field(
        default=1.5,
        validation_alias="PROVIDER_BACKOFF_FACTOR",
        gt=0,
        description="seconds; doubled per attempt, jittered",
    )
    provider_retry_share: float = Field(
        default=0.2,
        validation_alias="PROVIDER_RETRY_SHARE",
        ge=0,
        le=1,
        description="retries in vain that a provider may cost per answer, beyond the first 30",
    )
    provider_patience: float = Field(
        default=60.0,
        validation_alias="PROVIDER_PATIENCE",
        ge=0,
        description="seconds that a retry-after may ask for; who asks for more is left to the next provider",
    )
    rate_limit_requests_per_minute: int | None = Field(
        default=None,
        validation_alias="RATE_LIMIT_REQUESTS_PER_MINUTE",
        gt=0,
        description="caps every provider's own limit",
    )
    rate_limit_burst: int | None = Field(
        default=None, validation_alias="RATE_LIMIT_BURST", gt=0, description="requests"
    )
    provider_base_urls: dict[str, str] = Field(
        default_factory=dict,
        validation_alias="VPRISM_PROVIDER_BASE_URLS",
        description='JSON, {"yahoo": "http://127.0.0.1:8080"}: a mirror, a proxy or a replay server',
    )
    proxies: dict[str, str] = Field(
        default_factory=dict,
        validation_alias="VPRISM_PROXIES",
        description='JSON, {"yahoo": "http://user:password@proxy:3128"}: instead of what HTTPS_PROXY says',
    )
    impersonate: dict[str, str] = Field(
        default_factory=lambda: {"yahoo": "chrome"},
        validation_alias="VPRISM_IMPERSONATE",
        description="JSON: whose TLS handshake a provider gets to see, where curl_cffi is installed; {} is nobody's",
    )
    offline: bool = Field(default=False, validation_alias="VPRISM_OFFLINE", description="refuse every network request")

    alpha_vantage_api_key: SecretStr | None = Field(default=None, validation_alias="ALPHA_VANTAGE_API_KEY")
    quandl_api_key: SecretStr | None = Field(
        default=None, validation_alias="QUANDL_API_KEY", description="Nasdaq Data Link"
    )

    min_data_quality: float = Field(
        default=0.95,
        validation_alias="MIN_DATA_QUALITY",
        ge=0,
        le=1,
        description="share of rows accepted below which a table is stopped",
    )
    checks: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict,
        validation_alias="VPRISM_CHECKS",
        description='JSON, {"completeness": {"HOSE": {"warn": 0.002, "fail": 0.005}}, "flat_run": {"*": {"value": 9}}}:'
        " thresholds by check and exchange, instead of the defaults",
    )
    providers: dict[str, list[str]] = Field(
        default_factory=dict,
        validation_alias="VPRISM_PROVIDERS",
        description='JSON, {"us": ["yahoo"]}: providers of the scheduled runs, best first; default: embedded',
    )
    standby: dict[str, list[str]] = Field(
        default_factory=dict,
        validation_alias="VPRISM_STANDBY",
        description='JSON, {"us": ["alpha_vantage"]}: providers asked only for what those before them did not deliver',
    )
    universe: dict[str, list[str]] = Field(
        default_factory=dict,
        validation_alias="VPRISM_UNIVERSE",
        description='JSON, {"us": ["AAPL", "BRK.B"]}: symbols to ask network providers for',
    )
    webhook_url: str | None = Field(
        default=None, validation_alias="VPRISM_WEBHOOK_URL", description="told about failed runs"
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def database(self) -> Path:
        """The published, read-only file: what analysts, APIs and `vprism sql` open."""
        return self.duckdb_database or self.data_dir / "vprism.duckdb"

    @property
    def metrics_path(self) -> Path:
        return self.data_dir / "state" / "metrics.sqlite"

    @property
    def lake_dir(self) -> Path:
        return self.data_dir / "lake"

    @property
    def warehouse_dir(self) -> Path:
        return self.data_dir / "warehouse"

    @property
    def dagster_dir(self) -> Path:
        return self.data_dir / "dagster"

    @property
    def trace_headers(self) -> dict[str, str]:
        """What is sent along with spans: `OTEL_EXPORTER_OTLP_HEADERS`, values percent-decoded."""
        given = self.otel_headers.get_secret_value() if self.otel_headers else ""
        pairs = (pair.partition("=") for pair in given.split(",") if pair.strip())
        return {name.strip(): unquote(value.strip()) for name, _, value in pairs}

    def secrets(self) -> list[str]:
        """The secret values in force, for redaction."""
        keys = (self.alpha_vantage_api_key, self.quandl_api_key)
        values = [key.get_secret_value() for key in keys if key]
        # Of `Bearer 8f2a…` the last word is the secret: it may turn up without the first.
        return [value for value in values + [words.split(" ")[-1] for words in self.trace_headers.values()] if value]


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
