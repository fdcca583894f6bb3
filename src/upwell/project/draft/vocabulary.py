"""The words by which columns and tables are recognised.

English, as most schemas are; where no word is known, types and figures decide alone. A word is a
hint that can be wrong, which is why every draft says by which hint it went.
"""

from __future__ import annotations

from collections.abc import Mapping

# ── columns that are added up ────────────────────────────────────────────────────────────────────

#: A whole amount of money on its own, one row's worth; the higher the likelier.
AMOUNTS: Mapping[str, float] = {
    "sales": 10,
    "revenue": 10,
    "amount": 10,
    "total": 10,
    "turnover": 10,
    "gmv": 10,
    "subtotal": 9,
    "paid": 8,
    "payment": 8,
    "spend": 8,
    "value": 7,
    "net": 7,
    "gross": 7,
    "charge": 7,
    "income": 7,
    "proceeds": 7,
}
#: The price of one piece.
PRICES = frozenset({"price", "unitprice", "priceeach", "fare"})
#: Money beside the main amount.
SIDE_AMOUNTS = ("profit", "margin", "freight", "shipping", "tax", "vat", "fee", "tip", "commission")
QUANTITIES = frozenset(
    {"quantity", "qty", "units", "pieces", "pcs", "seats", "nights", "tickets", "copies"}
)
#: Words that make a number no amount and no quantity of what happened.
NOT_ADDED = frozenset(
    (
        "stock", "level", "reorder", "limit", "min", "max", "balance", "percent", "pct", "rate",
        "ratio", "score", "rating", "rank", "age", "year", "month", "weight", "height", "width",
        "length", "lat", "lng", "latitude", "longitude", "zip", "postal", "version", "position",
        "average", "avg", "per", "list", "available", "discount", "day", "number", "sequential",
    )
)  # fmt: skip

# ── times ────────────────────────────────────────────────────────────────────────────────────────

#: When something happened; the higher the likelier.
EVENT_TIMES: Mapping[str, float] = {
    "ordered": 10,
    "order": 10,
    "placed": 10,
    "purchase": 10,
    "purchased": 10,
    "sold": 10,
    "sale": 10,
    "invoice": 10,
    "invoiced": 10,
    "transaction": 10,
    "booked": 9,
    "booking": 9,
    "occurred": 9,
    "happened": 9,
    "event": 9,
    "payment": 8,
    "paid": 8,
    "rental": 8,
    "visit": 8,
    "started": 7,
    "date": 6,
    "time": 6,
    "timestamp": 6,
    "day": 6,
    "created": 6,
    "at": 5,
}
#: A time of something else, earlier or later.
OTHER_TIMES = frozenset(
    (
        "updated", "update", "modified", "changed", "deleted", "shipped", "ship", "shipping",
        "delivered", "delivery", "required", "due", "expires", "expired", "expiry", "expiration",
        "valid", "birth", "born", "dob", "hire", "hired", "end", "ended", "last", "next",
        "cancelled", "canceled", "approved", "limit", "closed", "estimated", "until", "return",
        "returned", "refunded", "voided", "answer", "verified", "login", "carrier",
    )
)  # fmt: skip

# ── columns that are grouped by ──────────────────────────────────────────────────────────────────

SPLITS: Mapping[str, float] = {
    "category": 6,
    "segment": 5,
    "region": 5,
    "country": 5,
    "channel": 5,
    "brand": 5,
    "genre": 5,
    "department": 5,
    "status": 4,
    "method": 4,
    "store": 4,
    "state": 3.5,
    "type": 3,
    "kind": 3,
    "class": 3,
    "group": 3,
    "market": 3,
    "division": 3,
    "sector": 3,
    "industry": 3,
    "territory": 3,
    "mode": 3,
    "plan": 3,
    "tier": 3,
    "source": 3,
    "medium": 3,
    "campaign": 3,
    "warehouse": 3,
    "currency": 3,
    "language": 2,
    "size": 2,
    "color": 2,
    "colour": 2,
    "city": 1,
    "gender": 1,
}
#: Texts that tell one row from another, or nothing to who adds up.
NOT_SPLIT = frozenset(
    (
        "phone", "fax", "email", "mail", "address", "street", "url", "link", "homepage", "website",
        "path", "photo", "image", "picture", "description", "desc", "note", "notes", "comment",
        "comments", "remark", "text", "body", "content", "message", "hash", "token", "password",
        "salt", "ip", "agent", "first", "last", "middle", "firstname", "lastname", "surname",
        "contact", "courtesy", "salutation", "zip", "postal", "postcode", "birth", "iban", "ssn",
        "sku", "barcode", "ean", "isbn", "lat", "lng", "uuid", "guid", "id", "number", "extension",
        "composer", "username", "login", "slug", "json", "metadata",
    )
)  # fmt: skip
#: A column that names the row it stands in, the likeliest first.
TITLES = ("name", "title", "label", "description")
#: Words too general to stand without what they are of.
GENERAL = frozenset({"name", "title", "type", "status", "kind", "class", "group", "label", "code"})

# ── tables ───────────────────────────────────────────────────────────────────────────────────────

SALES = frozenset(
    (
        "order", "orders", "sale", "sales", "invoice", "invoices", "purchase", "purchases",
        "transaction", "transactions", "basket", "cart", "checkout", "receipt", "superstore",
    )
)  # fmt: skip
#: What happens, and has parts: the table in which a line's time stands.
EVENTS = SALES | {
    "booking", "reservation", "rental", "payment", "shipment", "visit", "session", "trip",
    "ticket", "subscription", "bookings", "reservations", "rentals", "payments", "shipments",
    "visits", "sessions", "trips", "tickets", "events", "event",
}  # fmt: skip
#: What goes back, or is planned: not what a page on sales begins with.
REVERSALS = frozenset(
    {"refund", "refunds", "return", "returns", "credit", "budget", "budgets", "forecast", "quota"}
)
PRODUCTS = frozenset(
    (
        "product", "products", "item", "items", "article", "articles", "track", "tracks", "sku",
        "service", "services", "film", "films", "movie", "movies", "book", "books", "course",
        "courses", "room", "rooms", "stock",
    )
)  # fmt: skip
CUSTOMERS = frozenset(
    (
        "customer", "customers", "client", "clients", "user", "users", "account", "accounts",
        "buyer", "buyers", "member", "members", "subscriber", "subscribers", "patient", "guest",
    )
)  # fmt: skip
#: Whose attributes seldom matter on a page on what was sold.
BACKGROUND = frozenset(
    (
        "supplier", "suppliers", "vendor", "vendors", "employee", "employees", "staff", "rep",
        "reps", "address", "addresses",
    )
)  # fmt: skip
CANCELLED = frozenset({"cancelled", "canceled", "voided", "void", "refunded", "returned", "failed"})
