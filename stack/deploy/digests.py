"""The digests of images: what was scanned and attested is what runs, even if a tag has been moved since."""

import re
from collections.abc import Mapping, Sequence

import click

from sidecar import UsageError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse(given: Sequence[str]) -> Mapping[str, str]:
    """Name of an image → its digest, from ``NAME=sha256:…``.

    Raises:
        UsageError: one of them does not have this form.
    """
    pairs = [text.partition("=") for text in given]
    wrong = [name for name, _, digest in pairs if not name or not DIGEST.fullmatch(digest)]
    if wrong:
        raise UsageError(
            f"the digest of {', '.join(wrong)} is not valid",
            hint="--digest api=sha256:… with 64 hexadecimal digits",
        )
    return {name: digest for name, _, digest in pairs}


OPTION = click.option(
    "--digest",
    "digests",
    multiple=True,
    metavar="NAME=sha256:…",
    help="Digest that the image NAME must have; repeatable. Another image under the same tag is refused.",
)
