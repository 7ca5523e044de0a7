"""The unit tests of the rules, each next to the rules that its result depends on.

promtool evaluates every rule of every named file at every step of every test, so a test of one alert would take as long
as one of a hundred.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from alerts.paths import TESTS
from sidecar import rulefile

Document = dict[str, Any]

# What could be the name of an alert or of a recorded series, in an expression or in the template of an annotation.
_WORD = re.compile(r"[A-Za-z_:][\w:]*")


def files() -> list[Path]:
    """The files with promtool unit tests, the largest first."""
    return sorted(TESTS.glob("*.yml"), key=lambda path: -path.stat().st_size)


def write(path: Path, folder: Path) -> list[Path]:
    """Write the tests of a file into an empty folder, and those that need the same rules into one file; returns the files.

    Scalars keep their text, since promtool reads numbers differently from YAML. Groups without a rule that is needed
    are left empty.

    Args:
        path: the file of unit tests, which names its rule files relative to itself.
    """
    tests: Document = rulefile.document(path)
    rules: dict[str, Document] = {name: rulefile.document(path.parent / name) for name in tests["rule_files"]}
    text = rulefile.node(path)
    written = []
    for number, (names, places) in enumerate(_by_rules(tests, list(rules.values()))):
        copy = folder / str(number) / path.parent.name / path.name
        copy.parent.mkdir(parents=True)
        copy.write_text(yaml.serialize(_with_tests(text, places)), encoding="utf-8")
        for name, document in rules.items():
            reduced = copy.parent / name
            reduced.parent.mkdir(exist_ok=True)
            reduced.write_text(yaml.safe_dump(_with_only(document, names), sort_keys=False), encoding="utf-8")
        written.append(copy)
    return written


def _by_rules(tests: Document, rules: Sequence[Document]) -> Iterator[tuple[set[str], list[int]]]:
    """The rules that a test needs, and the places of all tests that need the same."""
    found: dict[frozenset[str], list[int]] = {}
    for place, test in enumerate(tests["tests"]):
        found.setdefault(frozenset(needed({"tests": [test]}, rules)), []).append(place)
    return ((set(names), places) for names, places in found.items())


def _with_tests(document: yaml.MappingNode, places: Sequence[int]) -> yaml.MappingNode:
    entries = [
        (key, _items(value, places) if key.value == "tests" else value) for key, value in document.value
    ]
    return yaml.MappingNode(document.tag, entries)


def _items(sequence: yaml.SequenceNode, places: Sequence[int]) -> yaml.SequenceNode:
    return yaml.SequenceNode(sequence.tag, [sequence.value[place] for place in places])


def needed(tests: Document, rules: Sequence[Document]) -> set[str]:
    """The names of the rules that the tests ask for, and of those that these read, in expressions and annotations.

    A rule that selects series by a pattern of their names may read any of them, and then all rules are needed.
    """
    reads = {_name(rule): _words(rule) for document in rules for rule in _rules(document)}
    found: set[str] = set()
    new = {word for test in tests["tests"] for word in _asked(test)} & reads.keys()
    while new:
        found |= new
        if any("__name__" in reads[name] for name in new):
            return set(reads)
        new = {word for name in new for word in reads[name]} & reads.keys() - found
    return found


def _asked(test: Document) -> Iterator[str]:
    for case in test.get("alert_rule_test", ()):
        yield case["alertname"]
    for case in test.get("promql_expr_test", ()):
        yield from _WORD.findall(case["expr"])


def _words(rule: Document) -> set[str]:
    texts = [rule["expr"], *rule.get("annotations", {}).values(), *rule.get("labels", {}).values()]
    return {word for text in texts for word in _WORD.findall(str(text))}


def _with_only(document: Document, names: set[str]) -> Document:
    return {
        "groups": [
            {**group, "rules": [rule for rule in group["rules"] if _name(rule) in names]}
            for group in document["groups"]
        ]
    }


def _rules(document: Document) -> Iterator[Document]:
    for group in document["groups"]:
        yield from group["rules"]


def _name(rule: Document) -> str:
    return str(rule.get("alert") or rule["record"])
