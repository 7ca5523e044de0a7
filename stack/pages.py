"""Checks of the hand-written pages: links, the index, quoted messages, and the map of the source.

Each check returns the problems that it found, as sentences. ``./ops docs --check`` prints them.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stack.paths import ROOT, sources

ARCHITECTURE = Path("docs/architecture.md")
INDEX = Path("docs/README.md")
TROUBLESHOOTING = Path("docs/troubleshooting.md")
# Folders with messages that a person may see.
SPEAKERS = ("alerts", "app", "backup", "dashboards", "deploy", "exporters", "runbooks", "sidecar", "stack")
# Their subfolders mirror other folders, or contain data.
NOT_MAPPED = ("docs", "tests")
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# The repository's own pages, as notifications link to them.
_ADDRESS = re.compile(r"https://github\.com/posthub/ops/blob/main/([\w./-]+\.md)(?:#([\w-]+))?")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_FOLDER = re.compile(r"`([\w.-]+(?:/[\w.-]+)*)/`")
_FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sh|sql|ya?ml|md|ts|json|conf))`")
_MESSAGE = re.compile(r"^### `(.+)`$", re.MULTILINE)


def problems(root: Path = ROOT) -> list[str]:
    """Every problem with the pages of a checkout."""
    return [
        *broken_links(root),
        *broken_addresses(root),
        *missing_files(root),
        *unlisted_pages(root),
        *unknown_messages(root),
        *unmapped_folders(root),
    ]


def pages(root: Path) -> list[Path]:
    """The pages that a reader may open, relative to ``root``."""
    found = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "runbooks").rglob("*.md")]
    return sorted(path.relative_to(root) for path in found)


def broken_links(root: Path) -> list[str]:
    """Links to files or headings that do not exist. Addresses on the Internet are not requested."""
    anchors = {page: _anchors((root / page).read_text(encoding="utf-8")) for page in pages(root)}
    return [
        f"{page} links to {link}, which does not exist"
        for page in anchors
        for link in _LINK.findall(_FENCE.sub("", (root / page).read_text(encoding="utf-8")))
        if "://" not in link and not _resolves(root, page, link, anchors)
    ]


def _resolves(root: Path, page: Path, link: str, anchors: dict[Path, set[str]]) -> bool:
    path, _, anchor = link.partition("#")
    target = (root / page.parent / path).resolve() if path else (root / page).resolve()
    if not target.exists() or not target.is_relative_to(root.resolve()):
        return False
    return not anchor or anchor in anchors.get(target.relative_to(root.resolve()), set())


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    taken: Counter[str] = Counter()
    anchors = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        anchors.add(f"{anchor}-{taken[anchor]}" if taken[anchor] else anchor)
        taken[anchor] += 1
    return anchors


def broken_addresses(root: Path) -> list[str]:
    """Links from the sources to our own pages that do not lead to a page or heading."""
    found = []
    for path in sorted(path for folder in SPEAKERS for path in sources(root / folder)):
        for page, anchor in _ADDRESS.findall(path.read_text(encoding="utf-8")):
            target = root / page
            if not target.exists() or (anchor and anchor not in _anchors(target.read_text(encoding="utf-8"))):
                found.append(f"{path.relative_to(root)} links to {page}#{anchor}, which does not exist")
    return found


def missing_files(root: Path) -> list[str]:
    """Files of this repository that a page names and that do not exist."""
    return [
        f"{page} names {name}, which does not exist"
        for page in pages(root)
        for name in _FILE.findall(_FENCE.sub("", (root / page).read_text(encoding="utf-8")))
        if (root / name.partition("/")[0]).is_dir() and not (root / name).exists()
    ]


def unlisted_pages(root: Path) -> list[str]:
    """Pages in ``docs/`` that are not in exactly one list of the index."""
    listed = Counter(
        (INDEX.parent / link.partition("#")[0]).as_posix()
        for link in _LINK.findall((root / INDEX).read_text(encoding="utf-8"))
    )
    # A folder of pages has its own index, which another test compares with the folder.
    own = [page for page in pages(root) if page.parent == INDEX.parent and page != INDEX]
    return [
        f"{page} is {listed[page.as_posix()]} times in {INDEX}, not once"
        for page in own
        if listed[page.as_posix()] != 1
    ]


def unknown_messages(root: Path) -> list[str]:
    """Messages on the troubleshooting page that are in no source. ``…`` stands for what the program fills in."""
    known = list(_messages(root))
    text = (root / TROUBLESHOOTING).read_text(encoding="utf-8")
    return [
        f"{TROUBLESHOOTING} quotes {quoted!r}, but no message in the source has this text"
        for quoted in _MESSAGE.findall(text)
        if not any(quoted in message for message in known)
    ]


def _messages(root: Path) -> Iterator[str]:
    """Every string of the sources, with ``…`` for each part that is filled in."""
    for folder in SPEAKERS:
        for path in sorted(sources(root / folder)):
            yield from _strings(path.read_text(encoding="utf-8"))
        for path in sorted(sources(root / folder, ".sh")):
            yield re.sub(r"\$\(\([^)]*\)\)|\$\{[^}]*\}|\$\w+", "…", path.read_text(encoding="utf-8"))


def _strings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def unmapped_folders(root: Path) -> list[str]:
    """Folders that the map of the source leaves out, and folders on it that do not exist."""
    named = set(_FOLDER.findall((root / ARCHITECTURE).read_text(encoding="utf-8")))
    existing = folders(root)
    return [
        *(f"{ARCHITECTURE} does not name {folder}/" for folder in sorted(existing - named)),
        *(
            f"{ARCHITECTURE} names {folder}/, which does not exist"
            for folder in sorted(named - existing)
            if not (root / folder).is_dir()
        ),
    ]


def folders(root: Path) -> set[str]:
    """The folders that the map must name: two levels deep, without hidden, generated and ignored ones."""
    ignored = {line.strip("/") for line in (root / ".gitignore").read_text(encoding="utf-8").splitlines()}

    def below(folder: Path) -> list[Path]:
        found = [path for path in folder.iterdir() if path.is_dir()]
        return [path for path in found if path.name not in ignored and not path.name.startswith((".", "__"))]

    top = below(root)
    inner = [path for folder in top if folder.name not in NOT_MAPPED for path in below(folder)]
    return {path.relative_to(root).as_posix() for path in [*top, *inner]}
