"""Each promise of docs/security.md names a test, and that test exists."""

import ast
import re

from stack.paths import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_line_of_the_threat_model_names_a_test_that_exists() -> None:
    model = PAGE.partition("## Threat model")[2].partition("\n## ")[0]
    rows = [line for line in model.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 5
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test in: {row}"
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text())
            known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert function in known, f"{file} has no {function}"
