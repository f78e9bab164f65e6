"""Every option there is, typed, with its unit in its name. `gateway.example.toml` shows them all.

Values only: no reading of files (that is the loader's), no knowledge of drivers (their options are checked by the
catalogue against the driver's own schema).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$")]
_LONG = 9_000_000  # seconds, decibels or days: beyond any sense, and `inf` too
Positive = Annotated[float, Meta(gt=0, le=_LONG)]
NotNegative = Annotated[float, Meta(ge=0, le=_LONG)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table: unknown keys are refused."""


class GatewaySettings(Section, frozen=True, kw_only=True):
    """`[gateway]`: who and where this gateway is; part of every event."""

    tenant: Name = "t1"
    store: Name = "0001"
    name: Name = "gw01"
    time_zone: str = "Asia/Shanghai"  # IANA name; for calendar jobs and business dates
    region: Annotated[str, Meta(pattern="^[A-Z]{2}$")] = "CN"  # default region of phone numbers
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "CNY"
    language: Literal["zh_CN", "en"] = "zh_CN"
    opening_hours: Annotated[str, Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00))?$")] = (
        ""  # of every day, "10:00-22:00"; empty: from a day's first sign of life to its last
    )


class RetentionSettings(Section, frozen=True, kw_only=True):
    """`[storage.retention]`: how long events are kept. Delivered ones are kept for queries until then, too."""

    transactions_days: Positive = 90
    measurements_days: Positive = 60
    observations_days: Positive = 14


class StorageSettings(Section, frozen=True, kw_only=True):
    """`[storage]`: the journal."""

    directory: str = ""  # empty: the default state directory, see `loader.state_directory`
    profile: Literal["ssd", "sd_card"] = "ssd"  # commit window 20 ms or 100 ms
    max_mib: Annotated[int, Meta(ge=8, le=1 << 23)] = 4096  # quota of the database
    ballast_mib: Annotated[int, Meta(ge=0, le=1 << 20)] = 16  # held back for a full disk
    retention: RetentionSettings = RetentionSettings()

    @property
    def window_s(self) -> float:
        """Commit window of the profile, in seconds."""
        return 0.1 if self.profile == "sd_card" else 0.02


class BrokerSettings(Section, frozen=True, kw_only=True):
    """`[broker]`: the MQTT broker that devices publish to."""

    mode: Literal["embedded", "external", "none"] = "embedded"
    port: Annotated[int, Meta(ge=0, le=65535)] = 1883  # embedded: on loopback; 0 takes a free one
    url: str = ""  # external: mqtt://host:1883 or mqtts://host:8883
    client_id: str = ""  # empty: storefront-<store>-<name>
    username: str = ""
    password: str = ""  # a reference: file:…, env:… or credential:…
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    max_message_bytes: Annotated[int, Meta(ge=256)] = 262_144


class PageSettings(Section, frozen=True, kw_only=True):
    """`[page]`: the local status page."""

    enabled: bool = True
    host: str = "127.0.0.1"  # on any other address the page speaks TLS
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    names: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]{1,253}$")], ...] = ()  # further names of this machine
    cert_file: str = ""  # PEM; empty: one of the store's own authority
    key_file: str = ""


class PresenceSettings(Section, frozen=True, kw_only=True):
    """`[presence]`: when a tag has arrived, moved and departed."""

    min_reads: Annotated[int, Meta(ge=1, le=100)] = 2
    arrive_within_s: Positive = 2.0
    move_offset_db: NotNegative = 6.0
    move_hold_off_s: NotNegative = 0.5
    move_slope_db_per_s: NotNegative = 8.0
    depart_after_s: Positive = 10.0
    report_factory_epcs: bool = False  # all-zero, E200… and E280… are factory defaults, not goods


class DeviceSettings(Section, frozen=True, kw_only=True):
    """One `[[devices]]` table."""

    name: Name
    driver: str
    address: str = ""  # serial drivers: /dev/serial/by-id/…, tcp://host:port, rfc2217://host:port
    topics: tuple[str, ...] = ()  # mqtt drivers: topic filters; the driver's own plan when empty
    zone: str = ""  # where in the shop it is
    antenna_zones: dict[str, str] = {}  # antenna number → zone, for readers with several
    depart_after_s: Positive | None = None  # readers: overrides presence.depart_after_s (shelves: 600)
    stale_after_s: Positive = 300.0  # silence after which the page calls it stale
    policy: Literal["", "wait", "drop_oldest"] = ""  # full lane; default: serial drops the oldest, mqtt waits
    keep_text: bool = False  # scanners: journal the text of codes that mean nothing to us; it may be personal
    personal: bool = False  # card readers, beacons: shoppers carry what it sees, so it is kept with a consent only
    enabled: bool = True
    options: dict[str, Any] = {}  # the driver's own, see `storefront drivers NAME`


class CameraSettings(Section, frozen=True, kw_only=True):
    """One `[[cameras]]` table; lines and zones in relative coordinates (0–1) of the picture."""

    name: Name
    source: str  # a file, usb:0, rtsp://user@host/stream, synthetic:top or synthetic:oblique
    password: str = ""  # a reference; goes with the user name of the address
    stale_after_s: Positive = 60.0  # silence after which the page calls it stale
    enabled: bool = True
    options: dict[str, Any] = {}  # detector, lines, zones: see `docs/cameras.md`


class EventLogSettings(Section, frozen=True, kw_only=True):
    """`[platform.log]`: a distributed log that takes the events instead of the platform's HTTP push.

    Commands, heartbeats and certificates still go to `platform.url`, where there is one.
    """

    kind: Literal["", "nats", "kafka"] = ""  # each is an extra of that name
    servers: tuple[str, ...] = ()  # nats://host:4222 or tls://host:4222; for Kafka host:9092
    name: str = ""  # the JetStream stream or the Kafka topic; empty: EVENTS, storefront.events
    username: str = ""  # kafka: SCRAM-SHA-512
    password: str = ""  # a reference
    credentials_file: str = ""  # nats: a .creds file
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


Scheme = Literal["member", "phone", "email", "app", "payment", "beacon", "card"]
Purpose = Literal["visits", "matching", "offers", "analytics"]
KeyId = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$")]


class PrivacySettings(Section, frozen=True, kw_only=True):
    """`[privacy]`: how persons are keyed, and what allows to name one."""

    seal_keys: dict[KeyId, str] = {}  # key id → the platform's X25519 public key, 32 bytes in base64
    seal_with: str = ""  # which of them; empty: the last
    member_check: Literal["none", "luhn", "gs1"] = "none"  # check digit of member numbers; a wrong one names nobody
    scheme_names: dict[str, Scheme] = {}  # what tills call a kind of identifier → ours
    assumed_purposes: dict[Scheme, tuple[Purpose, ...]] = {}  # agreed to elsewhere, as in the membership's terms
    notice_version: str = ""  # where a consent names no notice: the one that hangs in the shop …
    notice_digest: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""  # … and its SHA-256
    controller: str = ""  # who answers for the data, as the notice names them
    contact: str = ""  # where persons ask: an address, a phone number, a mailbox of the shop
    consent_days: Annotated[float, Meta(gt=0, le=3660)] = 730  # a consent without an end of its own ends after this
    consent_kept_days: Annotated[float, Meta(ge=1, le=3660)] = 365  # ended ones stay so long, against late messages
    consent_rows: Annotated[int, Meta(ge=100, le=5_000_000)] = 200_000  # persons × purposes; the oldest go first


class AreaSettings(Section, frozen=True, kw_only=True):
    """One `[[floor.areas]]` table: where a zone is, or what a camera sees, from the plan's top left corner."""

    zone: str = ""
    camera: str = ""  # its heat map is drawn here
    turned: Literal[0, 90, 180, 270] = 0  # how far its picture is turned clockwise to fit the plan
    x_m: NotNegative
    y_m: NotNegative
    width_m: Positive
    depth_m: Positive


class FloorSettings(Section, frozen=True, kw_only=True):
    """`[floor]`: the plan that the page draws; without areas it lays out the zones that the devices name."""

    width_m: Positive = 12.0
    depth_m: Positive = 8.0
    areas: Annotated[tuple[AreaSettings, ...], Meta(max_length=64)] = ()


class PlatformSettings(Section, frozen=True, kw_only=True):
    """`[platform]`: where events go."""

    url: str = ""  # empty: events wait in the journal
    auth: Literal["none", "bearer", "oauth2", "mtls", "signature"] = "bearer"
    token: str = ""  # a reference: the bearer token, the OAuth2 client's secret, or the signing key (Ed25519, PEM)
    token_url: str = ""  # oauth2
    client_id: str = ""  # oauth2
    scope: str = ""  # oauth2
    key_id: str = ""  # signature: what the platform knows the key by; empty: the gateway's name
    ca_file: str = ""
    cert_file: str = ""  # mtls: ours and its key, PEM
    key_file: str = ""
    proxy: str = ""
    coding: Literal["gzip", "zstd", "identity"] = "gzip"
    interval_s: Positive = 2.0  # how often each stream is sent; bounds an event's age
    boot_delay_s: NotNegative = 60.0  # a start waits for a random part of this
    commands: bool = True  # ask the platform for commands
    log: EventLogSettings = EventLogSettings()

    @property
    def configured(self) -> bool:
        """Whether events leave this gateway by push."""
        return bool(self.url or self.log.kind)


class ConsumerSettings(Section, frozen=True, kw_only=True):
    """One `[[feed.consumers]]` table: who may pull, and what."""

    name: Name
    token: str  # a reference
    streams: Annotated[tuple[Literal["transactions", "measurements", "observations"], ...], Meta(min_length=1)]
    required: bool = False  # retention waits for it, up to the quota


class FeedSettings(Section, frozen=True, kw_only=True):
    """`[feed]`: the same events for those who pull, on a port of its own; nobody may read without a token."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8081
    cert_file: str = ""  # PEM; empty: one of the store's own authority, on any address but loopback
    key_file: str = ""
    dead_after_days: Positive = 14.0  # a required consumer that stands still so long is waited for no longer
    consumers: tuple[ConsumerSettings, ...] = ()


class CouponKeySettings(Section, frozen=True, kw_only=True):
    """One `[[coupons.keys]]` table: an issuer whose coupons are honoured; `storefront coupon keys` prints it."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,16}$")]
    public: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}=?$")]  # Ed25519, base64url


class TillSettings(Section, frozen=True, kw_only=True):
    """One `[[coupons.tills]]` table: a till that asks over HTTP."""

    name: Name
    token: str  # a reference


class CouponSettings(Section, frozen=True, kw_only=True):
    """`[coupons]`: coupons that are honoured without a network, see docs/coupons.md."""

    enabled: bool = False
    keys: tuple[CouponKeySettings, ...] = ()  # the platform may send more
    mqtt: bool = True  # tills ask on store/{store}/coupon/{lane}/request
    http: bool = True  # tills ask at /v1/coupons/…
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8082
    cert_file: str = ""  # needed on any address but loopback, like tills
    key_file: str = ""
    tills: tuple[TillSettings, ...] = ()  # with any, every HTTP request needs its till's token
    hold_s: Annotated[float, Meta(ge=10, le=86_400)] = 900.0  # a reservation ends after this
    per_coupon: Annotated[int, Meta(ge=0, le=999)] = 1  # uses of a coupon on the shop's own risk; 0: none
    at_risk: Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,3})?$")] = "1000.00"  # money, in gateway.currency
    restore_on_return: bool = False  # a return gives the coupon back, as a void always does


class InteractionSettings(Section, frozen=True, kw_only=True):
    """`[interaction]`: QR codes of our own on posters and shelf labels."""

    prefixes: tuple[Annotated[str, Meta(min_length=4, max_length=200)], ...] = ()  # each ends in / : = ? or #


class VisitSettings(Section, frozen=True, kw_only=True):
    """`[visits]`: what consented shoppers did, as visits, and what staff may say to them; see docs/visits.md."""

    enabled: bool = True
    idle_min: Annotated[float, Meta(ge=5, le=240)] = 45.0  # without a sign of life a visit ends
    after_sale_min: Annotated[float, Meta(ge=1, le=120)] = 15.0  # and so long after it was paid
    exits: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()  # zones at the way out
    fitting_rooms: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()  # zones
    hints: Annotated[int, Meta(ge=0, le=50_000)] = 5_000  # of members, kept until they come
    mqtt: bool = True  # tell tills on store/{store}/recognition/{lane}, where there is a broker
    lanes: dict[str, Name] = {}  # zone or device → what its till calls the lane; else the zone, or the device


Cause = Literal[
    "till_dark", "camera_dark", "device_dark", "broker_away", "delivery", "storage", "disk_low", "quarantine", "clock",
    "queue_long", "coupon_risk", "count_drift", "gateway", "battery_low",
]  # fmt: skip
Severity = Literal["critical", "warning", "notice"]


class AlertRuleSettings(Section, frozen=True, kw_only=True):
    """One `[[alerts.rules]]` table: how an alert differs from what docs/alerts.md says of its cause."""

    cause: Cause
    enabled: bool = True
    severity: Severity | None = None  # empty: what the trouble has by itself
    limit: Annotated[float, Meta(ge=0, le=_LONG)] | None = None  # unit by cause, see docs/alerts.md
    raise_after_s: NotNegative | None = None  # so long must it last before it is an alert
    clear_after_s: NotNegative | None = None  # and so long be gone before it is over
    in_quiet_hours: bool | None = None  # told at night, too; critical ones always are, unless this is false


class WebhookSettings(Section, frozen=True, kw_only=True):
    """One `[[alerts.webhooks]]` table: who is told."""

    name: Name
    shape: Literal["wecom", "dingtalk", "slack", "generic"]
    url: str  # a reference, for the address is a key itself: file:…, env:… or credential:…
    secret: str = ""  # a reference. dingtalk: its signing secret; generic: signs the body
    least: Severity = "warning"  # what is less severe is not told
    cleared: bool = True  # tell when it is over, too
    language: Literal["", "zh_CN", "en"] = ""  # empty: gateway.language
    ca_file: str = ""  # PEM; empty: the public authorities


class AlertSettings(Section, frozen=True, kw_only=True):
    """`[alerts]`: who is told of what needs a hand, and when."""

    enabled: bool = True
    quiet_hours: Annotated[str, Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$")] = "22:00-08:00"
    mqtt: bool = True  # retained on store/{store}/alerts, where a broker is in use
    rules: Annotated[tuple[AlertRuleSettings, ...], Meta(max_length=64)] = ()
    webhooks: Annotated[tuple[WebhookSettings, ...], Meta(max_length=8)] = ()


class LogSettings(Section, frozen=True, kw_only=True):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section, frozen=True, kw_only=True):
    """The whole configuration file."""

    gateway: GatewaySettings = GatewaySettings()
    storage: StorageSettings = StorageSettings()
    broker: BrokerSettings = BrokerSettings()
    page: PageSettings = PageSettings()
    floor: FloorSettings = FloorSettings()
    presence: PresenceSettings = PresenceSettings()
    privacy: PrivacySettings = PrivacySettings()
    platform: PlatformSettings = PlatformSettings()
    feed: FeedSettings = FeedSettings()
    coupons: CouponSettings = CouponSettings()
    interaction: InteractionSettings = InteractionSettings()
    visits: VisitSettings = VisitSettings()
    alerts: AlertSettings = AlertSettings()
    log: LogSettings = LogSettings()
    devices: tuple[DeviceSettings, ...] = ()
    cameras: tuple[CameraSettings, ...] = ()
