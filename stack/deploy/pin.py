"""``./ops deploy pin``: writes the digest of each third-party image next to its tag, because a tag can be moved."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sidecar import OpsError
from stack.deploy.digests import DIGEST
from stack.deploy.runner import Runner

# An image where a compose file, a manifest or a Dockerfile names it; ours have no registry before the name.
REFERENCE = re.compile(
    r"^(?P<key>\s*(?:- )?(?:image|imageName): |FROM |ARG (?:BASE|\w+_IMAGE)=)"
    r"(?P<image>(?!posthub/)[a-z][\w./-]*:[\w][\w.-]*)(?:@(?P<digest>sha256:[0-9a-f]{64}))?(?=\s|$)",
    re.MULTILINE,
)
INSPECT = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")


def files(root: Path) -> Iterator[Path]:
    """The files that name images of production."""
    yield from (root / f"docker-compose.{name}.yml" for name in ("prod", "logs", "trial"))
    yield from sorted(
        path for path in root.glob("*/**/Dockerfile") if not {"node_modules", "tests"} & set(path.parts)
    )
    yield from sorted((root / "k8s").rglob("*.yaml"))


def images(text: str) -> dict[str, str]:
    """Image with its tag → its digest; empty for one without."""
    return {found["image"]: found["digest"] or "" for found in REFERENCE.finditer(text)}


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """The text with these digests."""

    def with_digest(found: re.Match[str]) -> str:
        digest = digests.get(found["image"])
        return f"{found['key']}{found['image']}@{digest}" if digest else found[0]

    return REFERENCE.sub(with_digest, text)


def pin(root: Path, runner: Runner) -> tuple[int, list[Path]]:
    """Pin every image in every file; returns the number of images and the files that changed.

    Raises:
        OpsError: the registry does not answer; nothing was changed.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in files(root) if path.exists()}
    digests = {
        image: _digest(runner, image)
        for image in sorted({name for text in texts.values() for name in images(text)})
    }
    changed = [path for path, text in texts.items() if pinned(text, digests) != text]
    if not runner.dry:
        for path in changed:
            path.write_text(pinned(texts[path], digests), encoding="utf-8")
    return len(digests), changed


def _digest(runner: Runner, image: str) -> str:
    done = runner.query(*INSPECT, image)
    digest = done.output.strip()
    if done.code != 0 or not DIGEST.fullmatch(digest):
        raise OpsError(
            f"the digest of {image} is not known: {done.last_line}; nothing was changed",
            hint="run it where the registries can be reached, with the plug-in buildx",
        )
    return digest
