"""What the sample shop sells and to whom: names only, no chance and no clock.

Eight categories of fifty products: ten kinds in five variants each, so that a list of products
reads like a shop's and not like a test. Prices are whole pence, ending on 5 or 9.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Regions of the business, with their share of its customers.
REGIONS = {
    "London": 0.24,
    "South East": 0.19,
    "Midlands": 0.16,
    "North West": 0.13,
    "Yorkshire": 0.10,
    "Scotland": 0.09,
    "Wales": 0.05,
    "Northern Ireland": 0.04,
}


@dataclass(frozen=True, slots=True)
class Category:
    """``kinds`` maps a name to its price in pounds; a variant multiplies that price."""

    name: str
    code: str
    share: float  # of the lines sold
    kinds: dict[str, int]
    variants: dict[str, float]
    weight_kg: float


@dataclass(frozen=True, slots=True)
class Product:
    """One article. ``price_pence`` is what it costs today."""

    sku: str
    name: str
    kind: str
    variant: str
    category: str
    price_pence: int
    weight_kg: float


CATEGORIES = (
    Category(
        name="Kitchen",
        code="KIT",
        share=0.21,
        kinds={
            "Enamel Casserole": 58,
            "Cast Iron Skillet": 42,
            "Carbon Steel Wok": 36,
            "Chef's Knife": 49,
            "Pour-Over Kettle": 44,
            "Cafetière": 29,
            "Oak Chopping Board": 34,
            "Stoneware Mixing Bowl": 22,
            "Pepper Mill": 26,
            "Loaf Tin": 14,
        },
        variants={"Slate": 1.0, "Sage": 1.0, "Cream": 1.0, "Ink Blue": 1.05, "Copper": 1.3},
        weight_kg=1.4,
    ),
    Category(
        name="Garden",
        code="GAR",
        share=0.13,
        kinds={
            "Hand Trowel": 14,
            "Secateurs": 27,
            "Watering Can": 32,
            "Cold Frame": 89,
            "Raised Bed": 64,
            "Bird Feeder": 18,
            "Potting Bench": 119,
            "Wildflower Seed Mix": 7,
            "Garden Twine": 5,
            "Fire Bowl": 96,
        },
        variants={"Small": 0.8, "Medium": 1.0, "Large": 1.35, "Heritage": 1.5, "Recycled": 1.1},
        weight_kg=2.6,
    ),
    Category(
        name="Books",
        code="BOO",
        share=0.17,
        kinds={
            "The Tidal Year": 14,
            "A Field Guide to Hedgerows": 18,
            "Bread, Slowly": 24,
            "The Lighthouse Keepers": 12,
            "Letters from Harris": 13,
            "Northern Walks": 16,
            "The Small Orchard": 20,
            "A History of Rain": 15,
            "One Pot, Forty Suppers": 22,
            "The Cartographer's Niece": 12,
        },
        variants={
            "Paperback": 0.75,
            "Hardback": 1.3,
            "Illustrated": 1.6,
            "Audiobook": 1.1,
            "Large Print": 1.2,
        },
        weight_kg=0.5,
    ),
    Category(
        name="Toys",
        code="TOY",
        share=0.12,
        kinds={
            "Wooden Railway": 46,
            "Marble Run": 34,
            "Building Blocks": 28,
            "Plush Badger": 19,
            "Shape Sorter": 21,
            "Kite": 17,
            "Jigsaw, 500 Pieces": 15,
            "Doll's House": 88,
            "Story Dice": 11,
            "Balance Bike": 79,
        },
        variants={"Classic": 1.0, "Forest": 1.0, "Seaside": 1.0, "Deluxe": 1.45, "Pocket": 0.6},
        weight_kg=0.9,
    ),
    Category(
        name="Outdoor",
        code="OUT",
        share=0.12,
        kinds={
            "Two-Person Tent": 149,
            "Down Sleeping Bag": 118,
            "Insulated Flask": 27,
            "Trail Backpack": 84,
            "Waterproof Jacket": 109,
            "Merino Base Layer": 52,
            "Head Torch": 31,
            "Folding Stove": 38,
            "Walking Poles": 46,
            "Dry Bag": 16,
        },
        variants={"Moss": 1.0, "Rust": 1.0, "Night": 1.0, "Light": 1.25, "Expedition": 1.6},
        weight_kg=1.2,
    ),
    Category(
        name="Beauty",
        code="BEA",
        share=0.11,
        kinds={
            "Hand Cream": 12,
            "Oat Soap": 6,
            "Beard Oil": 15,
            "Face Serum": 29,
            "Bath Salts": 14,
            "Shaving Brush": 24,
            "Lip Balm": 5,
            "Body Scrub": 17,
            "Shampoo Bar": 9,
            "Night Balm": 26,
        },
        variants={"Lavender": 1.0, "Sea Salt": 1.0, "Bergamot": 1.05, "Rose": 1.1, "Plain": 0.9},
        weight_kg=0.2,
    ),
    Category(
        name="Pets",
        code="PET",
        share=0.08,
        kinds={
            "Dog Lead": 18,
            "Slow Feeder": 16,
            "Cat Tree": 74,
            "Wool Dog Bed": 62,
            "Salmon Treats": 6,
            "Scratching Post": 33,
            "Travel Bowl": 11,
            "Rope Toy": 8,
            "Grooming Brush": 14,
            "Harness": 29,
        },
        variants={"Small": 0.85, "Medium": 1.0, "Large": 1.2, "Tweed": 1.3, "Everyday": 0.9},
        weight_kg=0.8,
    ),
    Category(
        name="Stationery",
        code="STA",
        share=0.06,
        kinds={
            "Dot Grid Notebook": 13,
            "Fountain Pen": 36,
            "Desk Diary": 19,
            "Brass Ruler": 12,
            "Ink, 50 ml": 14,
            "Letter Set": 16,
            "Pencil Roll": 22,
            "Wall Planner": 18,
            "Wax Seal Kit": 24,
            "Washi Tape": 6,
        },
        variants={"Navy": 1.0, "Ochre": 1.0, "Forest": 1.0, "Leather": 1.6, "Recycled": 0.9},
        weight_kg=0.3,
    ),
)

FIRST_NAMES = (
    *("Aisha", "Alfie", "Amelia", "Angus", "Arjun", "Beth", "Callum", "Carys", "Chloe", "Daniel"),
    *("Dylan", "Eilidh", "Ella", "Emre", "Ewan", "Farah", "Finlay", "Freya", "George", "Grace"),
    *("Hannah", "Harriet", "Idris", "Imogen", "Isla", "Jack", "Jasmine", "Kofi", "Leah", "Lewis"),
    *("Maeve", "Mateusz", "Megan", "Mohammed", "Niamh", "Noah", "Olivia", "Oscar", "Priya"),
    *("Rhys", "Rory", "Rosie", "Samira", "Sophie", "Theo", "Tomos", "Wei", "Yusuf", "Zara"),
)
LAST_NAMES = (
    *("Ahmed", "Bailey", "Begum", "Bell", "Campbell", "Carter", "Chen", "Clarke", "Davies"),
    *("Edwards", "Evans", "Fraser", "Green", "Griffiths", "Hall", "Harris", "Hughes", "Hussain"),
    *("Jackson", "Jones", "Kaur", "Kelly", "Khan", "Kowalski", "Lewis", "MacDonald", "Martin"),
    *("Mensah", "Mitchell", "Moore", "Morgan", "Murphy", "Murray", "O'Neill", "Okafor", "Owen"),
    *("Patel", "Phillips", "Price", "Reid", "Roberts", "Robinson", "Scott", "Shah", "Singh"),
    *("Smith", "Stewart", "Taylor", "Thomas", "Thompson", "Turner", "Walker", "White", "Wilson"),
)

CHANNELS = ("mobile", "web", "store")
PAYMENT_METHODS = ("card", "wallet", "bank_transfer", "gift_card")
REFUND_REASONS = ("arrived damaged", "changed my mind", "wrong size", "late delivery", "faulty")


def products() -> tuple[Product, ...]:
    """Every article of every category, in order of category, kind and variant."""
    return tuple(
        Product(
            sku=f"{category.code}-{kind_number:02}{variant_number}",
            name=f"{kind}, {variant}",
            kind=kind,
            variant=variant,
            category=category.name,
            price_pence=_shelf_price(pounds * factor),
            weight_kg=round(category.weight_kg * factor, 2),
        )
        for category in CATEGORIES
        for kind_number, (kind, pounds) in enumerate(category.kinds.items(), start=1)
        for variant_number, (variant, factor) in enumerate(category.variants.items(), start=1)
    )


def _shelf_price(pounds: float) -> int:
    """A price in pence as a shop writes it: 4.95 below ten pounds, 13.99 above."""
    whole = max(round(pounds), 2)
    return whole * 100 - (5 if whole < 10 else 1)
