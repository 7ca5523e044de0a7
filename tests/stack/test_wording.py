"""The phrases that the style rules replace: found in pages, strings, docstrings, comments and names."""

from pathlib import Path

import pytest

from stack import wording


def phrases(text: str) -> list[str]:
    return [phrase for _, phrase, _ in wording.occurrences(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`x` is no URL", ["is no URL"]),
        ("They are no numbers.", ["are no numbers"]),
        ("keep so many newest backups", ["so many"]),
        ("the drill held, whoever ran it", ["whoever", "drill held"]),
        ("nobody was told; it stands beside the live one", ["told", "beside"]),
        ("the page «system»", ["«", "»"]),
        ("the dead-man's switch", ["dead-man"]),
        ("a queue of its own; it counts for nothing", ["of its own", "counts for nothing"]),
        ("it is gone for good, and nothing of it remains", ["for good", "nothing of it"]),
        ("It is shown all the same.", ["all the same"]),
        (
            "a damage prints messages without end, also when it is repaired",
            ["a damage", "without end", ", also when"],
        ),
        (
            "At 95 % write a ticket, as on [the page](x.md); 5 %",
            ["5 %", "5 %", "write a ticket", "as on ["],
        ),
        ("1.19 × | 5 × faster", ["9 ×", "5 ×"]),
        ("with back-off", ["back-off"]),
        (
            "It exists already, by another role than the owner, in another order.",
            ["exists already", "another role than", "in another order"],
        ),
        ("the job goes on, and the alert ends by itself", ["goes on", "ends by itself"]),
        ("the heirs are not read any more, also while it runs", ["heirs", "any more", ", also while"]),
    ],
)
def test_phrases_are_found(text: str, found: list[str]) -> None:
    assert sorted(phrases(text)) == sorted(found)


@pytest.mark.parametrize(
    "text",
    [
        "There is no backup, and there are no workers.",
        "The worker is no longer down.",
        "three of its own intervals; not all the same, all the same names",
        "besides, the lock is held by another run",
        "a damaged file; it ends without ending the run; the page also shows when it ended",
        "There are so many that the page is cut off.",
        "640 × 400 pixels, 5 × 10 MB, and at most 1.3 × the limit, or 1.2×",
        "5% of 3 %s, as on the page of the cause",
        "nobody",
        "many more of theirs; another one; it already exists",
        "what goes in, and each judged by itself",
    ],
)
def test_good_english_is_left_alone(text: str) -> None:
    assert phrases(text) == []


def test_the_line_is_counted_from_the_start_of_a_string() -> None:
    assert list(wording.occurrences("fine\nbeside it", start=7)) == [(8, "beside", "next to")]


def test_strings_docstrings_and_comments_are_read() -> None:
    source = '''
"""A module beside another one."""

def helper():
    """Docstring,

    on several lines: told as such.
    """
    fail(f"{name} is no folder")  # for ever
'''
    found = [
        (line, phrase)
        for start, text in wording.prose(source)
        for line, phrase, _ in wording.occurrences(text, start)
    ]
    assert sorted(found) == [(2, "beside"), (7, "told"), (9, "for ever"), (9, "is no folder")]


def test_names_are_read_word_by_word() -> None:
    source = "def _said(withheld):\n    told_twice = retold = there_is_no_table = that_is_no_table\n"
    assert [(line, name) for line, name, _ in wording.names(source)] == [
        (1, "_said"),
        (2, "told_twice"),
        (2, "that_is_no_table"),
    ]


def test_bare_names_are_found_outside_tests(tmp_path: Path) -> None:
    assert list(wording.bare_names("for one in ones:\n    one.name")) == [
        (1, "one", "what it is: an alert, a row"),
        (2, "one", "what it is: an alert, a row"),
    ]
    for name in ("backup/run.py", "tests/test_run.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("one = 1\n", encoding="utf-8")
    assert [problem.split(";")[0] for problem in wording.problems(tmp_path)] == ["backup/run.py:1 has 'one'"]


def test_a_checkout_is_searched(tmp_path: Path) -> None:
    for name, text in {
        "docs/page.md": "It is told.\n",
        "deploy/systemd/x.service": "# nothing of it\n",
        "runbooks/alerts/RedisDown.md": "fine\nbeside\n",
        "backup/run.py": 'x = "anew"\n',
        "tests/backup/test_run.py": "# beside\nsaid = 1\n",
        "app/frontend/node_modules/x/setup.py": "# beside\n",
        "CONTRIBUTING.md": "not: whoever\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert [problem.split(";")[0] for problem in wording.problems(tmp_path)] == [
        "docs/page.md:1 has 'told'",
        "runbooks/alerts/RedisDown.md:2 has 'beside'",
        "deploy/systemd/x.service:1 has 'nothing of it'",
        "backup/run.py:1 has 'anew'",
        "tests/backup/test_run.py:1 has 'beside'",
        "tests/backup/test_run.py:2 has 'said'",
    ]
