"""PostgreSQL: connections, transactions, locks, caches and tables."""

from dashboards.board import Board, Row
from dashboards.panels import (
    THIRD,
    Column,
    Size,
    bars_panel,
    series_panel,
    stat_panel,
    table_panel,
    timeline_panel,
)
from dashboards.query import Query, rate, select
from dashboards.style import BAD, GOOD, UP, high_is_bad, words
from dashboards.thresholds import limit
from dashboards.variables import Choice

# The templates and the maintenance database would only add flat lines.
NOT_SYSTEMS = 'datname!~"template.*|postgres"'
OURS = f'datname=~"$database", {NOT_SYSTEMS}'
LOCKED = 'wait_event_type="Lock"'
AT_WORK = 'state="active"'
NO_DUMP = 'application_name!~"pg_dump|posthub-backup.*|backup.*"'
DATABASE = Choice(
    "database", "Database", "pg_stat_database_numbackends", "datname", (NOT_SYSTEMS,), everything=".+"
)
CONNECTIONS = high_is_bad(limit("postgres_connections:ratio"), limit("postgres_connections_critical:ratio"))
TRANSACTION = high_is_bad(limit("postgres_transaction:seconds"))
IDLE = high_is_bad(limit("postgres_idle_in_transaction:seconds"))


def board() -> Board:
    """Return the PostgreSQL dashboard."""
    return Board(
        uid="posthub-postgres",
        title="PostHub / PostgreSQL",
        description="Connections, transactions, locks, caches and tables of the database.",
        jobs="postgres",
        choices=(DATABASE,),
        tags=("postgres",),
        rows=(_health(), _load(), _contention(), _tables()),
    )


def connections_used() -> str:
    """Return the used share of the connections for ordinary users."""
    free = f"{select('pg_settings_max_connections')} - {select('pg_settings_superuser_reserved_connections')}"
    return f"sum({select('pg_stat_database_numbackends')}) / sum({free})"


def cache_hits(by: str = "") -> str:
    """Return the share of block reads served from shared buffers."""
    group = f" by ({by})" if by else ""
    hit = f"sum{group} ({rate('pg_stat_database_blks_hit', OURS)})"
    read = f"sum{group} ({rate('pg_stat_database_blks_read', OURS)})"
    return f"{hit} / clamp_min({hit} + {read}, 1e-9)"


def _longest(*matchers: str, by: str = "") -> str:
    group = f" by ({by})" if by else ""
    return f"max{group} ({select('pg_stat_activity_max_tx_duration', OURS, *matchers)})"


def _health() -> Row:
    return Row(
        "Is the database healthy?",
        (
            stat_panel(
                "PostgreSQL", "Whether the exporter can connect.", f"min({select('pg_up')})", mappings=UP
            ),
            stat_panel(
                "Connections used",
                "Used share of the connections for ordinary users. At 100% the app gets no connection.",
                connections_used(),
                unit="percentunit",
                steps=CONNECTIONS,
            ),
            stat_panel(
                "Longest transaction",
                "The longest active transaction, without dumps. It holds locks and delays vacuum. "
                "Orange is PostgresLongTransaction.",
                f"{_longest(AT_WORK, NO_DUMP)} or 0 * sum({select('pg_up')})",
                unit="s",
                steps=TRANSACTION,
            ),
            stat_panel(
                "Lock waits",
                "Sessions that wait for a lock.",
                f"sum({select('pg_stat_activity_count', OURS, LOCKED)}) or 0 * sum({select('pg_up')})",
                steps=high_is_bad(limit("postgres_lock_waits:max")),
            ),
            stat_panel(
                "Cache hits",
                "Share of block reads served from shared buffers.",
                cache_hits(),
                unit="percentunit",
                decimals=1,
            ),
            stat_panel(
                "Database size",
                "Size of the selected databases on disk.",
                f"sum({select('pg_database_size_bytes', OURS)})",
                unit="bytes",
            ),
        ),
    )


def _load() -> Row:
    commits, rollbacks = (rate(f"pg_stat_database_xact_{how}", OURS) for how in ("commit", "rollback"))
    rows = {"inserted": "tup_inserted", "updated": "tup_updated", "deleted": "tup_deleted"}
    return Row(
        "How much load is there?",
        (
            series_panel(
                "Transactions",
                "Committed and rolled-back transactions per second.",
                Query(f"sum by (datname) ({commits})", "{{datname}} commit"),
                Query(f"sum by (datname) ({rollbacks})", "{{datname}} rollback"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Rows changed",
                "Rows written per second.",
                *(
                    Query(f"sum({rate(f'pg_stat_database_{metric}', OURS)})", name)
                    for name, metric in rows.items()
                ),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Cache hit ratio",
                "Share of block reads served from shared buffers. A fall means that the working set no longer fits.",
                Query(cache_hits("datname"), "{{datname}}"),
                unit="percentunit",
                maximum=1,
                size=THIRD,
            ),
            series_panel(
                "Size",
                "Bytes on disk of each database.",
                Query(f"max by (datname) ({select('pg_database_size_bytes', OURS)})", "{{datname}}"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "Write-ahead log",
                "Size of the write-ahead log on disk. If it grows without limit, a replication slot has no reader.",
                Query(f"max by (instance) ({select('pg_wal_size_bytes')})", "{{instance}}"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "Temporary files",
                "Bytes per second that sorts and hashes write to disk because work_mem is too small.",
                Query(f"sum by (datname) ({rate('pg_stat_database_temp_bytes', OURS)})", "{{datname}}"),
                unit="Bps",
                size=THIRD,
            ),
        ),
    )


def _contention() -> Row:
    return Row(
        "Do sessions wait for locks?",
        (
            series_panel(
                "Connections by state",
                "Sessions by state. Those idle in transaction hold locks and do nothing.",
                Query(f"sum by (state) ({select('pg_stat_activity_count', OURS)}) > 0", "{{state}}"),
                stacked=True,
            ),
            series_panel(
                "Connections against the limit",
                "Used share of the connections for ordinary users. The dashed lines are PostgresConnectionsHigh "
                "and PostgresConnectionsExhausted.",
                Query(connections_used(), "used"),
                unit="percentunit",
                limits=CONNECTIONS,
                maximum=1,
            ),
            series_panel(
                "Oldest transaction by state",
                "Age of the oldest transaction in each state. The dashed line is PostgresIdleInTransaction.",
                Query(_longest(by="state"), "{{state}}"),
                unit="s",
                limits=IDLE,
                size=THIRD,
            ),
            series_panel(
                "Locks held",
                "Locks by mode. Others wait for exclusive modes that are not released.",
                Query(f"sum by (mode) ({select('pg_locks_count', OURS)})", "{{mode}}"),
                size=THIRD,
            ),
            series_panel(
                "Deadlocks and conflicts",
                "Deadlocks and recovery conflicts per second. PostgreSQL resolves a deadlock by aborting one side.",
                Query(
                    f"sum by (datname) ({rate('pg_stat_database_deadlocks', OURS)})", "{{datname}} deadlocks"
                ),
                Query(
                    f"sum by (datname) ({rate('pg_stat_database_conflicts', OURS)})", "{{datname}} conflicts"
                ),
                unit="ops",
                size=THIRD,
            ),
        ),
    )


def _tables() -> Row:
    dead = f"sum by (relname) ({select('pg_stat_user_tables_n_dead_tup', OURS)})"
    live = f"sum by (relname) ({select('pg_stat_user_tables_n_live_tup', OURS)})"
    # From version 0.18 on, the exporter reports table and indexes separately.
    whole = select("pg_stat_user_tables_size_bytes", OURS)
    parts = [select(f"pg_stat_user_tables_{part}_size_bytes", OURS) for part in ("table", "index")]
    size = f"sum by (relname) ({whole} or ({' + '.join(parts)}))"
    vacuumed = f"max by (relname) ({select('pg_stat_user_tables_last_autovacuum', OURS)})"
    return Row(
        "Does vacuum keep up?",
        (
            table_panel(
                "Largest tables",
                "The ten largest tables: size, rows, share of dead rows, and last autovacuum.",
                {"relname": "Table"},
                {
                    "size": (f"topk(10, {size})", Column("Size", "bytes")),
                    "live": (f"{live} and on (relname) topk(10, {size})", Column("Rows")),
                    "dead": (
                        f"{dead} / clamp_min({dead} + {live}, 1) and on (relname) topk(10, {size})",
                        Column("Dead", "percentunit", high_is_bad(limit("postgres_dead_rows:ratio"))),
                    ),
                    "vacuum": (
                        f"(time() - ({vacuumed} > 0)) and on (relname) topk(10, {size})",
                        Column("Vacuumed ago", "s"),
                    ),
                },
                sort="Size",
                size=Size(16, 9),
            ),
            bars_panel(
                "Sequential reads",
                "Rows per second read by sequential scans: ten tables that may lack an index.",
                Query(
                    f"topk(10, sum by (relname) ({rate('pg_stat_user_tables_seq_tup_read', OURS)}))",
                    "{{relname}}",
                ),
                unit="ops",
                size=Size(8, 9),
            ),
            series_panel(
                "Dead rows",
                "Deleted or replaced rows that wait for vacuum.",
                Query(f"topk(5, {dead})", "{{relname}}"),
                limits=high_is_bad(limit("postgres_dead_rows:min")),
            ),
            timeline_panel(
                "Exporter collectors",
                "State of the collectors of postgres_exporter. Red: values on this dashboard are missing.",
                Query(f"min by (collector) ({select('pg_scrape_collector_success')})", "{{collector}}"),
                mappings=words(_0=("Failed", BAD), _1=("OK", GOOD)),
            ),
        ),
    )
