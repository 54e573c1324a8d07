"""The settings: one frozen, validated object from the environment and `.env`; the environment takes precedence.

`conf/env.example` documents every field and is tested against this file. Nothing here connects to a server.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote, urlencode

from bisnesctl import addresses, paths, setting_errors, setting_fields, setting_values
from bisnesctl.errors import ConfigError
from bisnesctl.setting_fields import Field, FieldInfo, InvalidValues, SecretStr
from bisnesctl.setting_types import (
    CommandLine,
    EncryptionKey,
    HealthAddress,
    Host,
    HttpAddress,
    Network,
    Networks,
    PingUrl,
    Port,
    QuotaLimit,
    TestChats,
    networks,
)

NO_SECRET = SecretStr("")
#: The fields whose defaults could do harm if their values are refused: they say where a process listens and whom it
#: talks to.
ESSENTIAL = frozenset({
    "bisnes_home", "database_url", "redis_url", "redis_host", "redis_port", "redis_password", "encryption_key",
    "api_host", "api_port", "meta_host", "meta_port", "wwebjs_port", "port", "sandbox", "sandbox_port", "enable_meta",
    "enable_wwebjs", "public_url", "allowed_networks", "trusted_proxies", "media_store", "meta_app_secret",
    "meta_verify_token", "meta_graph_url", "meta_graph_version", "dialog360_url", "wa_url",
})  # fmt: skip
#: Seconds beyond the longest call of a webhook for which a sender keeps the lease of an event.
WEBHOOK_LEASE_MARGIN_SECONDS = 20.0


class Settings:
    """The settings of the tool and the services. The environment variable of a field is its name in capitals.

    They are frozen: `copy_with` makes others.
    """

    #: Every field by its name.
    model_fields: ClassVar[Mapping[str, FieldInfo]]

    database_url: SecretStr | None = Field(
        None, description="URL of PostgreSQL as libpq reads it; empty: embedded server"
    )
    postgres_bin: Path | None = Field(
        None,
        description="folder with system binaries for the embedded PostgreSQL; empty: binaries of the `embedded` extra",
    )
    redis_url: SecretStr | None = Field(
        None, description="redis:// URL of Redis; empty: REDIS_HOST, or the embedded server"
    )
    redis_host: Host | None = Field(None, description="host of Redis, used if REDIS_URL is empty")
    redis_port: Port = Field(6379, description="port of Redis, used with REDIS_HOST")
    redis_password: SecretStr = Field(NO_SECRET, description="password of Redis, used with REDIS_HOST")
    redis_bin: Path | None = Field(
        None, description="path of a system redis-server for the embedded Redis; empty: binary of the `embedded` extra"
    )
    bisnes_home: Path = Field(
        Path("var"), description="folder of state, logs and data; a relative path starts at the folder of `.env`"
    )

    api_host: Host = Field("127.0.0.1", description="address on which the API listens: IPv4, IPv6 or a host name")
    api_port: Port = Field(3000, description="port of the API")
    api_instances: int = Field(2, ge=1, le=64, description="number of API processes")
    wwebjs_port: Port = Field(3001, description="port of the WhatsApp Web manager")
    meta_host: Host = Field("127.0.0.1", description="address on which the receiver of Meta's webhooks listens")
    meta_port: Port = Field(3002, description="port of the receiver of Meta's webhooks")
    meta_instances: int = Field(2, ge=1, le=64, description="number of processes that send over Meta")
    port: Port = Field(8443, description="port of the legacy single process; its address is API_HOST")
    legacy_command: CommandLine = Field(
        "", description="command line of the former server, which runs in place of our own single process; empty: ours"
    )
    legacy_health_url: HealthAddress | None = Field(
        None, description="address that says whether the former server is healthy; empty: /health at PORT"
    )
    dashboard_host: Host = Field("127.0.0.1", description="address on which the dashboard listens")
    dashboard_port: Port = Field(3004, description="port of the dashboard")
    enable_dashboard: bool = Field(False, description="run the dashboard, a web page for people")
    enable_meta: bool = Field(True, description="run the Meta channel")
    enable_wwebjs: bool = Field(True, description="run the WhatsApp Web channel")

    database_pool_api_max: int = Field(20, ge=1, description="PostgreSQL connections of one API process, at most")
    database_pool_wwebjs_max: int = Field(
        10, ge=1, description="PostgreSQL connections of the WhatsApp Web manager, at most"
    )
    database_pool_meta_max: int = Field(20, ge=1, description="PostgreSQL connections of one Meta process, at most")

    encryption_key: EncryptionKey = Field(
        NO_SECRET, description="key that encrypts credentials in the database: 64 hex digits or 32 characters"
    )
    encryption_key_previous: EncryptionKey = Field(
        NO_SECRET, description="former key, while `bisnesctl keys rotate-encryption` is under way"
    )
    public_url: HttpAddress | None = Field(None, description="public base URL of the API and of the webhook receiver")
    allowed_networks: Networks = Field(
        "", description="private networks that links and webhooks may reach, such as 10.0.0.0/8,192.168.1.7"
    )
    trusted_proxies: Networks = Field(
        "", description="addresses of reverse proxies whose X-Forwarded-For is believed, such as 127.0.0.1"
    )
    media_store: str = Field(
        "", description="folder for media, or s3://bucket/prefix; empty: folder media in BISNES_HOME"
    )
    media_max_mb: int = Field(100, ge=1, le=2000, description="size of an incoming file in megabytes, at most")
    s3_endpoint_url: HttpAddress | None = Field(None, description="URL of an S3-compatible storage; empty: Amazon S3")
    s3_region: str = Field("us-east-1", description="region of the S3 storage")
    s3_access_key_id: SecretStr = Field(NO_SECRET, description="access key of the S3 storage")
    s3_secret_access_key: SecretStr = Field(NO_SECRET, description="secret key of the S3 storage")
    webhook_timeout_ms: int = Field(
        10000, ge=100, description="milliseconds within which a customer's webhook must answer"
    )
    outbox_keep_days: int = Field(
        90, ge=7, description="days for which finished messages of the outbox are kept after their last change"
    )
    inbox_keep_days: int = Field(7, ge=1, description="days for which applied webhooks of providers are kept")
    events_keep_days: int = Field(7, ge=1, description="days for which events are kept")
    audit_keep_days: int = Field(365, ge=1, description="days for which the audit trail is kept")

    quota_meta_numbers: QuotaLimit = Field(100, description="numbers of Meta and 360dialog of one company, at most")
    quota_web_numbers: QuotaLimit = Field(100, description="WhatsApp Web numbers of one company, at most")
    quota_web_sessions: QuotaLimit = Field(
        None, description="WhatsApp Web sessions of one company on this machine, at most"
    )
    quota_media_mb: QuotaLimit = Field(50_000, description="megabytes of stored files of one company, at most")
    quota_requests_per_second: QuotaLimit = Field(
        None, description="requests per second of one company's keys, at most"
    )
    quota_waiting_messages: QuotaLimit = Field(1_000_000, description="waiting messages of one company, at most")
    quota_idempotency_keys: QuotaLimit = Field(
        5_000_000, description="idempotency keys of one company that are remembered, at most"
    )
    quota_webhook_calls_per_minute: QuotaLimit = Field(
        60, description="tests and replays of webhooks per minute of one company, at most"
    )
    wrong_keys_per_minute: int = Field(
        60, ge=1, description="wrong API keys per minute of one client address that are looked up, at most"
    )

    operator_key: SecretStr = Field(NO_SECRET, description="API key of the operator, used by `bisnesctl send`")
    meta_app_id: str = Field(
        "", pattern=r"^\d*$", description="id of the Meta app, for embedded signup and token checks"
    )
    meta_app_secret: SecretStr = Field(NO_SECRET, description="secret of the Meta app, which signs webhooks")
    meta_verify_token: SecretStr = Field(NO_SECRET, description="verify token of the webhook in Meta's dashboard")
    meta_graph_url: str = Field(
        "https://graph.facebook.com", pattern="^https?://[^/]", description="base URL of the Graph API"
    )
    meta_graph_version: str = Field("v26.0", pattern=r"^v\d+\.\d+$", description="version of the Graph API")
    dialog360_url: HttpAddress = Field("https://waba-v2.360dialog.io", description="base URL of 360dialog")
    bot_check_minutes: float = Field(12, gt=0, description="minutes between two checks of a number with its provider")
    meta_max_messages_per_second: float = Field(
        20, gt=0, description="default rate limit of one Meta number, in messages per second"
    )
    wwebjs_max_messages_per_second: float = Field(
        10, gt=0, description="default rate limit of one WhatsApp Web number, in messages per second"
    )
    meta_window: int = Field(256, ge=1, le=4096, description="concurrent sends of one Meta worker, at most")
    meta_attempts: int = Field(3, ge=1, description="attempts before a message fails")
    meta_backoff_ms: int = Field(
        1000, ge=1, description="milliseconds before the second attempt; doubles with each further attempt"
    )
    meta_outage_hours: float = Field(
        24, ge=1, le=720, description="hours that a message waits for an unavailable provider before it fails"
    )
    send_timeout_ms: int = Field(30000, ge=100, description="milliseconds within which a provider must answer a call")
    lease_seconds: float = Field(
        60, gt=0, description="seconds after which the messages of a dead worker pass to another worker"
    )

    wa_url: HttpAddress = Field("https://web.whatsapp.com", description="address of WhatsApp Web")
    wa_js_path: Path | None = Field(None, description="path of another wa-js bundle; empty: the pinned version")
    chrome_path: Path | None = Field(None, description="path of Chromium; empty: the installed one")
    chrome_args: str = Field("", description="further command-line arguments of Chromium, separated by commas")
    chromedriver_path: Path | None = Field(None, description="path of ChromeDriver; empty: the installed one")
    max_sessions: int = Field(20, ge=1, le=1000, description="WhatsApp Web sessions on this machine, at most")
    session_memory_mb: int = Field(
        1024, ge=128, description="memory limit of one session in megabytes, after which its browser is restarted"
    )
    wwebjs_memory_mb: int = Field(4096, ge=256, description="memory limit of all sessions together, in megabytes")
    wwebjs_attempts: int = Field(3, ge=1, description="attempts before a WhatsApp Web message fails")
    wwebjs_backoff_ms: int = Field(
        2000, ge=1, description="milliseconds before the second WhatsApp Web attempt; doubles with each further attempt"
    )
    wwebjs_takeovers: int = Field(
        3, ge=0, description="times an hour that a session reclaims a number opened in another browser"
    )

    start_timeout_seconds: float = Field(
        90, ge=1, description="seconds that a self-test, and each step of a start, may take; a slow machine needs more"
    )
    heartbeat_interval: int = Field(10000, ge=100, description="milliseconds between two heartbeats of a process")
    health_check_interval: int = Field(
        30000, ge=100, description="milliseconds between two checks of the other processes"
    )
    max_heartbeat_age: int = Field(60000, ge=100, description="milliseconds after which a heartbeat is too old")
    api_health_endpoint: HealthAddress | None = Field(
        None, description="health URL of the API, such as one on another machine, that `health` asks as well"
    )
    meta_health_endpoint: HealthAddress | None = Field(None, description="the same for the receiver of Meta's webhooks")
    wwebjs_health_endpoint: HealthAddress | None = Field(None, description="the same for the WhatsApp Web manager")
    disk_warning_mb: int = Field(
        1000, ge=0, description="free megabytes (or 10 % of the disk, if that is less) below which `health` warns"
    )
    disk_critical_mb: int = Field(
        100, ge=0, description="free megabytes (or 2 % of the disk, if that is less) below which `health` is critical"
    )
    alert_urls: SecretStr = Field(
        NO_SECRET,
        description="addresses of Apprise that alerts are sent to, separated by blanks, or the path of a file",
    )
    alert_command: str = Field(
        "", description="command that gets each alert as JSON in its standard input; it runs without a shell"
    )
    alert_check_interval: int = Field(15000, ge=100, description="milliseconds between two evaluations of the signals")
    alert_resolve_seconds: float = Field(
        60, ge=0, description="seconds for which a signal must be good again until its alert is resolved"
    )
    alert_repeat_hours: float = Field(
        4, ge=0, description="hours after which an alert that still fires is sent again; 0: never"
    )
    health_ping_url: PingUrl = Field(
        NO_SECRET, description="address of a dead-man switch in the form of healthchecks.io, which cron's probe calls"
    )
    heal_restarts_per_hour: int = Field(
        3, ge=0, description="times an hour that `bisnesctl cron heal` starts the same thing again, at most"
    )
    rollout_test_chats: TestChats = Field(
        "", description="chats that a rollout sends test messages to, such as 0128/0:60123456789, separated by commas"
    )
    rollout_failure_margin: float = Field(
        2, gt=0, le=50, description="percentage points by which more messages of moved bots may fail in a rollout"
    )
    rollout_latency_ratio: float = Field(
        1.5, ge=1.1, le=100, description="times by which messages of moved bots may take longer in a rollout"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    sandbox: bool = Field(False, description="run simulators instead of the real providers")
    sandbox_port: Port = Field(3010, description="port of the simulators")

    _env_file: Path
    _origins: Mapping[str, str]
    _problems: Mapping[str, str]
    _notes: tuple[str, ...]

    def __init__(self, **values: object) -> None:
        """Defaults take the place of missing values. Raises `InvalidValues`."""
        found = setting_fields.read(type(self).model_fields, values)
        self.__dict__.update(found, _env_file=env_path(), _origins={}, _problems={}, _notes=())

    @classmethod
    def model_validate(cls, values: Mapping[str, object]) -> Self:
        """The settings with these values, which may be text. Raises `InvalidValues`."""
        return cls(**values)

    def model_dump(self) -> dict[str, Any]:
        """The values of all fields."""
        return {name: self.__dict__[name] for name in self.model_fields}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings are frozen: copy_with({name}=…) makes others")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.model_dump().values()))

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.model_dump().items())})"

    def copy_with(self, **fields: object) -> Self:
        """A copy with some fields replaced, without validation."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__ | fields)
        return copy

    def origin(self, field: str) -> str:
        """The place of a field's value, or where to set it: `the environment`, or the path of `.env`."""
        return self._origins.get(field, str(self._env_file))

    def is_given(self, field: str) -> bool:
        """Whether the environment or `.env` has a field, and not only its default."""
        return field in self._origins

    def where(self, field: str) -> str:
        """The variable of a field and its place, for a message such as `see API_PORT in /srv/bisnes/.env`."""
        return f"{field.upper()} in {self.origin(field)}"

    @property
    def problems(self) -> Mapping[str, str]:
        """The fields, or lines of `.env`, that were refused, with the reasons."""
        return self._problems

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the operator, such as a misspelt name in `.env`."""
        return self._notes

    def with_defaults(self, but: frozenset[str] = frozenset()) -> "Settings":
        """The settings with the default in place of each refused value, except of the fields in `but`."""
        kept = {name: reason for name, reason in self._problems.items() if name in but}
        return _private_copy(self, PartialSettings if kept else Settings, _problems=kept)

    @property
    def decryption_keys(self) -> tuple[str, ...]:
        """The keys with which credentials may be encrypted, the current one first."""
        keys = self.encryption_key.get_secret_value(), self.encryption_key_previous.get_secret_value()
        return tuple(key for key in keys if key) or ("",)

    @property
    def env_file(self) -> Path:
        """The path of the `.env`, which may not exist; absolute."""
        return self._env_file

    @property
    def home(self) -> Path:
        """The folder of the deployment, absolute."""
        return self.bisnes_home

    @property
    def run_dir(self) -> Path:
        """Folder of pid files, state files and the rendered configuration."""
        return self.home / "run"

    @property
    def log_dir(self) -> Path:
        """Folder of `<instance>.log` and `<instance>.err.log`."""
        return self.home / "log"

    @property
    def heartbeat_dir(self) -> Path:
        """Folder of the heartbeats, `<instance>.json`."""
        return self.run_dir / "heartbeats"

    @property
    def journal_dir(self) -> Path:
        """The journals in which workers mark a message before they call a provider."""
        return self.home / "journal"

    @property
    def media_dir(self) -> Path | None:
        """The folder of media; None if they are in S3. A relative path starts at the folder of `.env`."""
        if self.media_store.startswith("s3://"):
            return None
        return (self.env_file.parent / self.media_store).absolute() if self.media_store else self.home / "media"

    @property
    def server_home(self) -> Path:
        """The folder of the embedded servers' data and sockets: `home`, unless their user cannot reach it."""
        return paths.server_home(self.home)

    @property
    def webhook_lease_seconds(self) -> float:
        """Seconds after which another process may deliver an event that a sender has claimed."""
        return self.webhook_timeout_ms / 1000 + WEBHOOK_LEASE_MARGIN_SECONDS

    @property
    def embedded_postgres(self) -> bool:
        """Whether PostgreSQL runs under our own supervisord."""
        return self.database_url is None

    @property
    def embedded_redis(self) -> bool:
        """Whether Redis runs under our own supervisord."""
        return self.redis_url is None and self.redis_host is None

    @property
    def database_dsn(self) -> str:
        """A libpq URL."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        query = urlencode({"host": str(paths.postgres_sockets(self.server_home)), "user": "bisnes"})
        return f"postgresql:///bisnes?{query}"

    @property
    def redis_dsn(self) -> str:
        """A URL as redis-py reads it."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_host is None:
            return f"unix://{quote(str(paths.redis_socket(self.server_home)))}?db=0"
        password = quote(self.redis_password.get_secret_value(), safe="")
        address = addresses.host_and_port(self.redis_host, self.redis_port)
        return f"redis://{f':{password}@' if password else ''}{address}/0"

    @property
    def sandbox_url(self) -> str:
        """Base URL of the simulators, without a slash at the end."""
        return addresses.local_url(addresses.LOOPBACK, self.sandbox_port)

    @property
    def graph_url(self) -> str:
        """Base URL of the Graph API, or of its simulator in the sandbox, without a slash at the end."""
        return self.sandbox_url if self.sandbox else self.meta_graph_url.rstrip("/")

    @property
    def dialog360_base(self) -> str:
        """Base URL of 360dialog, or of its simulator in the sandbox, without a slash at the end."""
        if self.sandbox:
            return f"{self.sandbox_url}/360dialog"
        return self.dialog360_url.rstrip("/")

    @property
    def whatsapp_url(self) -> str:
        """URL of WhatsApp Web, or of its simulator in the sandbox."""
        return f"{self.sandbox_url}/_wa/" if self.sandbox else self.wa_url.rstrip("/") + "/"

    @property
    def profile_dir(self) -> Path:
        """Folder of the browser profiles: a subfolder for each bot, 0700."""
        return self.home / "profiles"

    @property
    def webhook_base(self) -> str | None:
        """Base URL at which providers reach our webhooks, if it is known; in the sandbox that of this machine."""
        if self.public_url is None and self.sandbox:
            return addresses.local_url(self.meta_host, self.meta_port)
        return self.public_url and self.public_url.rstrip("/")

    @property
    def dashboard_address(self) -> str:
        """Base URL of the dashboard for people, without a slash at the end."""
        own = addresses.local_url(self.dashboard_host, self.dashboard_port)
        return f"{(self.public_url or own).rstrip('/')}/ui"

    @property
    def media_base(self) -> str:
        """The beginning of links to our copies of media. Without PUBLIC_URL it is empty, and the links are relative."""
        return (self.public_url or "").rstrip("/")

    @property
    def chrome_arguments(self) -> tuple[str, ...]:
        """The further arguments of Chromium. A comma separates two arguments if `--` follows it."""
        given = re.split(r",\s*(?=--)", self.chrome_args.strip().strip(","))
        return tuple(each.strip() for each in given if each.strip())

    @property
    def open_networks(self) -> tuple[Network, ...]:
        """Private networks that downloads and customers' webhooks may reach; in the sandbox also this machine."""
        return networks(self.allowed_networks) + (networks("127.0.0.0/8,::1") if self.sandbox else ())


Settings.model_fields = setting_fields.collect(Settings)


class PartialSettings(Settings):
    """Settings some of whose values were refused: reading one of these raises `ConfigError` with the reason."""

    def __getattribute__(self, name: str) -> Any:
        """The attribute, unless its value was refused."""
        if name in Settings.model_fields:
            problems: Mapping[str, str] = super().__getattribute__("__dict__")["_problems"]
            if reason := problems.get(name):
                raise ConfigError(reason)
        return super().__getattribute__(name)


def _private_copy(settings: Settings, kind: type[Settings], **private: object) -> Settings:
    """The same values as another class, with some private attributes replaced."""
    copy = kind.__new__(kind)
    copy.__dict__.update(settings.__dict__ | private)
    return copy


def env_path() -> Path:
    """The `.env` in force: `$BISNES_ENV`, else the one in the working directory; absolute."""
    return Path(os.environ.get("BISNES_ENV") or ".env").absolute()


def load(env_file: Path | str | None = None) -> Settings:
    """The settings from the environment over `env_file` (default: `env_path()`), which need not exist.

    Raises `ConfigError` with each value that is refused: its key, its origin and the allowed values.
    """
    settings = load_partly(env_file)
    if settings.problems:
        raise ConfigError("\n".join(settings.problems.values()))
    return settings


def load_partly(env_file: Path | str | None = None) -> Settings:
    """The same for commands that work without some settings: values that are refused are in `problems`.

    Reading the field of such a value raises `ConfigError`; `with_defaults` replaces it.
    """
    found = setting_values.read(Path(env_file).absolute() if env_file else env_path(), _known_settings())
    valid = _validated(found)
    private = {"_env_file": found.path, "_origins": found.origins, "_problems": found.problems}
    settings = _private_copy(
        valid,
        PartialSettings if found.problems else Settings,
        **private,
        _notes=tuple(found.notes),
    )
    home = found.path.parent / settings.bisnes_home.expanduser()
    return settings.copy_with(bisnes_home=Path(os.path.normpath(home)))


@cache
def _known_settings() -> Mapping[str, setting_values.KnownSetting]:
    return {name: _known_setting(field.default, str(field.annotation)) for name, field in Settings.model_fields.items()}


def _known_setting(default: object, annotation: str) -> setting_values.KnownSetting:
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return setting_values.KnownSetting(text, any(kind in annotation for kind in ("str", "Secret", "Path")))


def _validated(found: setting_values.SettingValues) -> Settings:
    """The settings with all values that are valid. The reasons why others are refused go to `problems`."""
    try:
        return Settings.model_validate(found.values)
    except InvalidValues as error:
        for name, form in error.reasons.items():
            found.problems[name] = _explain(name, found, form)
    return Settings.model_validate({name: value for name, value in found.values.items() if name not in found.problems})


def _explain(name: str, found: setting_values.SettingValues, form: str) -> str:
    field = Settings.model_fields[name]
    line = f", line {found.line_numbers[name]}" if name in found.line_numbers else ""
    value = "" if "Secret" in str(field.annotation) else f"{setting_errors.shown_value(found.values[name])}: "
    return f"{name.upper()} in {found.origins[name]}{line}: {value}{form} ({field.description})"
