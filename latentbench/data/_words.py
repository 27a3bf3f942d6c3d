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
PROBLEM_WORDS = tuple(
    "How many does have has more fewer than times as twice half a third quarter and together".split()
)

WORDS = tuple(
    dict.fromkeys([*NAMES, *(form for forms in OBJECTS for form in forms), *PROBLEM_WORDS])
)
