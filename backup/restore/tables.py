"""Restores single tables of a backup into a separate schema of the live database, to inspect them and copy rows.

Tables are restored with their columns and rows, but without what connects them to others: indexes, constraints, triggers
and defaults from sequences. A table that inherits from another is refused. It is one transaction, so an interrupted restore
leaves nothing behind.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from backup.catalogue.history import Entry
from backup.catalogue.manifest import Manifest, Table
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import DumpError, VerificationError
from backup.load.download import check_space, download
from backup.load.execution import Runner, runner
from backup.load.throwaway import private_folder, sweep_folders
from backup.pipeline import ChildSource
from backup.pipeline.source import CHUNK
from backup.postgres.children import child_access
from backup.postgres.dsn import Address
from backup.postgres.dump import THROUGH_ROOT
from backup.postgres.identifiers import NAME, unquoted
from backup.postgres.session import session, text_of
from backup.postgres.statements import SETTINGS, Splitter
from backup.programs import Programs, clean_environment
from backup.progress import Reporter
from backup.restore.partitions import Attachment, attachments, topmost, with_partitions
from backup.verify.compare import parts
from backup.verify.digests import HEADER, Digest, Key, compare, digests, key_of, routed_otherwise
from backup.verify.moved_rows import only_moved, shown
from backup.wiring import Wiring
from sidecar import UsageError

COMMENT = "restored by posthub-ops from backup "
STEPS = (
    "check the tables and the schema",
    "download, check and decompress the backup",
    "restore the tables",
    "compare their rows with the backup",
)
MAX_SHOWN = 400
_VERBS = rb"(?:CREATE (?:UNLOGGED )?TABLE|ALTER TABLE(?: ONLY)?|COPY) "
_COPY = re.compile(rb"COPY .* FROM stdin;", re.DOTALL)
_TARGET = re.compile(rb"COPY (" + NAME + rb")\.(" + NAME + rb")(?= )")
_INHERITS = re.compile(rb"^INHERITS \(", re.MULTILINE)
# Session statements of a dump that are kept: those that affect how the rest is read, or differ from a new session.
_CARRIED = (*SETTINGS, b"SET default_table_access_method ")
_NOT_NEEDED = (b"SET ", b"SELECT pg_catalog.set_config('search_path', '', false);")


@dataclass(frozen=True)
class Side:
    """The schema that the tables are restored into."""

    database: Address
    schema: str


def chosen(
    manifest: Manifest, wanted: Sequence[str], attached: Sequence[Attachment] | None = None
) -> list[Table]:
    """The tables of a backup by their names: ``schema.table``, ``table`` alone for public, or ``schema.*``.

    A partitioned table comes with all partitions. A manifest lists only tables with rows, so the archive names the partitioned ones.

    Args:
        attached: the partitions in the archive; None before it is read: then names that the manifest lacks are skipped.

    Raises:
        UsageError: a table is not in the backup.
    """
    known = {table.label: table for table in manifest.tables}
    parents = {".".join(each.parent): each.parent for each in attached or ()}
    found: dict[str, Table] = {}
    above: set[tuple[str, str]] = set()
    for name in wanted:
        labels = [*_matching(known, name), *_matching(parents, name)]
        if not labels and (attached is not None or name.endswith(".*")):
            raise UsageError(
                f"{manifest.id} has no table {name if '.' in name else f'public.{name}'}",
                hint=f"list its tables: python -m backup show {manifest.id}",
            )
        found.update({label: known[label] for label in labels if label in known})
        above.update(parents[label] for label in labels if label in parents)
    tables = with_partitions(found.values(), above, manifest.tables, attached or ())
    if len({table.name for table in tables}) < len(tables):
        raise UsageError(
            "two of the tables have the same name", hint="restore them one by one, into different schemas"
        )
    return tables


def _matching(labels: Iterable[str], name: str) -> list[str]:
    exact = [label for label in labels if label in (name, f"public.{name}")]
    if name in exact:
        return [name]
    schema = name.removesuffix("*") if name.endswith(".*") else None
    return exact or [label for label in labels if schema and label.startswith(schema)]


@dataclass(frozen=True)
class RestoredTables:
    """The restored tables, and how they differ from the backup.

    Attributes:
        copy: for each table that exists in the live database, a statement that copies back the rows that it lacks.
    """

    tables: tuple[Table, ...]
    differences: tuple[Difference, ...]
    copy: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


def restore_tables(
    wiring: Wiring, entry: Entry, wanted: Sequence[str], side: Side, reporter: Reporter | None = None
) -> RestoredTables:
    """Restore tables into a separate schema.

    Args:
        wanted: names of tables; see :func:`chosen`.

    Raises:
        UsageError: the schema exists, but was not created by a restore, or a table is not in the backup.
        VerificationError: the backup is damaged. Nothing was created.
    """
    reporter = reporter or Reporter()
    reporter.step(STEPS[0])
    check(side)
    sweep_folders(wiring.settings.work_dir)
    with wiring.stop.limit(wiring.settings.timeout), private_folder(wiring.settings.work_dir) as folder:
        check_space(folder, entry.manifest.raw_bytes, "the restore")
        reporter.step(STEPS[1])
        files, damage = download(wiring, entry, folder, reporter.bytes)
        if damage:
            raise VerificationError(
                f"{entry.id} is damaged; NOTHING was restored: {damage[0]}",
                hint="choose another backup: python -m backup list",
            )
        attached = attachments(wiring.programs, files["archive"])
        tables = chosen(entry.manifest, wanted, attached)
        reporter.step(STEPS[2])
        quoted = _quoted(side, tables)
        among = {(table.schema_name, table.name) for table in tables}
        inner = [each for each in attached if {each.parent, each.child} <= among]
        attaching = [each.within(quoted[side.schema].encode()) for each in inner]
        partitions = among & {each.child for each in attached}
        roots = {name: name for name in partitions} | topmost(inner)
        rewriter = StatementRewriter(tables, side.schema, quoted, roots)
        _load(wiring, entry, files["archive"], rewriter, side, attaching)
        reporter.step(STEPS[3])
        differences = tuple(_compare(wiring, files["archive"], rewriter, side))
        below = {each.child for each in inner}
        top = [table for table in tables if (table.schema_name, table.name) not in below]
        return RestoredTables(tuple(tables), differences, dict(_copying(side, top)))


def check(side: Side) -> None:
    """Check that the schema is free, or was created by an earlier restore."""
    with session(side.database) as connection:
        row = connection.execute(
            "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s",
            [side.schema],
        ).fetchone()
    if row is not None and not row[0].startswith(COMMENT):
        raise UsageError(
            f"the schema {side.schema} exists in {side.database.database} and was not created by a restore",
            hint="choose another name with --schema",
        )


@dataclass(frozen=True)
class Piece:
    """A piece of a plain-text dump: a header, a statement, many lines of rows, or the mark that ends them."""

    kind: Literal["header", "statement", "rows", "end"]
    text: bytes


END = Piece("end", b"\\.\n")


class StatementRewriter:
    """Rewrite statements about tables into statements about tables in another schema.

    Statements about anything else are dropped: pg_restore selects names and schemas separately, so ``a.t`` and ``b.u``
    also select ``a.u``; and a statement that is not rewritten would change the live tables.

    Args:
        roots: for each partition, the topmost of the tables that routes its rows, or itself. A dump may have these rows as
            those of a table above it, which is not among the tables.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        schema: str,
        quoted: Mapping[str, str],
        roots: Mapping[tuple[str, str], tuple[str, str]] | None = None,
    ) -> None:
        self.tables = tables
        self._roots = roots or {}
        self._quoted = quoted
        self._key: Key | None = None
        self._new = schema.encode()
        self._wanted = {
            (kind, shown(table.schema_name), shown(table.name)): (table.schema_name, table.name)
            for table in tables
            for kind in ("TABLE", "TABLE DATA")
        }
        self._statements = [_statement(table, schema, quoted) for table in tables]

    def text(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The rewritten dump as text. Rows pass unchanged."""
        for piece in self.pieces(lines):
            yield piece.text + (b"\n" if piece.kind == "statement" else b"")

    def pieces(self, lines: Iterable[bytes]) -> Iterator[Piece]:
        """The rewritten dump, piece by piece.

        Raises:
            UsageError, VerificationError: a statement is not about one of the tables alone.
        """
        lines, splitter, selected = iter(lines), Splitter(), True
        for line in lines:
            if splitter.between and (header := HEADER.fullmatch(line)):
                self._key = key_of(header)
                selected = self._key in self._wanted
                if selected:
                    yield Piece("header", self._moved(header))
                continue
            for statement in splitter.line(line):
                if selected and (rewritten := self._rewritten(statement)):
                    yield Piece("statement", rewritten)
                if _COPY.fullmatch(statement):
                    yield from (piece for piece in _rows(lines) if selected)

    def _routed(self, copy: bytes) -> bytes:
        """The COPY statement of a partition, into a table among ours."""
        found = _TARGET.match(copy)
        own = self._wanted.get(self._key) if self._key else None
        # Only the rows of a partition may name another table.
        if own is None or own not in self._roots or found is None:
            return copy
        if (unquoted(found[1]), unquoted(found[2])) in self._wanted.values():
            return copy
        schema, name = (self._quoted[each].encode() for each in self._roots[own])
        return b"COPY " + schema + b"." + name + copy[found.end() :]

    def _moved(self, header: re.Match[bytes]) -> bytes:
        begin, end = header.span("schema")
        return header[0][:begin] + self._new + header[0][end:]

    def _rewritten(self, statement: bytes) -> bytes | None:
        """The statement to carry out; None if it is not needed."""
        if statement.startswith(_CARRIED):
            return statement
        if statement.startswith(_NOT_NEEDED):
            return None
        if _INHERITS.search(statement):
            raise UsageError(
                "one of the tables inherits its columns from another table",
                hint="restore the whole backup with --into, and copy the rows from there",
            )
        known = self._statements
        if _COPY.fullmatch(statement):
            statement = self._routed(statement)
        elif statement.startswith(b"COPY "):
            known = []  # from or to a file or a program of the server
        for pattern, name in known:
            if match := pattern.match(statement):
                return match[1] + name + statement[match.end(1) + len(match[2]) :]
        raise VerificationError(
            "NOTHING was restored: this statement does not name its table clearly:"
            f" {statement[:MAX_SHOWN].decode(errors='replace').strip()}",
            hint="restore the whole backup with --into, and copy the rows from there",
        )


def _rows(lines: Iterator[bytes]) -> Iterator[Piece]:
    """The rows that follow a COPY statement, up to their end mark, in pieces of a reasonable size."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if line == END.text:
            break
        batch.append(line)
        size += len(line)
        if size >= CHUNK:
            yield Piece("rows", b"".join(batch))
            batch, size = [], 0
    yield Piece("rows", b"".join(batch))
    yield END


def _statement(table: Table, schema: str, quoted: Mapping[str, str]) -> tuple[re.Pattern[bytes], bytes]:
    old = f"{quoted[table.schema_name]}.{quoted[table.name]}".encode()
    new = f"{quoted[schema]}.{quoted[table.name]}".encode()
    return re.compile(rb"(" + _VERBS + rb")(" + re.escape(old) + rb")(?= |;)"), new


def _quoted(side: Side, tables: Sequence[Table]) -> dict[str, str]:
    """Quote names as PostgreSQL's programs do. The server decides which need quotes."""
    names = {side.schema, *(table.schema_name for table in tables), *(table.name for table in tables)}
    with session(side.database) as connection:
        rows = connection.execute(
            "SELECT name, quote_ident(name) FROM unnest(%s::text[]) name", [list(names)]
        )
        return dict(rows.fetchall())


def _selected(programs: Programs, archive: Path, tables: Sequence[Table], *options: str) -> list[str]:
    names = [f"--table={table.name}" for table in tables]
    schemas = [f"--schema={name}" for name in dict.fromkeys(table.schema_name for table in tables)]
    return [
        programs.path("pg_restore"),
        *names,
        *schemas,
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        *options,
        "--file=-",
        str(archive),
    ]


def _load(
    wiring: Wiring,
    entry: Entry,
    archive: Path,
    rewriter: StatementRewriter,
    side: Side,
    attaching: Sequence[bytes],
) -> None:
    """Carry out the rewritten dump in one transaction: if this process dies, the server rolls everything back."""
    check = wiring.stop.check
    with (
        ChildSource(
            _selected(wiring.programs, archive, rewriter.tables),
            env=clean_environment(),
            hint="python -m backup doctor",
            confinement=Confinement(archive.parent),
            check=check,
        ) as source,
        runner(side.database, check) as running,
    ):
        try:
            with running.connection.transaction():
                for statement in _schema(side.schema, entry.id):
                    running.execute(statement)
                _carry_out(running, rewriter.pieces(_lines(source)), attaching)
        except psycopg.Error as error:
            raise DumpError(
                f"the tables were not restored; nothing was created: {text_of(error)[:MAX_SHOWN]}",
                hint="a table may need a type or function that the database lacks; restore the whole backup with --into",
            ) from None


def _carry_out(running: Runner, pieces: Iterator[Piece], attaching: Iterable[bytes]) -> None:
    """Carry out a dump. Partitions are attached before the first rows, which may come through the table above."""
    left = iter(attaching)
    for piece in pieces:
        if piece.kind != "statement":
            continue
        if not _COPY.fullmatch(piece.text):
            running.execute(piece.text)
            continue
        for statement in left:
            running.execute(statement)
        with running.connection.cursor().copy(piece.text) as copy:
            for rows in iter(partial(next, pieces, END), END):
                running.wait(partial(copy.write, rows.text))
    for statement in left:
        running.execute(statement)


def _schema(name: str, backup_id: str) -> Iterator[bytes]:
    schema = sql.Identifier(name)
    for form in ("DROP SCHEMA IF EXISTS {} CASCADE", "CREATE SCHEMA {}"):
        yield sql.SQL(form).format(schema).as_string().encode()
    comment = sql.Literal(COMMENT + backup_id)
    yield sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, comment).as_string().encode()


# Columns of both tables, without those whose values are computed.
_COLUMNS = """
SELECT string_agg(quote_ident(l.attname), ', ' ORDER BY l.attnum), l.attrelid::regclass, r.attrelid::regclass
FROM pg_attribute l JOIN pg_attribute r ON r.attname = l.attname AND r.attnum > 0 AND NOT r.attisdropped
WHERE l.attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
  AND r.attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
  AND l.attnum > 0 AND NOT l.attisdropped AND l.attgenerated = '' GROUP BY 2, 3
"""


def _copying(side: Side, tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    with session(side.database) as connection:
        for table in tables:
            names = (table.schema_name, table.name, side.schema, table.name)
            if row := connection.execute(_COLUMNS, names).fetchone():
                columns, live, restored = row
                yield (
                    table.label,
                    (
                        f"INSERT INTO {live} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {restored}"
                        " ON CONFLICT DO NOTHING;"
                    ),
                )


def _compare(wiring: Wiring, archive: Path, rewriter: StatementRewriter, side: Side) -> Iterator[Difference]:
    expected, found = _expected(wiring, archive, rewriter), _actual(wiring, side, archive.parent)
    if rooted := routed_otherwise(expected, found):
        again = _actual(wiring, side, archive.parent, THROUGH_ROOT)
        found |= {key: again[key] for key in rooted if key in again}
    rows = {shown(table.name): table.rows for table in rewriter.tables}
    # The hash of a value may have changed since the backup.
    moved = only_moved(parts(expected), parts(found))
    for key, wanted, got in compare(expected, found):
        if key[1:] in moved:
            continue
        yield Difference(kind=key[0].lower(), object=f"{key[1]}.{key[2]}", expected=wanted, found=got)
    restored = {name for _, _, name in found}
    for name in sorted(name for name, number in rows.items() if number and name not in restored):
        yield Difference(
            kind="rows", object=f"{side.schema}.{name}", expected=str(rows[name]), found="nothing"
        )
    for (_, schema, name), digest in found.items():
        if digest.rows != rows.get(name) and (schema, name) not in moved:
            yield Difference(
                kind="rows",
                object=f"{schema}.{name}",
                expected=str(rows.get(name, 0)),
                found=str(digest.rows),
            )


def _expected(wiring: Wiring, archive: Path, rewriter: StatementRewriter) -> dict[Key, Digest]:
    command = _selected(wiring.programs, archive, rewriter.tables, "--data-only")
    with ChildSource(
        command,
        env=clean_environment(),
        hint="python -m backup doctor",
        confinement=Confinement(archive.parent),
        check=wiring.stop.check,
    ) as source:
        return digests(rewriter.text(_lines(source)))


def _actual(wiring: Wiring, side: Side, folder: Path, *options: str) -> dict[Key, Digest]:
    pattern = sql.Identifier(side.schema).as_string()
    command = [
        wiring.programs.path("pg_dump"),
        "--data-only",
        *options,
        f"--schema={pattern}",
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        "--no-password",
        f"--dbname={side.database.conninfo}",
    ]
    with (
        child_access(side.database) as (env, fds),
        ChildSource(
            command,
            env=env,
            pass_fds=fds,
            hint="python -m backup doctor",
            check=wiring.stop.check,
            confinement=Confinement(folder).connecting(side.database.public),
        ) as source,
    ):
        return digests(_lines(source))


def _lines(source: ChildSource) -> Iterator[bytes]:
    rest = b""
    while piece := source.read():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest
