"""Host & containers: has the machine room left, and which container takes it?"""

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
        description="CPU, memory, disk and network of the machine, and what each container takes of them.",
        # The second names are those of kube-prometheus-stack.
        jobs="node|cadvisor|node-exporter|kubelet",
        tags=("host",),
        rows=(_room(), _cpu_memory(), _disk_network(), _containers()),
    )


def cpu_used(by: str = "") -> str:
    """Return the share of processor time that is not idle."""
    group = f" by ({by})" if by else ""
    return f"1 - avg{group} ({rate('node_cpu_seconds_total', IDLE)})"


def memory_used(by: str = "") -> str:
    """Return the share of memory that cannot be had without swapping."""
    group = f" by ({by})" if by else ""
    free, everything = (
        f"sum{group} ({select(f'node_memory_Mem{what}_bytes')})" for what in ("Available", "Total")
    )
    return f"1 - {free} / {everything}"


def disk_used() -> str:
    """Return the share of each filesystem that is taken."""
    labels = "instance, mountpoint"
    free = f"min by ({labels}) ({select('node_filesystem_avail_bytes', DISKS)})"
    size = f"min by ({labels}) ({select('node_filesystem_size_bytes', DISKS)})"
    return f"1 - {free} / ({size} > 0)"


def load_per_cpu(by: str = "instance") -> str:
    """Return the five-minute load for each processor."""
    cpus = f"count by ({by}) ({select('node_cpu_seconds_total', IDLE)})"
    return f"max by ({by}) ({select('node_load5')}) / {cpus}"


def _room() -> Row:
    inodes = (
        f"1 - {select('node_filesystem_files_free', DISKS)} / ({select('node_filesystem_files', DISKS)} > 0)"
    )
    return Row(
        "Is there room left?",
        (
            gauge_panel(
                "CPU",
                "Share of processor time in use. A busy processor is no fault: see load for work that waits.",
                cpu_used(),
                steps=PLAIN,
            ),
            gauge_panel(
                "Memory",
                "Share of memory that is really taken. Orange is HostMemoryLow, red HostMemoryCritical.",
                memory_used(),
                steps=MEMORY,
            ),
            gauge_panel(
                "Fullest disk",
                "The fullest filesystem. Red is HostDiskAlmostFull.",
                f"max({disk_used()})",
                steps=DISK,
            ),
            gauge_panel(
                "Inodes",
                "Share of the files it may hold, of the filesystem with the fewest left. Orange is HostInodesLow.",
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
        "Processor and memory",
        (
            series_panel(
                "CPU by mode",
                "Where processor time goes, as a share of all processors. Steal belongs to the hoster.",
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
                "Load per processor",
                "Tasks that run or want to, for each processor. The dashed line is HostCpuSaturated.",
                Query(load_per_cpu(), "{{instance}}"),
                limits=LOAD,
                size=THIRD,
            ),
            series_panel(
                "Memory use",
                "Memory that is taken and memory that programs could still have.",
                *(Query(expr, name) for name, expr in memory.items()),
                unit="bytes",
                stacked=True,
                size=THIRD,
            ),
            series_panel(
                "Pressure",
                "Share of time in which some task waited for processor or disk.",
                Query(f"max({rate('node_pressure_cpu_waiting_seconds_total')})", "processor"),
                Query(f"max({rate('node_pressure_io_waiting_seconds_total')})", "disk"),
                unit="percentunit",
                size=THIRD,
            ),
            series_panel(
                "Swapping and killing",
                "Pages swapped per second, and processes that the kernel killed for lack of memory.",
                Query(f"sum({rate('node_vmstat_pswpin')})", "pages in"),
                Query(f"sum({rate('node_vmstat_pswpout')})", "pages out"),
                Query(f"sum({rate('node_vmstat_oom_kill')})", "killed"),
                unit="ops",
                size=THIRD,
            ),
            series_panel(
                "Clock offset",
                "How far the machine's clock is off. Backups, schedules and metrics all trust it.",
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
                "How full each filesystem is.",
                Query(disk_used(), "{{mountpoint}}"),
                unit="percentunit",
                steps=DISK,
                most=1,
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
                "Share of time in which each disk worked.",
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
                least=None,
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
                least=None,
            ),
        ),
    )


def _containers() -> Row:
    used = f"max by (name) ({select('container_memory_working_set_bytes', NAMED)})"
    most = f"max by (name) ({select('container_spec_memory_limit_bytes', NAMED)})"
    return Row(
        "Containers: who takes it?",
        (
            series_panel(
                "Container CPU",
                "Processors in use by each container.",
                Query(f"sum by (name) ({rate('container_cpu_usage_seconds_total', NAMED)})", "{{name}}"),
                unit="none",
                stacked=True,
                size=THIRD,
            ),
            series_panel(
                "Container memory of its limit",
                "Share of its memory limit that each container uses. The dashed line is HighMemoryUsage.",
                Query(f"{used} / ({most} > 0)", "{{name}}"),
                unit="percentunit",
                limits=high_is_bad(limit("container_memory:ratio")),
                size=THIRD,
            ),
            series_panel(
                "Container uptime",
                "Time since each container started: a saw-tooth is a container that restarts over and over.",
                Query(
                    f"time() - max by (name) ({select('container_start_time_seconds', NAMED)})", "{{name}}"
                ),
                unit="s",
                size=THIRD,
            ),
        ),
    )
