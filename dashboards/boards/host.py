"""Host & containers: CPU, memory, disks and network of the machine and its containers."""

from dashboards.board import Board, Row
from dashboards.panels import THIRD, bars_panel, gauge_panel, series_panel
from dashboards.query import Query, rate, select
from dashboards.style import PLAIN, high_is_bad
from dashboards.thresholds import limit

DISKS = 'fstype!~"tmpfs|overlay|squashfs|ramfs|fuse.*|nsfs"'
CARDS = 'device!~"lo|veth.*|docker.*|br-.*"'
NAMED = 'name!=""'
IDLE = 'mode="idle"'
BUSY = 'mode!="idle"'

MEMORY = high_is_bad(
    1 - limit("host_memory_available:ratio"), 1 - limit("host_memory_available_critical:ratio")
)
DISK = high_is_bad(critical=1 - limit("host_disk_free:ratio"))
LOAD = high_is_bad(limit("host_load_per_cpu:max"))


def board() -> Board:
    """Return the Host & containers dashboard."""
    return Board(
        uid="posthub-host",
        title="PostHub / Host & containers",
        description="CPU, memory, disks and network of the machine, and their use by container.",
        # The second names are those of kube-prometheus-stack.
        jobs="node|cadvisor|node-exporter|kubelet",
        tags=("host",),
        rows=(_room(), _cpu_memory(), _disk_network(), _containers()),
    )


def cpu_used(by: str = "") -> str:
    """Return the share of CPU time that is not idle."""
    group = f" by ({by})" if by else ""
    return f"1 - avg{group} ({rate('node_cpu_seconds_total', IDLE)})"


def memory_used(by: str = "") -> str:
    """Return the share of memory that is not available without swapping."""
    group = f" by ({by})" if by else ""
    free, everything = (
        f"sum{group} ({select(f'node_memory_Mem{what}_bytes')})" for what in ("Available", "Total")
    )
    return f"1 - {free} / {everything}"


def disk_used() -> str:
    """Return the used share of each filesystem."""
    labels = "instance, mountpoint"
    free = f"min by ({labels}) ({select('node_filesystem_avail_bytes', DISKS)})"
    size = f"min by ({labels}) ({select('node_filesystem_size_bytes', DISKS)})"
    return f"1 - {free} / ({size} > 0)"


def load_per_cpu(by: str = "instance") -> str:
    """Return the five-minute load per CPU."""
    cpus = f"count by ({by}) ({select('node_cpu_seconds_total', IDLE)})"
    return f"max by ({by}) ({select('node_load5')}) / {cpus}"


def _room() -> Row:
    inodes = (
        f"1 - {select('node_filesystem_files_free', DISKS)} / ({select('node_filesystem_files', DISKS)} > 0)"
    )
    return Row(
        "Is there enough capacity?",
        (
            gauge_panel(
                "CPU",
                "Used share of CPU time. A busy CPU is not a fault: the load shows waiting work.",
                cpu_used(),
                steps=PLAIN,
            ),
            gauge_panel(
                "Memory",
                "Share of memory that is not available. Orange is HostMemoryLow, red HostMemoryCritical.",
                memory_used(),
                steps=MEMORY,
            ),
            gauge_panel(
                "Fullest disk",
                "Used share of the fullest filesystem. Red is HostDiskAlmostFull.",
                f"max({disk_used()})",
                steps=DISK,
            ),
            gauge_panel(
                "Inodes",
                "Used share of inodes on the filesystem with the fewest left. Orange is HostInodesLow.",
                f"max({inodes})",
                steps=high_is_bad(1 - limit("host_inodes_free:ratio")),
            ),
        ),
    )


def _cpu_memory() -> Row:
    memory = {
        "used": f"sum({select('node_memory_MemTotal_bytes')}) - sum({select('node_memory_MemAvailable_bytes')})",
        "available": f"sum({select('node_memory_MemAvailable_bytes')})",
    }
    return Row(
        "CPU and memory",
        (
            series_panel(
                "CPU by mode",
                "CPU time by mode, as a share of all CPUs. Steal is time taken by the hypervisor.",
                Query(
                    f"sum by (mode) ({rate('node_cpu_seconds_total', BUSY)})"
                    f" / scalar(count({select('node_cpu_seconds_total', IDLE)}))",
                    "{{mode}}",
                ),
                unit="percentunit",
                stacked=True,
                size=THIRD,
            ),
            series_panel(
                "Load per CPU",
                "Processes that run or wait to run, per CPU. The dashed line is HostCpuSaturated.",
                Query(load_per_cpu(), "{{instance}}"),
                limits=LOAD,
                size=THIRD,
            ),
            series_panel(
                "Memory use",
                "Used memory and memory that is available to programs.",
                *(Query(expr, name) for name, expr in memory.items()),
                unit="bytes",
                stacked=True,
                size=THIRD,
            ),
            series_panel(
                "Pressure",
                "Share of time in which some process waited for CPU or disk.",
                Query(f"max({rate('node_pressure_cpu_waiting_seconds_total')})", "CPU"),
                Query(f"max({rate('node_pressure_io_waiting_seconds_total')})", "disk"),
                unit="percentunit",
                size=THIRD,
            ),
            series_panel(
                "Swapping and OOM kills",
                "Pages swapped per second, and processes killed by the OOM killer per second.",
                Query(f"sum({rate('node_vmstat_pswpin')})", "pages in"),
                Query(f"sum({rate('node_vmstat_pswpout')})", "pages out"),
                Query(f"sum({rate('node_vmstat_oom_kill')})", "killed"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Clock offset",
                "Offset of the machine's clock, on which backups, schedules and metrics depend.",
                Query(f"max by (instance) (abs({select('node_timex_offset_seconds')}))", "{{instance}}"),
                unit="s",
                limits=high_is_bad(limit("host_clock_offset:seconds")),
                size=THIRD,
            ),
        ),
    )


def _disk_network() -> Row:
    free = f"min by (mountpoint) ({select('node_filesystem_avail_bytes', DISKS)})"
    return Row(
        "Disk and network",
        (
            bars_panel(
                "Disks",
                "Used share of each filesystem.",
                Query(disk_used(), "{{mountpoint}}"),
                unit="percentunit",
                steps=DISK,
                maximum=1,
            ),
            series_panel(
                "Free space",
                "Bytes free on each filesystem.",
                Query(free, "{{mountpoint}}"),
                unit="bytes",
                size=THIRD,
            ),
            series_panel(
                "Disk busy",
                "Share of time in which each disk was busy.",
                Query(f"max by (device) ({rate('node_disk_io_time_seconds_total')})", "{{device}}"),
                unit="percentunit",
                size=THIRD,
            ),
            series_panel(
                "Disk traffic",
                "Bytes per second read (above zero) and written (below zero).",
                Query(f"sum by (device) ({rate('node_disk_read_bytes_total')})", "{{device}} read"),
                Query(f"-sum by (device) ({rate('node_disk_written_bytes_total')})", "{{device}} written"),
                unit="Bps",
                minimum=None,
            ),
            series_panel(
                "Network traffic",
                "Bytes per second received (above zero) and sent (below zero).",
                Query(
                    f"sum by (device) ({rate('node_network_receive_bytes_total', CARDS)})", "{{device}} in"
                ),
                Query(
                    f"-sum by (device) ({rate('node_network_transmit_bytes_total', CARDS)})", "{{device}} out"
                ),
                unit="Bps",
                minimum=None,
            ),
        ),
    )


def _containers() -> Row:
    used = f"max by (name) ({select('container_memory_working_set_bytes', NAMED)})"
    most = f"max by (name) ({select('container_spec_memory_limit_bytes', NAMED)})"
    return Row(
        "Containers",
        (
            series_panel(
                "Container CPU",
                "CPUs used by each container.",
                Query(f"sum by (name) ({rate('container_cpu_usage_seconds_total', NAMED)})", "{{name}}"),
                unit="none",
                stacked=True,
                size=THIRD,
            ),
            series_panel(
                "Container memory against the limit",
                "Share of its memory limit that each container uses. The dashed line is HighMemoryUsage.",
                Query(f"{used} / ({most} > 0)", "{{name}}"),
                unit="percentunit",
                limits=high_is_bad(limit("container_memory:ratio")),
                size=THIRD,
            ),
            series_panel(
                "Container uptime",
                "Time since each container started. A sawtooth is a container that restarts repeatedly.",
                Query(
                    f"time() - max by (name) ({select('container_start_time_seconds', NAMED)})", "{{name}}"
                ),
                unit="s",
                size=THIRD,
            ),
        ),
    )
