"""A file of unit tests runs with the rules that its result depends on, and with no others."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import promtool_tests
from sidecar import rulefile

RULES: list[dict[str, Any]] = [
    {
        "groups": [
            {"name": "empty", "rules": [{"record": "unread:sum", "expr": "sum(up)"}]},
            {"name": "records", "rules": [{"record": "job:up:sum", "expr": "sum by (job) (up)"}]},
        ]
    },
    {
        "groups": [
            {
                "name": "alerts",
                "interval": "15s",
                "rules": [
                    {"alert": "JobDown", "expr": "job:up:sum == 0", "for": "5m"},
                    {
                        "alert": "JobsDown",
                        "expr": 'count(ALERTS{alertname="JobDown"}) > 1',
                        "annotations": {"summary": "{{ with query `total:up` }}{{ . }}{{ end }}"},
                    },
                    {"alert": "Another", "expr": "vector(1)"},
                    {"alert": "Uncounted", "expr": 'count({__name__=~"job:.*"}) != 1'},
                ],
            },
            {"name": "totals", "rules": [{"record": "total:up", "expr": "count(up)"}]},
        ]
    },
]


@pytest.mark.parametrize(
    ("test", "names"),
    [
        ({"alert_rule_test": [{"alertname": "Another"}]}, {"Another"}),
        ({"alert_rule_test": [{"alertname": "JobDown"}]}, {"JobDown", "job:up:sum"}),
        (
            {"alert_rule_test": [{"alertname": "JobsDown"}]},
            {"JobsDown", "JobDown", "job:up:sum", "total:up"},
        ),
        ({"promql_expr_test": [{"expr": "rate(up[5m]) + job:up:sum"}]}, {"job:up:sum"}),
        ({"alert_rule_test": [{"alertname": "Missing"}]}, set()),
        (
            {"alert_rule_test": [{"alertname": "Uncounted"}]},
            {"Uncounted", "Another", "JobDown", "JobsDown", "job:up:sum", "total:up", "unread:sum"},
        ),
    ],
)
def test_what_a_test_reads_is_needed(test: dict[str, Any], names: set[str]) -> None:
    assert promtool_tests.needed({"tests": [test]}, RULES) == names


def test_tests_are_next_to_the_rules_they_need_and_keep_their_text(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, source / "tests", source / "rules", target):
        folder.mkdir()
    # YAML reads 0x300 as a number in hexadecimal notation, promtool as 301 zeros.
    tests = """\
rule_files: [../rules/b.yml, ../rules/a.yml]
tests:
- alert_rule_test: [{alertname: JobDown}]
  external_labels: &labels {a: b}
  values: 0x300
- alert_rule_test: [{alertname: Another}]
  external_labels: *labels
  values: 1e3x2
- alert_rule_test: [{alertname: JobDown, eval_time: 010}]
"""
    (source / "tests" / "jobs.yml").write_text(tests)
    for name, content in {"b.yml": RULES[0], "a.yml": RULES[1]}.items():
        (source / "rules" / name).write_text(yaml.safe_dump(content))
    down, another = promtool_tests.write(source / "tests" / "jobs.yml", target)
    # As text, for the notation of numbers.
    assert yaml.load(down.read_text(), yaml.BaseLoader) == {
        "rule_files": ["../rules/b.yml", "../rules/a.yml"],
        "tests": [
            {"alert_rule_test": [{"alertname": "JobDown"}], "external_labels": {"a": "b"}, "values": "0x300"},
            {"alert_rule_test": [{"alertname": "JobDown", "eval_time": "010"}]},
        ],
    }
    # A quoted number would be text for promtool.
    assert "values: 0x300\n" in down.read_text()
    assert [test["values"] for test in yaml.load(another.read_text(), yaml.BaseLoader)["tests"]] == ["1e3x2"]
    assert "external_labels: {a: b}\n" in another.read_text()
    assert rules_next_to(down) == [
        [(None, "empty", []), (None, "records", ["job:up:sum"])],
        [("15s", "alerts", ["JobDown"]), (None, "totals", [])],
    ]
    assert rules_next_to(another) == [
        [(None, "empty", []), (None, "records", [])],
        [("15s", "alerts", ["Another"]), (None, "totals", [])],
    ]


def rules_next_to(tests: Path) -> list[list[tuple[str | None, str, list[str]]]]:
    """The groups of each rule file of written tests, with the names of their rules."""
    return [
        [
            (
                group.get("interval"),
                group["name"],
                [rule.get("alert") or rule["record"] for rule in group["rules"]],
            )
            for group in yaml.safe_load((tests.parent / "../rules" / name).read_text())["groups"]
        ]
        for name in ("b.yml", "a.yml")
    ]


def test_every_test_of_the_rules_is_run(tmp_path: Path) -> None:
    for path in promtool_tests.files():
        folder = tmp_path / path.stem
        folder.mkdir()
        written = [
            test for copy in promtool_tests.write(path, folder) for test in rulefile.document(copy)["tests"]
        ]
        tests = rulefile.document(path)["tests"]
        assert len(written) == len(tests)
        assert all(test in written for test in tests)
