"""A key that cannot delete is enough for everything but pruning."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from backup.catalogue.sweep import sweep
from backup.doctor import examine
from backup.errors import StoreAccessError
from backup.prune import prune
from backup.replication.merged import read
from backup.run import run
from backup.store import LocalStore, NoDeleteStore, Refusal, RetryingStore, RetryPolicy
from backup.verify import verify
from tests.backup.conftest import Wire


class RefusedObjects(LocalStore):
    """A folder whose key cannot delete: each object or the whole request is refused, as S3 does."""

    whole = False

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        if self.whole:
            raise StoreAccessError("delete of folder: AccessDenied", hint="allow it", operation="delete")
        return [Refusal(key, "AccessDenied") for key in keys]


class RefusedRequests(RefusedObjects):
    whole = True


@pytest.mark.parametrize("kind", [RefusedObjects, RefusedRequests])
@pytest.mark.parametrize("setting", ["yes", "never"])
def test_a_whole_life_without_deleting(
    wired: Wire, tmp_path: Path, kind: type[RefusedObjects], setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    wiring = wired(BACKUP_DELETE=setting)
    inner = kind(tmp_path / "store", "main")
    store = RetryingStore(NoDeleteStore(inner) if setting == "never" else inner, RetryPolicy(attempts=1))
    wiring = replace(wiring, store=store)
    name = wiring.targets[0].name
    left_over = tmp_path / "store" / name / "20261101T000000Z-abcdef" / "database.dump.zst"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("of a dead run")
    for _ in range(2):
        made = run(wiring, wiring.targets[0])
        entry = read(wiring).history(name).find(made.id)
        assert entry is not None
        assert verify(wiring, entry).ok
    assert sweep(store, name).objects == 0
    assert "leftovers remain" in caplog.text
    assert left_over.exists()
    found = {check.name: check for check in examine(wiring)}
    deletes = found["store main: put, get, delete"]
    if setting == "never":
        assert deletes.ok, deletes
        assert "cannot delete, as intended" in deletes.detail
        assert "BACKUP_DELETE=never" in prune(wiring, wiring.targets[0]).plan.blocked[0]
    else:
        assert deletes.ok is False
        assert "BACKUP_DELETE=never" in deletes.fix
    assert all(found[f"store main: {what}"].ok for what in ("multipart", "clock"))
    assert len(read(wiring).history(name).backups) == 2


def test_a_key_that_could_delete_is_remarked(wired: Wire, tmp_path: Path) -> None:
    wiring = wired(BACKUP_DELETE="never", BACKUP_OFFSITE_STORE_URL="s3://elsewhere/x")
    found = {check.name: check for check in examine(wiring)}
    assert found["store main: put, get, delete"].ok is None
    assert "can delete" in found["store main: put, get, delete"].detail
    assert found["store offsite: key"].ok is None
    assert "both copies" in found["store offsite: key"].detail
    assert [path.name for path in (tmp_path / "store" / ".doctor").rglob("*") if path.is_file()] == ["probe"]
