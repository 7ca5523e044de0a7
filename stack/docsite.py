"""``./ops docs site``: the documentation as a web site, built by Sphinx from the same pages.

Sphinx reads the pages where they are. Its navigation is the index (docs/README.md). Links to files that are not pages
lead to the repository.
"""

import os
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from sidecar import OpsError
from stack import pages
from stack.paths import ROOT

REPOSITORY = "https://github.com/posthub/ops/blob/main"
FOLDER = ROOT / ".ops" / "site"
# Pages that are in none of the index's lists, under their title in the navigation.
REST = {"Project": ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
# A page of lists, and the folder with one page for each row.
LISTS = {"docs/dashboards.md": "dashboards/*", "runbooks/README.md": "alerts/README"}
# A folder whose index links to its other pages. With a hundred of them, the navigation would be most of every page.
NOT_IN_NAVIGATION = Path("runbooks/alerts")
OPTIONS: dict[str, Any] = {
    "project": "PostHub ops sidecars",
    "extensions": ["myst_parser"],
    "root_doc": "README",
    "include_patterns": ["*.md", "docs/**.md", "runbooks/**.md"],
    "html_theme": "furo",
    "html_title": "PostHub ops sidecars",
    "html_copy_source": False,
    "html_show_copyright": False,
    "myst_heading_anchors": 6,
    "pygments_style": "friendly",
    # Shells and formats without a lexer are shown as text.
    "suppress_warnings": ["misc.highlighting_failure"],
}
_LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@click.command("site")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    help="Folder of the site.  [default: .ops/site]",
)
def site(output: Path) -> None:
    """Build the documentation as a web site, and check it for dead links.

    \b
    Examples:
      ./ops docs site
      ./ops docs site --output /srv/docs
    """
    build(output)
    problems = dead_links(output)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise OpsError(f"the site has {len(problems)} dead links", hint="correct the pages")
    click.echo(f"wrote {len(list(output.rglob('*.html')))} pages: {output / 'index.html'}")


def build(output: Path, root: Path = ROOT) -> None:
    """Write the site into a folder.

    Raises:
        OpsError: a page cannot be converted, or has a reference that leads nowhere.
    """
    # Only this command needs Sphinx.
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    warnings = StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=root,
            confdir=None,
            outdir=output,
            doctreedir=output / ".doctrees",
            buildername="html",
            confoverrides=OPTIONS,
            status=None,
            warning=warnings,
            # A page that is not read again repeats none of its warnings.
            freshenv=True,
        )
        app.connect("source-read", lambda _, name, source: _adapt(root, name, source))
        app.build()
    if warnings.getvalue():
        raise OpsError(f"the site is not complete:\n{warnings.getvalue().strip()}", hint="correct the pages")
    # A web server serves this for the address of a folder.
    (output / "index.html").write_text(
        '<!doctype html><meta http-equiv="refresh" content="0; url=README.html">'
    )


def _adapt(root: Path, name: str, source: list[str]) -> None:
    page = Path(f"{name}.md")
    text = _with_links(root, page, source[0])
    if name == "README":
        text += "\n".join(_navigation(root))
    elif pattern := LISTS.get(str(page)):
        text += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{pattern}\n```\n"
    elif page.parent == NOT_IN_NAVIGATION and page.stem != "README":
        text = f"---\norphan: true\n---\n\n{text}"
    source[0] = text


def _with_links(root: Path, page: Path, text: str) -> str:
    """The text, whose links to files that are not pages lead to the repository."""
    known = pages.pages(root)

    def replaced(found: re.Match[str]) -> str:
        link = found[0]
        target, _, anchor = link.partition("#")
        place = Path(os.path.normpath(page.parent / target))
        # Sphinx reports what does not exist.
        if (
            "://" in link
            or not target
            or place in known
            or place.suffix == ".png"
            or not (root / place).exists()
        ):
            return link
        return f"{REPOSITORY}/{place}{f'#{anchor}' if anchor else ''}"

    return _LINK.sub(replaced, text)


def _navigation(root: Path) -> Iterator[str]:
    """The lists of the index as tables of contents, which Sphinx shows at the side of each page."""
    index = (root / pages.INDEX).read_text(encoding="utf-8")
    _, *parts = _HEADING.split(index)
    lists: dict[str, Sequence[str]] = {
        "Start": (str(pages.INDEX), "runbooks/README.md"),
        **{
            title: [
                str(pages.INDEX.parent / link)
                for link in re.findall(r"^\| \[[^]]+\]\(([\w-]+\.md)\)", part, re.MULTILINE)
            ]
            for title, part in zip(parts[::2], parts[1::2], strict=True)
        },
        **REST,
    }
    for title, names in lists.items():
        entries = "\n".join(name.removesuffix(".md") for name in names)
        yield f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def dead_links(site: Path) -> list[str]:
    """Links within a built site that lead to no file or to no place in it. Addresses on the Internet are not requested."""
    found = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in found and anchor not in found[target].anchors):
                problems.append(f"{path.relative_to(site)} links to {link}, which does not exist")
    return problems
