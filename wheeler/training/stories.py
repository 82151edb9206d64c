"""Short children's stories from a small grammar, so that a fresh machine trains without a download.

    python -m wheeler.training.stories                          # three stories of the training split
    python -m wheeler.training.stories --split validation -n 5

    stories("train"), stories("validation")                     # from Python: 8,000 and 500 texts

All text is in stories.txt beside this file: lists of names and words, and templates of stories with marks in them. Its
first lines explain sections and marks. It is read when the first story is asked for, and checked as a whole, because a
slip in it would otherwise show as a wrong story among thousands.

The same call gives the same stories on every Python version: only `random.Random(str)` and its `random()` are used,
which Python promises to keep. The split is a checksum of the text, so no story is in both, whatever `n` and `seed` are.
"""

import re
import sys
import zlib
from functools import cache
from pathlib import Path
from random import Random

from wheeler.cli import Parser, open_console

TEXT = Path(__file__).with_name("stories.txt")
SIZES = {"train": 8000, "validation": 500}
WORDS = range(30, 251)  # allowed length of a story
PATIENCE = 10_000  # after so many tries in a row without a new story there are no more
GENDERS = "child / he / him / his / himself"  # the sections that every text file has; others are "{...}" and "plot ..."
LISTS = (GENDERS, "girls", "boys", "animals", "women", "men", "friends", "{adj}", "{num}", "{n}")
TEMPLATES = ("homes of children", "homes of animals", "opening", "plot animal", "short stories")


def _parse(template):
    """Template -> its alternatives, lists of ("", text), ("{", mark), ("[", alternatives) and ("[?", alternatives)."""
    tokens = iter(re.findall(r"\[\?|[\[\]|]|\{\w+\}|[^\[\]|{}]+", " ".join(template.split())))

    def alternatives():
        found = [[]]
        for token in tokens:
            if token == "]":
                break
            if token == "|":
                found.append([])
            elif token[0] == "[":
                found[-1].append((token, alternatives()))
            else:
                found[-1].append(("{", token[1:-1]) if token[0] == "{" else ("", token))
        return found

    parsed = alternatives()
    if next(tokens, None) or template.count("[") != template.count("]"):
        raise ValueError(f'a bracket has no partner in "{template[:40]} ..."')
    return parsed


def _read(text):
    """Text of the file -> {heading: items of a list, or alternatives}; ValueError says what is wrong with it."""
    head, *found = re.split(r"^## *(.*)$", re.sub(r"^#(?!#).*\n", "", text, flags=re.M), flags=re.M)
    if head.strip() or found[-2:-1] != ["end"] or found[-1].strip():  # else a file cut short could look whole
        raise ValueError('it does not begin with "#" and close with a line "## end"')
    rules, marks = {}, {}
    for heading, body in zip(found[:-2:2], found[1:-2:2]):
        template = heading in TEMPLATES or heading.startswith("plot ")
        separator = "[,\n]" if not template or heading.startswith("homes") else r"\n\s*\n"
        items = [item.strip() for item in re.split(separator, body) if item.strip()]
        problem = ("stands there twice" if heading in rules
                   else "is unknown" if not template and heading not in LISTS and heading[:1] != "{"
                   else "is empty" if not items
                   else "has an item with too few or too many parts"
                   if not template and any(item.count(" / ") != heading.count(" / ") for item in items) else None)
        if problem:
            raise ValueError(f'the section "{heading}" {problem}')
        if template:
            marks |= dict.fromkeys(re.findall(r"[{}]\w*\}?", body), heading)  # a brace without its partner, too
        rules[heading] = [parts for item in items for parts in _parse(item)] if template else items
    for heading in (*LISTS, *TEMPLATES):
        if heading not in rules:
            raise ValueError(f'the section "{heading}" is missing')
    if len(rules[GENDERS]) != 2 or len({name[0] for name in rules["girls"] + rules["boys"]}) == 1:
        raise ValueError("two genders are needed, and names with different first letters")  # or no friend can be found
    known = {f"{{{mark}}}" for mark in ("home", *_values(Random(0), rules), *_people(Random(0), rules, False))}
    for mark in sorted(marks.keys() - known):
        raise ValueError(f'the section "{marks[mark]}" has an unknown mark "{mark}"')
    return rules


@cache
def grammar(path=TEXT):
    """What the text file holds, see `_read`; ValueError where it is missing or damaged."""
    try:
        return _read(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be used: {error}") from None


def _pick(rng, items):
    return items[int(rng.random() * len(items))]  # rng.choice is not promised to stay the same


def _expand(alternatives, values, rng, detail):
    """Text of one of them; a single one costs no random number."""
    text = ""
    for kind, part in alternatives[0] if len(alternatives) == 1 else _pick(rng, alternatives):
        if kind in ("", "{"):
            part = values[part] if kind else part
            text += part if isinstance(part, str) else _pick(rng, part)
        elif kind == "[" or rng.random() < detail:
            text += _expand(part, values, rng, detail)
    return text


def _values(rng, rules):
    """What the marks of the lists stand for. Numbers keep their list: a new one is drawn wherever they stand."""
    values = {}
    for heading, items in rules.items():
        if heading[0] == "{":
            values.update(zip(heading[1:-1].split("} / {"), _pick(rng, items).split(" / ")))
    return values | {"n": rules["{n}"], "num": rules["{num}"], "Num": [*map(str.capitalize, rules["{num}"])]}


def _person(rng, rules, animals):
    """Kind and name, with the four pronouns of the name's gender."""
    gender = _pick(rng, (0, 1))
    child, *pronouns = rules[GENDERS][gender].split(" / ")
    kind = _pick(rng, rules["animals"]) if animals else child
    return kind, _pick(rng, rules[("girls", "boys")[gender]]), pronouns


def _people(rng, rules, animals):
    """What the marks of the hero, the friend (f...) and the adult (m...) stand for."""
    kind, name, pronouns = _person(rng, rules, animals)
    fkind, fname, fpronouns = _person(rng, rules, animals)
    while fname[0] == name[0]:  # two names that are easy to tell apart
        fkind, fname, fpronouns = _person(rng, rules, animals)
    gender, his = _pick(rng, (0, 1)), pronouns[2]
    values = {"H": name, "kind": kind, "F": fname, "fkind": fkind, "fadj": _pick(rng, rules["{adj}"]),
              "mum": _pick(rng, rules[("women", "men")[gender]])}
    for prefix, words in ("", pronouns), ("f", fpronouns), ("m", rules[GENDERS][gender].split(" / ")[1:]):
        for mark, word in zip(GENDERS.split(" / ")[1:], words):
            values[prefix + mark], values[prefix + mark.capitalize()] = word, word.capitalize()
    friends = [f"{his} {word} {fname}" for word in rules["friends"]]
    friend = _pick(rng, friends + [f"{fname} the {fkind}"] * 4 * animals)
    return values | {"friend": friend, "Hfriend": friend.replace(f"{his} ", f"{name}'s ")}  # opens a story: name first


def _story(rng, rules):
    """One story and nothing checked about it; about 0.1 ms."""
    values = _values(rng, rules)
    plot = _pick(rng, [heading for heading in rules if heading.startswith("plot ")] + ["short stories"] * 8)
    animals = plot != "plot animal" and rng.random() < 0.3  # a mouse does not nurse an owl
    values |= _people(rng, rules, animals)
    detail = _pick(rng, (0.0, 0.0, 0.2, 0.5, 0.9))
    values["home"] = _expand(rules["homes of animals" if animals else "homes of children"], values, rng, detail)
    told = ["opening", plot] if plot != "short stories" and rng.random() < 0.6 else [plot]
    text = " ".join("".join(_expand(rules[heading], values, rng, detail) for heading in told).split())
    text = re.sub(r"\b([Aa]) (?=[aeiou]|hour|honest)(?!one\b|uni|use)", r"\1n ", text)
    paragraphs = [part.strip() for part in text.split("//") if part.strip()]
    text = "\n".join(re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), part) for part in paragraphs)
    if rng.random() < 0.2:  # as a printed book has them
        text = re.sub(r'"([^"]*)"', "\u201c\\1\u201d", text).replace("'", "\u2019")
    return text


def stories(split="train", n=None, seed=0):
    """`n` different stories of the split "train" (default 8,000) or "validation" (500); a newline ends a paragraph."""
    if split not in SIZES:
        raise ValueError(f"split must be one of {', '.join(SIZES)}, not {split!r}")
    n = SIZES[split] if n is None else n
    if n < 0:
        raise ValueError(f"n must not be negative, but is {n}")
    rules, rng, found, tries = grammar(TEXT), Random(f"wheeler stories {seed}"), {}, 0
    while len(found) < n:
        text, before = _story(rng, rules), len(found)
        held_out = zlib.crc32(text.encode()) % 8 == 0
        if held_out == (split == "validation") and len(text.split()) in WORDS:
            found[text] = None  # a dict keeps the order and drops what was there before
        tries = tries + 1 if len(found) == before else 0
        if tries == PATIENCE:
            raise ValueError(f"{TEXT.name} gives only {before} different stories of the split {split}")
    return list(found)


def main(argv=None):
    parser = Parser(prog="stories.py", description="Print stories of the embedded corpus.")
    parser.add_argument("--split", choices=SIZES, default="train")
    parser.add_argument("-n", type=int, default=3, help="how many stories")
    parser.add_argument("--seed", type=int, default=0)
    open_console()
    try:
        print("\n\n".join(stories(**vars(parser.parse_args(argv)))))
    except ValueError as error:
        print(f"stories.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
