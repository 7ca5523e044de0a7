"""``./ops deploy pin``: a digest next to the tag of every image that is not ours, in every file that names one."""

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import OpsError
from stack.deploy import pin
from stack.deploy.runner import Runner
from stack.doctor.host import Done
from stack.paths import ROOT
from tests.deploy.kubekit import plain, pod_specs


class Registry(Runner):
    """Answers with a digest for every image, except those that it does not know."""

    def __init__(self, root: Path, unknown: str = "nowhere", *, dry: bool = False) -> None:
        super().__init__(root, dry=dry)
        self._unknown = unknown

    def query(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Done:
        if self._unknown in command[-1]:
            return Done(1, "", "ERROR: not found")
        return Done(0, f"sha256:{hashlib.sha256(command[-1].encode()).hexdigest()}\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for path in pin.files(ROOT):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def found(root: Path) -> dict[str, set[str]]:
    """Image → its digests in all files."""
    all_of_them: dict[str, set[str]] = {}
    for path in pin.files(root):
        for image, digest in pin.images(path.read_text(encoding="utf-8")).items():
            all_of_them.setdefault(image, set()).add(digest)
    return all_of_them


def test_every_foreign_image_is_known(production: dict[str, Any]) -> None:
    """One that the pattern did not find would stay without a digest, and nobody would notice."""
    trial = yaml.safe_load((ROOT / "docker-compose.trial.yml").read_text(encoding="utf-8"))
    services = (*production["services"].values(), *trial["services"].values())
    used = {service.get("image", "") for service in services}
    used |= {container["image"] for _, _, spec in pod_specs(plain()) for container in spec["containers"]}
    used |= {one["spec"]["imageName"] for one in plain() if one["kind"] == "Cluster"}
    foreign = {
        image.partition("@")[0] for image in used if not image.startswith(("posthub/", "${")) and image
    }
    bases = {
        base
        for path in pin.files(ROOT)
        if path.name == "Dockerfile"
        for base in re.findall(
            r"^(?:FROM |ARG \w+=)([a-z][\w./-]*:[^\s@]+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert set(found(ROOT)) == foreign | bases


def test_each_gets_the_digest_of_its_registry(checkout: Path) -> None:
    count, changed = pin.pin(checkout, Registry(checkout))
    after = found(checkout)
    assert count == len(after) > 15
    assert all(len(digests) == 1 and "" not in digests for digests in after.values()), after
    assert {path.name for path in changed} >= {"docker-compose.prod.yml", "cluster.yaml", "Dockerfile"}
    # Ours are built here, and everything else stays as it is.
    for path in changed:
        before = (ROOT / path.relative_to(checkout)).read_text(encoding="utf-8")
        assert re.sub(r"@sha256:\w+", "", path.read_text(encoding="utf-8")) == re.sub(
            r"@sha256:\w+", "", before
        )
    assert "posthub/api@" not in (checkout / "docker-compose.prod.yml").read_text(encoding="utf-8")
    assert pin.pin(checkout, Registry(checkout)) == (count, [])


def test_a_moved_tag_gets_its_new_digest(checkout: Path) -> None:
    pin.pin(checkout, Registry(checkout))
    file = checkout / "docker-compose.prod.yml"
    pinned = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(caddy:\S+@sha256:)\w{64}", r"\g<1>" + "0" * 64, pinned), encoding="utf-8")
    assert pin.pin(checkout, Registry(checkout))[1] == [file]
    assert file.read_text(encoding="utf-8") == pinned


def test_a_registry_that_does_not_answer_changes_nothing(checkout: Path) -> None:
    before = found(checkout)
    with pytest.raises(OpsError, match=r"the digest of grafana/grafana:\S+ is not known: ERROR: not found"):
        pin.pin(checkout, Registry(checkout, "grafana"))
    pin.pin(checkout, Registry(checkout, dry=True))
    assert found(checkout) == before
