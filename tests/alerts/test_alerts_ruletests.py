"""A file of unit tests runs with the rules that its result depends on, and with no others."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import ruletests

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
    assert ruletests.needed({"tests": [test]}, RULES) == names


def test_the_tests_stay_as_they_are_next_to_the_rules_they_need(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, source / "tests", source / "rules", target):
        folder.mkdir()
    # YAML reads 0x300 as a number in hexadecimal notation, promtool as 301 zeros.
    tests = "rule_files: [../rules/b.yml, ../rules/a.yml]\ntests:\n- alert_rule_test: [{alertname: JobDown}]\n  values: 0x300\n"
    (source / "tests" / "jobs.yml").write_text(tests)
    for name, content in {"b.yml": RULES[0], "a.yml": RULES[1]}.items():
        (source / "rules" / name).write_text(yaml.safe_dump(content))
    copy = ruletests.write(source / "tests" / "jobs.yml", target)
    assert copy.read_text() == tests
    records, alerts = (
        yaml.safe_load((copy.parent / "../rules" / name).read_text())["groups"] for name in ("b.yml", "a.yml")
    )
    assert [(group["name"], len(group["rules"])) for group in records] == [("empty", 0), ("records", 1)]
    assert [(group.get("interval"), [*map(str, group["rules"])]) for group in alerts] == [
        ("15s", [str({"alert": "JobDown", "expr": "job:up:sum == 0", "for": "5m"})]),
        (None, []),
    ]
