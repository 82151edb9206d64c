"""The embedded stories: reproducible, split cleanly, told from their file, and English that a child could be read."""

import re
import statistics
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from wheeler.training import stories as corpus
from wheeler.training.stories import TEXT, grammar, stories

ROOT = Path(__file__).resolve().parents[1]
RULES = grammar(TEXT)
GIRLS, BOYS = RULES["girls"], RULES["boys"]


@pytest.fixture(scope="module")
def train():
    return stories("train")


@pytest.fixture(scope="module")
def validation():
    return stories("validation")


def words(text):
    return re.findall(r"[^\W\d_]+", text.lower())


def test_sizes_and_splits(train, validation):
    assert (len(train), len(validation)) == (8000, 500)
    assert len(set(train)) == 8000 and len(set(validation)) == 500
    assert not set(train) & set(validation)


def test_splits_stay_apart_for_any_size_and_seed(train):
    for seed in (0, 1, 2):
        assert not set(stories("validation", 200, seed)) & (set(train) | set(stories("train", 500, seed)))


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(train):
    assert stories("train", 10) == train[:10] and stories("train", 0) == []
    assert stories("train", 10, seed=1) != train[:10]


def test_same_in_every_process():
    code = "import wheeler.training.stories as c, zlib; print(zlib.crc32('|'.join(c.stories('train', 300)).encode()))"
    found = {zlib.crc32("|".join(stories("train", 300)).encode())}
    for hash_seed in ("0", "1"):  # sets and hash() differ between these two
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": hash_seed},
                             capture_output=True, text=True, check=True)
        found.add(int(run.stdout))
    assert found == {CHECKSUM}, "the stories changed: intended? then store the new checksum"


# Of the first 300 training stories. Stored, so that another Python version that gives other stories is noticed.
CHECKSUM = 4027639089


def test_bad_arguments():
    with pytest.raises(ValueError, match="split must be one of train, validation, not 'test'"):
        stories("test")
    with pytest.raises(ValueError, match="-1"):
        stories("train", -1)


def test_length_and_vocabulary(train):
    lengths = [len(text.split()) for text in train]
    assert 30 <= min(lengths) and max(lengths) <= 250
    assert 80 <= statistics.median(lengths) <= 130
    assert min(lengths) < 50 and max(lengths) > 200
    assert len({word for text in train for word in words(text)}) >= 1000


def test_what_a_tokenizer_should_see(train):
    text = "\n".join(train)
    for piece in ("“", "”", "’", '"', "'", "Zoë", "José", "Søren", "7", ":15", "\n", "?", "!"):
        assert piece in text, piece


def test_every_template_and_alternative_is_used(train):
    text = "\n".join(train)
    for name in (*GIRLS, *BOYS, *RULES["{t}"], *RULES["{adj}"], *RULES["{food}"]):
        assert name in text, name


def test_no_marks_left_and_clean_punctuation(train, validation):
    for text in train + validation:
        assert not re.search(r"[\[\]{}|/]|  | \n|\n |\n\n| [.,!?]|[.,!?][.,]|[\"”][.,]|\b(\w+) \1\b", text), text
        assert text == text.strip()
        for paragraph in text.split("\n"):
            assert paragraph[0].isupper() or paragraph[0] in '"“', text
            assert paragraph[-1] in '.!?:"”', text
            assert paragraph.count('"') % 2 == 0 and paragraph.count("“") == paragraph.count("”"), text
            assert not re.search(r"[.!?] [a-zà-ÿ]", paragraph), text
        assert not ('"' in text and "“" in text) and not ("'" in text and "’" in text), text


def test_articles(train, validation):
    for text in train + validation:
        assert not re.search(r"\b[Aa] (?=[aeiouAEIOU]|hour|honest)(?!uni|one\b|use)", text), text
        assert not re.search(r"\b[Aa]n (?=[^aeiouAEIOUh]|uni|one\b)", text), text
        assert not re.search(r"\b[Aa]n h(?!our|onest)", text), text


CUES = {  # who may be meant by a pronoun
    "f": re.compile(r"\b(" + "|".join(GIRLS) + r"|(grand)?mother|aunt|sister|girl|woman)\b"),
    "m": re.compile(r"\b(" + "|".join(BOYS) + r"|(grand)?father|uncle|brother|boy|man)\b"),
}
PRONOUN = {"f": re.compile(r"\b([Ss]he|[Hh]er|herself)\b"), "m": re.compile(r"\b([Hh]e|[Hh]im|[Hh]is|himself)\b")}


def test_pronouns_have_somebody_to_stand_for(train, validation):
    kinds = set()
    for text in train + validation:
        present = [gender for gender in "fm" if CUES[gender].search(text)]
        for gender in "fm":
            assert gender in present or not PRONOUN[gender].search(text), text
        kinds.add("".join(present))
    assert kinds >= {"f", "m", "fm"}  # stories with one gender only are there, or the check above would be empty


def test_the_hero_keeps_one_gender(train):
    """In the openings that name the hero and go on with a pronoun, the two agree."""
    checked = 0
    for text in train:
        found = re.match(r"(\w+) was an? \w+ \w+\. (He|She) was", text)
        if found:
            checked += 1
            assert (found[1] in GIRLS) == (found[2] == "She"), text
    assert checked > 100


def test_command_line(capsys):
    corpus.main(["--split", "validation", "-n", "2"])
    assert capsys.readouterr().out == "\n\n".join(stories("validation", 2)) + "\n"


def test_a_negative_count_is_one_line(capsys):
    assert corpus.main(["-n", "-1"]) == 2
    assert capsys.readouterr().err == "stories.py: n must not be negative, but is -1\n"


FILE = TEXT.read_text(encoding="utf-8")


def edit(heading, body, text=FILE):
    """The text of the file with another body of that section."""
    before, _, after = text.partition(f"## {heading}\n")
    return f"{before}## {heading}\n{body}\n\n## " + after.partition("\n## ")[2]


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Puts another text, or bytes, in the place of the text file."""
    def put(content):
        (tmp_path / "stories.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        grammar.cache_clear()  # a file is known by its path
        monkeypatch.setattr(corpus, "TEXT", tmp_path / "stories.txt")
    yield put
    grammar.cache_clear()


def test_the_file_is_read_once_and_late():
    code = """import wheeler.training.stories as c
print(c.grammar.cache_info().misses); c.stories("train", 2); c.stories("train", 2); print(c.grammar.cache_info().misses)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "1"]


def test_the_text_file_is_what_is_read(use, train):
    assert any("hedgehog" in text for text in train[:300])
    use(FILE.replace("hedgehog", "porcupine"))
    changed = stories("train", 300)
    assert any("porcupine" in text for text in changed) and not any("hedgehog" in text for text in changed)


def test_no_list_of_words_is_in_the_code():
    code = Path(corpus.__file__).read_text(encoding="utf-8")
    items = [item for heading, found in RULES.items() if heading[0] == "{" for item in found if " " in item]
    assert len(items) > 50 and not [item for item in items if item in code]


def test_comments_and_line_breaks_do_not_matter(use, train):
    lists, opening, templates = FILE.partition("## opening\n")
    one_word_a_line = "".join(line if line.startswith("#") else line.replace(" ", "\n")
                              for line in templates.splitlines(keepends=True))
    of_another_system = b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode()  # with the mark that some editors add
    more_comments = FILE.replace("\n## ", "\n# One more.\n## ")
    for text in (more_comments, lists + opening + one_word_a_line, of_another_system):
        use(text)
        assert stories("train", 100) == train[:100]


DAMAGE = [
    ("", "does not begin"),
    ("Once upon a time\n" + FILE, "does not begin"),
    (FILE[: len(FILE) // 2], "## end"),
    (FILE + "\n## girls\nZelda\n", "## end"),
    (FILE.encode("latin-1"), "utf-8"),
    (FILE.replace("\n## girls", "\n## boys"), 'the section "boys" stands there twice'),
    (FILE.replace("\n## girls", "\n## gilrs"), 'the section "gilrs" is unknown'),
    (FILE.replace("\n## girls", "\n## {girls}"), 'the section "girls" is missing'),
    (FILE.replace("## opening", "## plot opening"), 'the section "opening" is missing'),
    (edit("homes of animals", ""), 'the section "homes of animals" is empty'),
    (FILE.replace("frog / leg / flies", "frog / flies"), "has an item with too few or too many parts"),
    (FILE.replace("## {skill}", "## {skills}"), 'the section "plot learning" has an unknown mark "{skill}"'),
    (FILE.replace("One {day} it was gone.", "One {day it was gone."), 'unknown mark "{day"'),
    (FILE.replace("One {day} it was gone.", "One day} it was gone."), 'unknown mark "}"'),
    (FILE.replace("[tie a string", "[[tie a string"), "a bracket has no partner in"),
    (FILE.replace("[tie a string", "]tie a string"), "a bracket has no partner in"),
    (edit("girls", "Ada", edit("boys", "Adam, Ali")), "names with different first letters"),
    (edit("child / he / him / his / himself", "boy / he / him / his / himself"), "two genders are needed"),
]


@pytest.mark.parametrize("content, reason", DAMAGE)
def test_a_damaged_file_is_one_clear_error(use, capsys, content, reason):
    assert content != FILE
    use(content)
    with pytest.raises(ValueError, match=f"^stories.txt cannot be used: .*{re.escape(reason)}"):
        stories("validation", 1)
    assert corpus.main(["-n", "1"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("stories.py: stories.txt cannot be used: ") and err.count("\n") == 1


def test_a_missing_file_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus, "TEXT", tmp_path / "stories.txt")
    assert corpus.main(["-n", "1"]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"stories.py: stories.txt cannot be used: .*No such file.*\n", err) and str(tmp_path) in err


def test_a_file_with_few_stories_ends(use, monkeypatch):
    monkeypatch.setattr(corpus, "PATIENCE", 200)
    templates = re.findall("## (opening|plot .*|short stories)\n", FILE)
    text = FILE
    for heading in templates:
        text = edit(heading, "Too short.", text)
    use(text)
    assert len(templates) > 10
    with pytest.raises(ValueError, match="stories.txt gives only 0 different stories of the split train"):
        stories("train", 1)
