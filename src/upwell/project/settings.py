"""What ``upwell.yaml`` says: the project's name and clock, its sources, its lake, its addresses."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from upwell.core.policy import OnChange, OnFullLog, OnLostLog
from upwell.project.url import redact_url
from upwell.project.value import Name, Reference, Secret, Text, Value

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class BusinessTime(Value, frozen=True, kw_only=True):
    """The clock of the business: when a day and a week begin, and where."""

    zone: Annotated[
        str, Meta(description="IANA time zone in which days are counted, e.g. `Europe/London`.")
    ] = "UTC"
    day_starts: Annotated[
        str,
        Meta(
            description="Time of day at which a business day begins.",
            pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
            extra={"expected": "a time of day such as 06:00"},
        ),
    ] = "00:00"
    week_starts: Annotated[Weekday, Meta(description="First day of the business week.")] = "monday"


class CopyLoad(Value, frozen=True, kw_only=True):
    """How hard the source may be read while its tables are copied, beside following its log."""

    connections: Annotated[
        int, Meta(description="How many connections read at once.", ge=1, le=16)
    ] = 2
    megabytes_per_second: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="How much all of them together read at most, on average; default: as fast "
            "as it goes."
        ),
    ] = None


class LayoutChanges(Value, frozen=True, kw_only=True):
    """What happens where a table's columns or key change in the source."""

    policy: Annotated[
        OnChange,
        Meta(
            description="`evolve`: the table follows; it is read anew where its rows changed with "
            "the layout. `freeze`: it stands still until `upwell resync` is told to read it. "
            "`quarantine`: it keeps its columns, and rows that do not fit them are set aside."
        ),
    ] = "evolve"
    tables: Annotated[
        dict[Text, OnChange],
        Meta(description="Tables for which it is another, by their names under `tables`."),
    ] = msgspec.field(default_factory=dict)


class KeptLog(Value, frozen=True, kw_only=True):
    """How much of its log the source may keep for us, and what happens then."""

    cap_megabytes: Annotated[
        float,
        Meta(
            description="More than this is too much. It counts while Upwell runs; set "
            "`max_slot_wal_keep_size` in the database to have it kept always.",
            ge=1,
        ),
    ] = 10_000.0
    beyond: Annotated[
        OnFullLog,
        Meta(
            description="`warn`: status and boards say so. `drop`: the log is given up, so that "
            "the source's disk stays free, and the log counts as lost."
        ),
    ] = "warn"
    lost: Annotated[
        OnLostLog,
        Meta(
            description="What happens once the source no longer has the log we need. `stop`: "
            "boards stand still, with the reason, until `upwell resync`. `resync`: that by itself."
        ),
    ] = "stop"


class Reconcile(Value, frozen=True, kw_only=True):
    """How often tables are compared with their source by themselves, beside being followed.

    One table at a time, by checksums of key ranges and within `copy`; what differs is mended and
    reported (`upwell drift`). Not while the source is away, keeps much of its log, or anything is
    being read. A table whose key is a text is compared up to 50,000 rows.
    """

    hours: Annotated[
        float,
        Meta(description="Each table once in so many hours, spread over them; 0: never.", ge=0),
    ] = 24.0


class Privacy(Value, frozen=True, kw_only=True):
    """What of a table is never stored, nowhere: neither in the hot store nor in lake, quarantine,
    backup or logs.

    It holds for what is stored from then on. After a change of these settings a table is read
    anew, and its history begins anew. The lake keeps the history until then, set aside as
    `…__until_…`, with what was stored before: to be rid of that too, drop those tables.
    """

    drop: Annotated[
        tuple[Text, ...],
        Meta(description="Columns that are not stored. A column of the key cannot be dropped."),
    ] = ()
    keep: Annotated[
        tuple[Text, ...] | None,
        Meta(
            description="Instead of `drop`: the only columns that are stored, beside the key and "
            "`hash`. One that is added to the table later is not, until it stands here."
        ),
    ] = None
    hash: Annotated[
        tuple[Text, ...],
        Meta(
            description="Columns of which a keyed hash is stored: HMAC-SHA-256 of the value's text "
            "with `privacy_key`, 64 hexadecimal digits, NULL for NULL. The same value has the same "
            "hash in every table, so that hashes can be joined and counted. A pseudonym, not "
            "anonymity: whoever has the key can try all values of a column that has few."
        ),
    ] = ()
    rows: Annotated[
        str,
        Meta(
            description="The only rows that are stored, by a condition over the table's own "
            "columns (dropped and hashed ones too, as they are in the source): `country <> 'DE'`. "
            "Comparisons, `AND`, `OR`, `NOT`, `IN`, `BETWEEN`, `LIKE`, `IS NULL`, `lower`, "
            "`upper`, `coalesce`. A row that comes to match is inserted, one that no longer does "
            "is deleted."
        ),
    ] = ""


_Copy = Annotated[
    CopyLoad, Meta(description="How hard the source may be read while tables are copied.")
]
_Changes = Annotated[
    LayoutChanges, Meta(description="What happens where a table's layout changes.")
]
_Log = Annotated[KeptLog, Meta(description="How much of its log the source may keep for us.")]
_Reconcile = Annotated[
    Reconcile, Meta(description="How often tables are compared with their source by themselves.")
]
_Privacy = Annotated[
    dict[Text, Privacy],
    Meta(
        description="What is left out of tables, by the name that `tables` gives them, before "
        "anything of them is stored."
    ),
]


class PostgresSource(Value, frozen=True, kw_only=True, tag="postgres", tag_field="type"):
    """A PostgreSQL database, followed by logical replication."""

    url: Annotated[
        Reference,
        Meta(
            description="`postgresql://user:password@host:port/database`, best as `${SHOP_URL}` or "
            "`file:/run/secrets/shop_url`, or with `${file:PATH}` for the password.",
            min_length=1,
            extra={"expected": "some text"},
        ),
    ]
    tables: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^[^.\x00-\x1f]{1,63}(\.[^.\x00-\x1f]{1,63})?$",
                    extra={"expected": "a table's name, with its schema unless that is public"},
                ),
            ],
            ...,
        ],
        Meta(
            description="Tables to capture. `orders` means `public.orders` and is `<source>.orders`"
            " in SQL; `sales.orders` is `<source>.sales__orders`.",
            min_length=1,
        ),
    ]
    copy: _Copy = CopyLoad()
    layout_changes: _Changes = LayoutChanges()
    log: _Log = KeptLog()
    reconcile: _Reconcile = Reconcile()
    failover_slot: Annotated[
        bool,
        Meta(
            description="Whether the replication slot is a failover slot (PostgreSQL 17), of which "
            "standbys with `sync_replication_slots` keep a copy."
        ),
    ] = True
    standby: Annotated[
        Reference,
        Meta(
            description="URL of the standby that would take over, as `url`. It is asked whether "
            "its copy of the slot is usable; without it that is not known, and not claimed."
        ),
    ] = ""
    privacy: _Privacy = msgspec.field(default_factory=dict)

    @property
    def home(self) -> str:
        """The schema whose tables are named without it."""
        return "public"

    def __repr__(self) -> str:
        return f"PostgresSource(url={redact_url(self.url)!r}, tables={self.tables!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:  # else rich would print the fields as is
        return [("url", redact_url(self.url)), ("tables", self.tables)]


class MysqlSource(Value, frozen=True, kw_only=True, tag="mysql", tag_field="type"):
    """A MySQL or MariaDB database, followed by its binary log; needs the extra `mysql`."""

    url: Annotated[
        Reference,
        Meta(
            description="`mysql://user:password@host:port/database`, best as `${SHOP_URL}` or "
            "`file:/run/secrets/shop_url`; behind `?` the options `ssl-mode`, `ssl-ca`, "
            "`ssl-cert`, `ssl-key`, `socket`, `connect-timeout`.",
            min_length=1,
            extra={"expected": "some text"},
        ),
    ]
    tables: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^[^.\x00-\x1f]{1,64}(\.[^.\x00-\x1f]{1,64})?$",
                    extra={"expected": "a table's name, with its database unless the URL names it"},
                ),
            ],
            ...,
        ],
        Meta(
            description="Tables to capture. `orders` is of the URL's database, and "
            "`<source>.orders` in SQL; `sales.orders` of another one is `<source>.sales__orders`.",
            min_length=1,
        ),
    ]
    copy: _Copy = CopyLoad()
    layout_changes: _Changes = LayoutChanges()
    log: _Log = KeptLog()
    reconcile: _Reconcile = Reconcile()
    privacy: _Privacy = msgspec.field(default_factory=dict)

    @property
    def home(self) -> str:
        """The database whose tables are named without it."""
        behind_scheme = self.url.partition("://")[2]
        return unquote(behind_scheme.partition("/")[2].partition("?")[0])

    def __repr__(self) -> str:
        return f"MysqlSource(url={redact_url(self.url)!r}, tables={self.tables!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:  # as above
        return [("url", redact_url(self.url)), ("tables", self.tables)]


Source = PostgresSource | MysqlSource


class Serve(Value, frozen=True, kw_only=True):
    """Addresses served. Loopback only, as long as there is no access control."""

    http: Annotated[
        str, Meta(description="`host:port` of dashboards and HTTP API; port 0 takes a free one.")
    ] = "127.0.0.1:8321"
    sql: Annotated[
        str | None,
        Meta(description="`host:port` of the SQL endpoint. Accepted, not served yet."),
    ] = None


class Lake(Value, frozen=True, kw_only=True):
    """Where the durable copy lies, in Iceberg tables that other programs read as well.

    A lake in a bucket needs an Iceberg REST catalog; write its keys as references.
    """

    uri: Annotated[Text, Meta(description="A folder (`./lake`) or `s3://bucket/prefix`.")] = (
        "./lake"
    )
    catalog: Annotated[
        Reference, Meta(description="Address of the Iceberg REST catalog of a lake in a bucket.")
    ] = ""
    warehouse: Annotated[
        str, Meta(description="What the catalog calls the lake's place; default: the bucket.")
    ] = ""
    endpoint: Annotated[
        Reference, Meta(description="Address of S3-compatible storage; default: that of AWS.")
    ] = ""
    region: Annotated[str, Meta(description="Region of the bucket.")] = ""
    access_key: Annotated[
        Reference, Meta(description="Access key; default: what the machine's role gives.")
    ] = ""
    secret_key: Annotated[Secret, Meta(description="Secret of the access key.")] = ""
    commit_seconds: Annotated[
        float, Meta(description="What was taken in is durable after about this long.", ge=1)
    ] = 30.0
    commit_megabytes: Annotated[
        float, Meta(description="Or sooner, once so much was logged.", ge=1)
    ] = 64.0
    history_days: Annotated[
        dict[Text, Annotated[int, Meta(ge=1)]],
        Meta(
            description="How many days of history to keep of a table, by its name in SQL "
            "(`shop.orders`); default: all. What still stands is always kept."
        ),
    ] = msgspec.field(default_factory=dict)
    publish: Annotated[
        tuple[Text, ...] | None,
        Meta(
            description="Tables and models that the lake shows as they stand, by name in SQL; "
            "default: every model."
        ),
    ] = None
    publish_by_month: Annotated[
        dict[Text, Text],
        Meta(
            description="Of what is published, the time column by whose month it is parted: only "
            "months in which something changed are written again. A model of metrics is parted by "
            "their time by itself."
        ),
    ] = msgspec.field(default_factory=dict)
    publish_minutes: Annotated[
        float, Meta(description="How often what is published is brought up to date.", ge=0.1)
    ] = 15.0

    def __repr__(self) -> str:
        return f"Lake(uri={self.uri!r}, catalog={self.catalog!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:  # else rich would print the keys
        return [("uri", self.uri), ("catalog", self.catalog)]


class Settings(Value, frozen=True, kw_only=True):
    """The project as a whole: its name, its clock, where data comes from and where it is served."""

    name: Annotated[Text, Meta(description="Name of the project, as people see it.")]
    sources: Annotated[
        dict[Name, Source],
        Meta(
            description="Where changes come from. A source's name is the schema of its tables "
            "in SQL.",
            min_length=1,
        ),
    ]
    time: Annotated[BusinessTime, Meta(description="The clock of the business.")] = BusinessTime()
    serve: Annotated[Serve, Meta(description="Addresses served.")] = Serve()
    lake: Annotated[
        Lake | None,
        Meta(description="Where the durable copy lies; `null`: there is none."),
    ] = Lake()
    privacy_key: Annotated[
        Secret,
        Meta(
            description="Secret key of hashed columns (`privacy`), at least 16 characters. With "
            "another key all hashes are others."
        ),
    ] = ""

    def __repr__(self) -> str:
        return f"Settings(name={self.name!r}, sources={self.sources!r}, lake={self.lake!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:  # else rich would print the key
        return [("name", self.name), ("sources", self.sources), ("lake", self.lake)]
