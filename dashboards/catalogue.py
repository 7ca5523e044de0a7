"""All dashboards, as Python objects and as the JSON that Grafana loads."""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.board import Board, assemble
from dashboards.boards import api, backup, celery, host, monitoring, overview, postgres, redis

JSON_FOLDER = Path(__file__).parent / "json"


def boards() -> list[Board]:
    """Return all dashboards in reading order."""
    modules = (overview, celery, api, backup, postgres, redis, host, monitoring)
    return [module.board() for module in modules]


def file_name(board: Board) -> str:
    """Return the name of the dashboard's JSON file."""
    return f"{board.uid}.json"


def render_json(board: Board) -> str:
    """Return the dashboard as JSON text. The output is deterministic."""
    document = json.loads(json.dumps(assemble(board), cls=JSONEncoder))
    return json.dumps(visible(document), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def visible(value: Any) -> Any:
    """Return JSON without the placement that the SDK sets: it hides links and annotation switches in a menu."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if (key, item) != ("placement", "inControlsMenu")}
        return {key: visible(item) for key, item in kept.items()}
    return [visible(item) for item in value] if isinstance(value, list) else value


def built() -> dict[str, str]:
    """Return file name and text of every dashboard."""
    return {file_name(board): render_json(board) for board in boards()}


def build(folder: Path = JSON_FOLDER) -> list[str]:
    """Write all dashboards into `folder` and delete files of removed ones; return the changed file names."""
    texts = built()
    stale = out_of_sync(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        path = folder / name
        if name in texts:
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()
    return stale


def out_of_sync(folder: Path = JSON_FOLDER) -> list[str]:
    """Return the names of files that differ from the generated JSON, are missing or are left over."""
    texts = built()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in texts.keys() | found.keys() if texts.get(name) != found.get(name))
