"""The words that the generators of this project write with, and so the vocabulary of `word`."""

from __future__ import annotations

NAMES = (
    *("Tom", "Ann", "Bob", "Eve", "Max", "Mia", "Sam", "Zoe", "Ben", "Ida", "Leo", "Amy"),
    *("Kai", "Ivy", "Jon", "Una", "Hal", "Liv", "Ned", "Ada", "Rex", "Fay", "Gus", "Kim"),
    *("Dan", "Joy", "Pat", "Ria", "Ted", "Sue", "Vic", "Wim"),
)
# singular, plural
OBJECTS = (
    *(("apple", "apples"), ("book", "books"), ("coin", "coins"), ("stamp", "stamps")),
    *(("shell", "shells"), ("card", "cards"), ("pencil", "pencils"), ("marble", "marbles")),
    *(("button", "buttons"), ("stone", "stones"), ("ticket", "tickets"), ("plum", "plums")),
    *(("sticker", "stickers"), ("ribbon", "ribbons"), ("lamp", "lamps"), ("cup", "cups")),
)
PROBLEM_WORDS = (
    *("How", "many", "does", "have", "has", "more", "fewer", "than", "times", "as", "twice"),
    *("half", "a", "third", "quarter", "and", "together", "owns", "The", "bag", "of", "holds"),
    *("but", "the", "number", "that", "For", "each", "there", "are"),
)

PROSQA_NAMES = (
    *("Tom", "Bob", "Max", "Gabriel", "Polly", "Oliver", "Alex", "Jack", "Carol"),
    *("Sam", "Stella", "Sally", "Eva", "Fae", "Rex", "Davis", "Wren"),
)
PROSQA_CATEGORIES = (
    *("bompus", "boompus", "brimpus", "chorpus", "dumpus", "felpus", "fompus", "gerpus"),
    *("gorpus", "grimpus", "gwompus", "hilpus", "impus", "jelpus", "jompus", "kerpus"),
    *("lempus", "lorpus", "numpus", "quimpus", "rempus", "rompus", "rorpus", "scrompus"),
    *("shumpus", "sterpus", "storpus", "terpus", "timpus", "tumpus", "vumpus", "worpus"),
    *("wumpus", "yerpus", "yimpus", "yumpus", "zhorpus", "zumpus"),
)
PRONTOQA_NAMES = ("Sally", "Sam", "Max", "Polly", "Stella", "Fae", "Wren", "Alex", "Rex")
PRONTOQA_CATEGORIES = (
    *("brimpus", "dumpus", "gorpus", "grimpus", "impus", "jompus", "lempus", "lorpus"),
    *("numpus", "rompus", "shumpus", "sterpus", "tumpus", "vumpus", "wumpus", "yumpus", "zumpus"),
)
# Properties of one family exclude each other.
PRONTOQA_FAMILIES = (
    ("aggressive", "amenable", "angry", "kind", "mean"),
    ("bitter", "sour", "spicy", "sweet"),
    ("blue", "brown", "orange", "red"),
    ("bright", "dull"),
    ("cold", "hot", "temperate"),
    ("discordant", "loud", "melodic", "muffled"),
    ("earthy", "floral", "fruity"),
    ("fast", "moderate", "slow"),
    ("feisty", "happy", "nervous", "shy"),
    ("large", "small"),
    ("liquid", "luminous", "metallic", "wooden"),
    ("opaque", "transparent"),
    ("overcast", "rainy", "snowy", "sunny", "windy"),
)
LOGIC_WORDS = (
    *("Each", "Every", "Is", "True", "False", "true", "false"),
    *("is", "are", "an", "or", "not"),
)

WORDS = tuple(
    dict.fromkeys(
        [
            *NAMES,
            *(form for forms in OBJECTS for form in forms),
            *PROBLEM_WORDS,
            *PROSQA_NAMES,
            *PROSQA_CATEGORIES,
            *(f"{category}es".capitalize() for category in PRONTOQA_CATEGORIES),
            *(f"{category}es" for category in PRONTOQA_CATEGORIES),
            *(word for family in PRONTOQA_FAMILIES for word in family),
            *LOGIC_WORDS,
        ]
    )
)
