"""Redis, the broker and cache: memory, clients, commands and persistence."""

from dashboards.board import Board, Row
from dashboards.panels import THIRD, Size, bars_panel, series_panel, stat_panel
from dashboards.query import Query, rate, select
from dashboards.style import BAD, GOOD, UP, high_is_bad, words
from dashboards.thresholds import limit

MEMORY = high_is_bad(limit("redis_memory:ratio"), limit("redis_memory_critical:ratio"))


def board() -> Board:
    """Return the Redis dashboard."""
    return Board(
        uid="posthub-redis",
        title="PostHub / Redis",
        description="Memory, clients, commands and persistence of the broker and cache.",
        jobs="redis",
        tags=("redis",),
        rows=(_health(), _memory(), _work(), _persistence()),
    )


def memory_used(by: str = "") -> str:
    """Return the used share of maxmemory; 0 without a limit."""
    group = f" by ({by})" if by else ""
    used, most = (select(f"redis_memory_{what}_bytes") for what in ("used", "max"))
    return f"max{group} ({used} / ({most} > 0)) or 0 * max{group} ({used})"


def _health() -> Row:
    return Row(
        "Is Redis healthy?",
        (
            stat_panel(
                "Redis", "Whether the exporter can reach Redis.", f"min({select('redis_up')})", mappings=UP
            ),
            stat_panel(
                "Memory used",
                "Used share of maxmemory. At 100% Redis refuses messages. 0 if no limit is set.",
                memory_used(),
                unit="percentunit",
                steps=MEMORY,
            ),
            stat_panel(
                "Evicted keys",
                "Keys per second that Redis evicted. On a broker each of them may be a lost queue.",
                f"sum({rate('redis_evicted_keys_total')})",
                unit="ops",
                steps=high_is_bad(critical=1e-9),
            ),
            stat_panel(
                "Clients",
                "Connections as a share of maxclients. Orange is RedisClientsHigh.",
                f"max({select('redis_connected_clients')} / {select('redis_config_maxclients')})",
                unit="percentunit",
                steps=high_is_bad(limit("redis_clients:ratio")),
            ),
            stat_panel(
                "Last snapshot",
                "Whether the last background save succeeded.",
                f"min({select('redis_rdb_last_bgsave_status')})",
                mappings=words(_0=("Failed", BAD), _1=("OK", GOOD)),
            ),
            stat_panel(
                "Uptime",
                "Time since Redis started. A restart without persistence empties all queues.",
                f"min({select('redis_uptime_in_seconds')})",
                unit="s",
            ),
        ),
    )


def _memory() -> Row:
    return Row(
        "Is there enough memory?",
        (
            series_panel(
                "Memory",
                "Memory of the data and of the process. If the process uses far more, memory is fragmented.",
                Query(f"max by (instance) ({select('redis_memory_used_bytes')})", "{{instance}} data"),
                Query(f"max by (instance) ({select('redis_memory_used_rss_bytes')})", "{{instance}} process"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "Memory against the limit",
                "Used share of maxmemory. The dashed lines are RedisMemoryHigh and RedisMemoryCritical.",
                Query(memory_used("instance"), "{{instance}}"),
                unit="percentunit",
                limits=MEMORY,
                size=THIRD,
            ),
            series_panel(
                "Keys",
                "Keys in each logical database.",
                Query(f"sum by (db) ({select('redis_db_keys')}) > 0", "{{db}}"),
                size=THIRD,
            ),
            series_panel(
                "Expired and evicted",
                "Keys per second. Expiry is normal; eviction loses data.",
                Query(f"sum({rate('redis_expired_keys_total')})", "expired"),
                Query(f"sum({rate('redis_evicted_keys_total')})", "evicted"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Clients connected",
                "Connected clients, and those in a blocking read, such as idle workers.",
                Query(f"sum({select('redis_connected_clients')})", "connected"),
                Query(f"sum({select('redis_blocked_clients')})", "blocked"),
                size=THIRD,
            ),
            series_panel(
                "Largest output buffer",
                "Bytes that Redis buffers for its slowest reader. Redis disconnects event readers above 32 MB.",
                Query(f"max({select('redis_client_recent_max_output_buffer_bytes')})", "output buffer"),
                unit="bytes",
                size=THIRD,
            ),
        ),
    )


def _work() -> Row:
    spent = f"sum by (cmd) ({rate('redis_commands_duration_seconds_total')})"
    return Row(
        "What does Redis do?",
        (
            series_panel(
                "Commands",
                "Commands per second by name, the eight most frequent.",
                Query(f"topk(8, sum by (cmd) ({rate('redis_commands_total')}))", "{{cmd}}"),
                unit="ops",
                stacked=True,
            ),
            bars_panel(
                "Time by command",
                "Seconds per second that Redis's main thread spends on each command. The sum cannot exceed 1.",
                Query(f"topk(8, {spent})", "{{cmd}}"),
                unit="s",
                size=Size(12, 8),
            ),
            series_panel(
                "Cache hits",
                "Share of lookups that found their key.",
                Query(
                    f"sum({rate('redis_keyspace_hits_total')}) / clamp_min(sum({rate('redis_keyspace_hits_total')})"
                    f" + sum({rate('redis_keyspace_misses_total')}), 1e-9)",
                    "hits",
                ),
                unit="percentunit",
                maximum=1,
                size=THIRD,
            ),
            series_panel(
                "Network",
                "Bytes per second in (above zero) and out (below zero).",
                Query(f"sum({rate('redis_net_input_bytes_total')})", "in"),
                Query(f"-sum({rate('redis_net_output_bytes_total')})", "out"),
                unit="Bps",
                minimum=None,
                size=THIRD,
            ),
            series_panel(
                "Slow commands",
                "Entries in the slow log.",
                Query(f"max by (instance) ({select('redis_slowlog_length')})", "{{instance}}"),
                size=THIRD,
            ),
        ),
    )


def _persistence() -> Row:
    return Row(
        "Is the data persisted?",
        (
            series_panel(
                "Changes not saved",
                "Writes since the last snapshot. A crash loses them if the append-only file is off.",
                Query(f"max by (instance) ({select('redis_rdb_changes_since_last_save')})", "{{instance}}"),
                size=THIRD,
            ),
            series_panel(
                "Age of the last snapshot",
                "Time since the last successful save.",
                Query(
                    f"time() - max by (instance) ({select('redis_rdb_last_save_timestamp_seconds')})",
                    "{{instance}}",
                ),
                unit="s",
                limits=high_is_bad(limit("redis_snapshot_age:seconds")),
                size=THIRD,
            ),
            stat_panel(
                "Append-only file",
                "Whether writes are also logged to disk.",
                f"min({select('redis_aof_enabled')})",
                mappings=words(_0=("Off", "orange"), _1=("On", GOOD)),
                size=Size(4, 8),
            ),
            stat_panel(
                "Rejected clients",
                "Connections rejected per second because maxclients was reached.",
                f"sum({rate('redis_rejected_connections_total')})",
                unit="ops",
                steps=high_is_bad(critical=1e-9),
                size=Size(4, 8),
            ),
        ),
    )
