"""The hand-written pages: links, the index, quoted messages, the map of the source."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stack import pages

INDEX = (
    "# Documentation\n\n- [Backups](backup.md)\n- [Source](architecture.md)\n- [Errors](troubleshooting.md)\n"
)
Write = Callable[[str, str], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout without any problem."""
    texts = {
        ".gitignore": "__pycache__/\n/secrets/\n",
        "README.md": "# Us\n\n[errors](docs/troubleshooting.md#the-bucket-1), [more](docs/README.md)\n",
        "docs/README.md": INDEX,
        "docs/backup.md": "# Backups\n\n[it](#backups), [web](https://example.org/#x)\n\n```\n[no](link.md)\n```\n",
        "docs/architecture.md": "# Source\n\n`backup/`, `backup/store/`, `docs/`, `runbooks/`\n",
        "docs/troubleshooting.md": "# Errors\n\n### `… does not answer`\n\n## The bucket\n\n## The bucket\n",
        "backup/store/s3.py": 'def fail(url: str) -> None:\n    raise ValueError(f"{url} does not answer")\n',
        "runbooks/README.md": "# Runbooks\n",
        "runbooks/restore.sh": 'fail "$needed bytes are missing"\n',
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def write(root: Path) -> Write:
    def write(name: str, text: str) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text(encoding="utf-8") + text if path.exists() else text, encoding="utf-8")

    return write


def test_the_pages_of_this_checkout_have_no_problem() -> None:
    assert pages.problems() == []


def test_a_checkout_without_problems(root: Path) -> None:
    assert pages.problems(root) == []


def test_a_link_to_a_missing_page_is_reported(root: Path, write: Write) -> None:
    write("docs/backup.md", "[gone](restore.md)")
    assert pages.problems(root) == ["docs/backup.md links to restore.md, which does not exist"]


@pytest.mark.parametrize("link", ["#no-such-heading", "backup.md#no", "troubleshooting.md#the-bucket-2"])
def test_a_link_to_a_missing_heading_is_reported(root: Path, write: Write, link: str) -> None:
    write("docs/backup.md", f"[gone]({link})")
    assert pages.problems(root) == [f"docs/backup.md links to {link}, which does not exist"]


@pytest.mark.parametrize("link", ["docs/backup.md#gone", "docs/gone.md#backups"])
def test_an_address_in_the_source_that_leads_nowhere_is_reported(root: Path, write: Write, link: str) -> None:
    address = "https://github.com/posthub/ops/blob/main"
    write("backup/store/s3.py", f'# {address}/docs/backup.md#backups\nURL = "{address}/{link}"\n')
    assert pages.problems(root) == [f"backup/store/s3.py links to {link}, which does not exist"]


def test_a_file_that_a_page_names_and_that_is_gone_is_reported(root: Path, write: Write) -> None:
    write("docs/backup.md", "`backup/store/s3.py`, `backup/store/gone.py`, `elsewhere/gone.py`")
    assert pages.problems(root) == ["docs/backup.md names backup/store/gone.py, which does not exist"]


def test_a_page_that_no_list_has_is_reported(root: Path, write: Write) -> None:
    write("docs/new.md", "# New\n")
    assert pages.problems(root) == ["docs/new.md is 0 times in docs/README.md, not once"]


def test_a_page_in_two_lists_is_reported(root: Path, write: Write) -> None:
    write("docs/README.md", "\n- [again](backup.md)\n")
    assert pages.problems(root) == ["docs/backup.md is 2 times in docs/README.md, not once"]


def test_a_message_that_no_source_has_is_reported(root: Path, write: Write) -> None:
    write("docs/troubleshooting.md", "### `… is on fire`\n")
    assert pages.problems(root) == [
        "docs/troubleshooting.md quotes '… is on fire', but no message in the source has this text"
    ]


def test_a_message_of_a_script_is_found(root: Path, write: Write) -> None:
    write("docs/troubleshooting.md", "### `… bytes are missing`\n")
    assert pages.problems(root) == []


def test_a_folder_that_the_map_leaves_out_is_reported(root: Path, write: Write) -> None:
    write("backup/load/fetch.py", "")
    write("exporters/cli.py", "")
    assert pages.problems(root) == [
        "docs/architecture.md does not name backup/load/",
        "docs/architecture.md does not name exporters/",
    ]


def test_a_folder_on_the_map_that_is_gone_is_reported(root: Path, write: Write) -> None:
    write("docs/architecture.md", "`backup/loose/`\n")
    assert pages.problems(root) == ["docs/architecture.md names backup/loose/, which does not exist"]


def test_ignored_and_hidden_folders_need_no_place_on_the_map(root: Path, write: Write) -> None:
    for name in ("secrets/app/key", ".ops/log", "backup/__pycache__/x.pyc"):
        write(name, "")
    assert pages.problems(root) == []
