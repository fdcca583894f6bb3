"""The page in a real browser: it moves, and does not get in the way of who is using it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from upwell.testing import MemoryFeed

from .conftest import Serve, Served, wait_until
from .shop import LONG_DASHBOARD, SCHEMA, Row, batch, make_project, table

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}

NET_SALES = "[data-tile='0'] [data-part=value]"
ORDERS = "[data-tile='1'] [data-part=value]"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, serve: Serve) -> Iterator[Page]:  # noqa: ARG001 - the server outlives it
    """A page that fails its test if anything is said on the console but "503"."""
    page = chromium.new_page(locale="en-GB", viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    page.close()
    assert [each for each in said if "503 (Service Unavailable)" not in each] == []


def now_us() -> int:
    return time.time_ns() // 1000


def sale(order: int, region: str, category: str | None, amount: str) -> Row:
    return (order, now_us(), region, category, 1, Decimal(amount))


@pytest.fixture
def shop(serve: Serve, feed: MemoryFeed) -> Served:
    """Three orders: two regions, three categories, one of them NULL."""
    rows = [
        sale(1, "North", "Hats", "60.00"),
        sale(2, "North", "Shoes", "30.00"),
        sale(3, "South", None, "10.00"),
    ]
    feed.replace(SCHEMA, table(rows))
    feed.commit()
    served = serve()
    wait_until(lambda: served.site.replica.version is not None)
    return served


def show(page: Page, shop: Served, path: str = "/") -> None:
    page.goto(f"http://127.0.0.1:{shop.port}{path}")
    expect(page.locator("#age")).to_have_attribute("data-state", "live")


def sell(feed: MemoryFeed, *rows: Row) -> None:
    feed.change(SCHEMA.name, batch(rows, [1] * len(rows)))
    feed.commit()


def row(label: str) -> str:
    """The row of a ranked list."""
    return f"button.bar:has(.bar-label:has-text('{label}'))"


def test_numbers_move_by_themselves_and_the_rest_of_the_page_stands_still(
    page: Page, shop: Served, feed: MemoryFeed
) -> None:
    show(page, shop)
    expect(page.locator(NET_SALES)).to_have_text("£100.00")
    page.evaluate(
        """() => {
            window.removed = 0;
            new MutationObserver((changes) => {
                for (const change of changes)
                    for (const node of change.removedNodes)
                        if (node.nodeType === Node.ELEMENT_NODE) window.removed += 1;
            }).observe(document.getElementById("board"), { subtree: true, childList: true });
        }"""
    )
    sell(feed, sale(4, "North", "Hats", "1400.25"))
    expect(page.locator(NET_SALES)).to_have_text("£1,500")
    expect(page.locator(ORDERS)).to_have_text("4")
    assert page.evaluate("window.removed") == 0


def test_focus_and_hover_survive_updates_also_when_the_order_of_a_list_changes(
    page: Page, shop: Served, feed: MemoryFeed
) -> None:
    show(page, shop)
    shoes = page.locator(row("Shoes"))
    shoes.focus()
    page.locator("[data-tile='2'] .definition-term").hover()
    card = page.locator("#definition-2")
    expect(card).to_be_visible()
    sell(feed, sale(4, "South", "Shoes", "500.00"))
    expect(page.locator(ORDERS)).to_have_text("4")
    expect(shoes).to_be_focused()
    expect(card).to_be_visible()
    expect(card).to_contain_text("sum(units)")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    page.locator("h1").hover()
    page.evaluate("document.activeElement.blur()")
    first = page.locator("[data-tile='6'] .bar-label").first
    expect(first).to_contain_text("Shoes")


def test_the_charts_tooltip_stays_open_and_follows_the_numbers(
    page: Page, shop: Served, feed: MemoryFeed
) -> None:
    show(page, shop)
    chart = page.locator("[data-part=chart]")
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 18, box["y"] + box["height"] / 2)
    tip = page.locator(".tip")
    expect(tip).to_contain_text("£100.00")
    expect(tip).to_contain_text("Today so far")
    sell(feed, sale(4, "South", "Hats", "25.00"))
    expect(page.locator(".tip")).to_contain_text("£125.00")


def test_choosing_rows_filters_the_board_and_the_back_button_takes_it_back(
    page: Page, shop: Served
) -> None:
    show(page, shop)
    page.locator(row("North")).click()
    expect(page.locator(NET_SALES)).to_have_text("£90.00")
    assert page.url.endswith("/?region=North")
    expect(page.locator(row("North"))).to_have_attribute("aria-pressed", "true")
    expect(page.locator(row("South")).locator(".bar-value")).to_have_text("£10.00")
    page.locator(row("Hats")).click()
    expect(page.locator(NET_SALES)).to_have_text("£60.00")
    expect(page.locator(".chip[data-id]")).to_have_count(2)
    export = page.locator("#export").get_attribute("href")
    assert export is not None
    assert "region=North" in export
    page.go_back()
    expect(page.locator(NET_SALES)).to_have_text("£90.00")
    page.get_by_role("button", name="Remove filter Region: North").click()
    expect(page.locator(NET_SALES)).to_have_text("£100.00")
    expect(page.locator("#chips")).to_be_hidden()


def test_an_address_says_everything_about_what_is_shown(page: Page, shop: Served) -> None:
    show(page, shop, "/dashboards/sales?period=24h&category=~")
    expect(page.locator(NET_SALES)).to_have_text("£10.00")
    expect(page.locator(".chip[data-id]")).to_have_text("Category (none)×")
    expect(page.get_by_role("button", name="24 hours")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="7 days").click()
    expect(page.locator("[data-part=caption]").first).to_have_text("Hourly · Europe/London time")
    assert page.url.endswith("?period=7d&category=%7E")


def test_the_badge_says_why_data_is_old_and_that_the_server_is_gone(
    page: Page, shop: Served, feed: MemoryFeed
) -> None:
    show(page, shop)
    feed.stand_still("the database is away", complete_through_us=now_us() - 90_000_000)
    badge = page.locator("#age")
    notice = page.locator("#notice")
    expect(badge).to_have_attribute("data-state", "delayed")
    expect(page.locator("#announce")).to_have_text("Delayed")
    expect(notice).to_contain_text("The database is away. They catch up by themselves.")
    expect(page.locator(NET_SALES)).to_have_text("£100.00")
    feed.stand_still("", complete_through_us=0)
    expect(badge).to_have_attribute("data-state", "live")
    expect(notice).to_be_hidden()
    shop.site.hub.end_streams()
    expect(badge).to_have_attribute("data-state", "reconnecting")
    expect(notice).to_contain_text("the server is stopping")


def test_what_does_not_mend_itself_is_said_without_details_also_beside_fresh_data(
    page: Page, shop: Served, feed: MemoryFeed
) -> None:
    show(page, shop)
    notice = page.locator("#notice")
    gone = "the log is gone\n  where: slot_x\n  next:  take a new snapshot"
    feed.stand_still(gone, complete_through_us=now_us() - 90_000_000)
    expect(notice).to_contain_text("The log is gone. Next: take a new snapshot.")
    expect(notice).not_to_contain_text("slot_x")
    expect(notice).not_to_contain_text("by themselves")
    held = "sales stays as it was: no such number\n\nLINE 2: select"
    feed.stand_still(held, complete_through_us=now_us() + 60_000_000)
    expect(page.locator("#age")).to_have_attribute("data-state", "live")
    expect(notice).to_have_text("Sales stays as it was: no such number.", timeout=10_000)


def test_a_page_that_waits_for_the_first_data_fills_itself(
    page: Page, serve: Serve, feed: MemoryFeed
) -> None:
    served = serve()
    page.goto(f"http://127.0.0.1:{served.port}/")
    expect(page.locator("#age")).to_have_attribute("data-state", "waiting")
    feed.replace(SCHEMA, table([sale(1, "North", "Hats", "60.00")]))
    feed.commit()
    expect(page.locator(NET_SALES)).to_have_text("£60.00")


def test_the_chart_can_be_read_as_a_table(page: Page, shop: Served, feed: MemoryFeed) -> None:
    show(page, shop, "/?period=24h")
    page.get_by_text("Show as table").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(24)
    expect(page.locator("thead th")).to_have_text(["Hour", "Hats", "Shoes", "(none)", "Total"])
    expect(rows.first.locator("td").last).to_have_text("£100.00")
    sell(feed, sale(4, "South", "Hats", "25.00"))
    expect(rows.first.locator("td").last).to_have_text("£125.00")


@pytest.fixture
def old_shop(serve: Serve, feed: MemoryFeed) -> Served:
    """Orders of 2010 and 2011, on a board that shows all of them."""
    days = [datetime(2010, 12, 15, 9, tzinfo=UTC), datetime(2011, 12, 9, 12, tzinfo=UTC)]
    at_us = [int(day.timestamp()) * 1_000_000 for day in days]
    rows = [
        (number, at, "North", "Hats", 1, Decimal(10 * number)) for number, at in enumerate(at_us, 1)
    ]
    feed.replace(SCHEMA, table([*rows, (3, None, "North", "Hats", 1, Decimal(1))]))
    feed.commit()
    dashboard = LONG_DASHBOARD.replace("grain: {}", "grain: {all: month}")
    served = serve(make_project(dashboard=dashboard))
    wait_until(lambda: served.site.replica.version is not None)
    return served


def colours(page: Page, selector: str) -> list[str]:
    return list(
        page.locator(selector).evaluate_all("all => all.map(each => each.style.backgroundColor)")
    )


def test_values_drawn_together_have_each_their_colour_and_keep_it(
    page: Page, serve: Serve, feed: MemoryFeed
) -> None:
    names = [chr(ord("A") + place) for place in range(25)]
    drawn = ["A", "B", "C", "K", "L", "U", "V", "W"]  # of ten colours, every tenth letter's is one
    feed.replace(
        SCHEMA,
        table(
            sale(order, "North", name, "100.00" if name in drawn else "1.00")
            for order, name in enumerate(names)
        ),
    )
    feed.commit()
    show(page, serve())
    legend = page.locator("[data-part=legend] li")
    expect(legend).to_have_text([*drawn, "Other"])
    swatches = colours(page, "[data-part=legend] .swatch")
    assert len(set(swatches)) == len(drawn) + 1
    bars = colours(page, "[data-tile='6'] .bar-fill")
    assert bars == [*swatches[:-1], *[swatches[-1]] * 4]  # what the chart has no layer for is grey
    page.locator(row("U")).first.click()
    expect(legend).to_have_text(["U"])
    assert colours(page, "[data-part=legend] .swatch") == [swatches[drawn.index("U")]]


def test_the_rest_of_a_list_is_a_number_that_makes_no_bar_smaller(
    page: Page, serve: Serve, feed: MemoryFeed
) -> None:
    feed.replace(
        SCHEMA, table(sale(order, f"Region {order:02}", "Hats", "9.50") for order in range(200))
    )
    feed.commit()
    show(page, serve())
    listed = page.locator("[data-tile='5'] .bar")
    expect(listed.last).to_contain_text("£1,786.00")  # as exact as the rows above it
    expect(listed.last.locator(".bar-track")).to_have_count(0)
    widths = page.locator("[data-tile='5'] .bar-fill").evaluate_all(
        "all => all.map(each => each.style.width)"
    )
    assert widths == ["100%"] * 12


def test_data_of_any_age_is_shown_with_its_days_and_without_comparison(
    page: Page, old_shop: Served
) -> None:
    show(page, old_shop)
    header = page.locator("#window")
    expect(header).to_contain_text(re.compile(r"^15 Dec 2010\s–\s9 Dec 2011 · 1 row left out"))
    expect(page.locator(NET_SALES)).to_have_text("£30.00")
    expect(page.locator(".number-change").first).to_be_hidden()
    expect(page.locator(".period")).to_have_text(["24 h", "7 days", "30 days", "12 months", "All"])
    page.get_by_role("button", name="12 months").click()
    expect(header).to_contain_text("against the 12 months before")
    expect(page.locator(NET_SALES)).to_have_text("£0.00")
    expect(page.locator("[data-tile='0'] [data-part=previous]")).to_have_text("from £0.00")
    assert page.url.endswith("?period=12m")
    page.get_by_role("button", name="All").click()
    expect(page.locator(".number-change").first).to_be_hidden()


def test_months_are_named_in_the_tooltip_and_the_table_with_what_they_leave_out(
    page: Page, old_shop: Served
) -> None:
    show(page, old_shop)
    expect(page.locator("[data-part=caption]").first).to_have_text("Monthly · Europe/London time")
    box = page.locator("[data-part=chart]").bounding_box()
    assert box is not None
    tip = page.locator(".tip")
    page.mouse.move(box["x"] + box["width"] - 18, box["y"] + box["height"] / 2)
    expect(tip).to_contain_text("December 2011")
    expect(tip.locator(".tip-note")).to_have_text("Only until 9 Dec")
    page.mouse.move(box["x"] + 44, box["y"] + box["height"] / 2)
    expect(tip).to_contain_text("December 2010")
    expect(tip.locator(".tip-note")).to_have_text("Only from 15 Dec")
    page.get_by_text("Show as table").click()
    expect(page.locator("thead th").first).to_have_text("Month")
    expect(page.locator("tbody th").first).to_have_text("December 2011")
    expect(page.locator("tbody tr")).to_have_count(13)


AXIS = """async ([days, grain, width]) => {
    const folder = document.querySelector("script[type=module]").src.replace("page.js", "");
    const { timeLabels } = await import(`${folder}timeaxis.js`);
    const { clock } = await import(`${folder}format.js`);
    return [...timeLabels(days.map(Date.parse), grain, clock("UTC"), width).values()];
}"""


def test_an_axis_has_as_many_labels_as_there_is_room_and_the_year_where_it_changes(
    page: Page, old_shop: Served
) -> None:
    show(page, old_shop)

    def labels(first: str, count: int, grain: str, width: int) -> list[str]:
        start = date.fromisoformat(first)
        if grain == "month":
            months = (start.year * 12 + start.month - 1 + each for each in range(count))
            days = [date(month // 12, month % 12 + 1, 1) for month in months]
        else:
            step = timedelta(days=7 if grain == "week" else 1)
            days = [start + each * step for each in range(count)]
        said: list[str] = page.evaluate(AXIS, [[f"{each}" for each in days], grain, width])
        return said

    assert labels("1996-07-01", 8, "month", 1000) == (
        ["Jul\n1996", "Aug", "Sept", "Oct", "Nov", "Dec", "Jan\n1997", "Feb"]
    )
    assert labels("1996-07-01", 23, "month", 280) == ["Jul\n1996", "Jan\n1997", "Jul", "Jan\n1998"]
    assert labels("2010-11-29", 20, "week", 1000) == ["Dec\n2010", "Jan\n2011", "Feb", "Mar", "Apr"]
    assert labels("2011-12-01", 120, "day", 200) == ["Dec\n2011", "Jan\n2012", "Feb", "Mar"]
    assert labels("2011-12-30", 4, "day", 1000) == (
        ["30 Dec\n2011", "31 Dec", "1 Jan\n2012", "2 Jan"]
    )
    assert labels("1999-01-01", 4 * 365, "day", 260) == ["1999", "2000", "2001", "2002"]
    this_year = f"{datetime.now(UTC).year}"
    assert labels(f"{this_year}-01-01", 3, "month", 1000) == ["Jan", "Feb", "Mar"]
    assert labels(f"{this_year}-01-05", 1, "day", 300) == ["5 Jan"]


def test_the_span_of_all_grows_on_an_open_page(
    page: Page, old_shop: Served, feed: MemoryFeed
) -> None:
    show(page, old_shop)
    expect(page.locator("#window")).to_contain_text("9 Dec 2011 ·")
    sell(feed, sale(4, "South", "Hats", "5.00"))
    expect(page.locator("#window")).to_contain_text("today so far")
    expect(page.locator(NET_SALES)).to_have_text("£35.00")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/?period=7d&region=North&category=Hats", "/?period=9d"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    chromium: Browser, shop: Served, feed: MemoryFeed, path: str, scheme: str
) -> None:
    long = "A category with a name that is much longer than a phone is wide, and then some"
    sell(feed, sale(9, "North", long, "123456789.00"))
    context = chromium.new_context(
        viewport=PHONE,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        is_mobile=True,
        has_touch=True,
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{shop.port}{path}")
    page.wait_for_load_state("load")
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    if "9d" not in path:
        page.locator("#menu-button").tap()
        expect(page.get_by_text("Export CSV")).to_be_visible()
        overflow = max(
            overflow, page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        )
    context.close()
    assert overflow <= 0
    assert (background == "rgb(14, 17, 22)") == (scheme == "dark")


def test_the_chosen_colours_are_remembered(page: Page, shop: Served) -> None:
    show(page, shop)
    button = page.locator("#theme")
    button.click()
    expect(button).to_have_attribute("aria-label", "Colours: light")
    button.click()
    page.reload()
    expect(button).to_have_attribute("aria-label", "Colours: dark")
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
