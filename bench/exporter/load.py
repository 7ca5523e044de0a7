"""The load generator, a separate process: ``python -m bench.exporter.load``.

Publishes task life cycles at a steady rate (or as fast as Redis accepts them) and prints its totals as JSON.
"""

import json
import socket
import sys
import time

import click

from bench.exporter.frames import Shape, Traffic

TICK = 0.005
HEARTBEAT = 2.0
HEARTBEAT_TICKS = int(HEARTBEAT / TICK)
BURST_BYTES = 1 << 20


class Publisher:
    """Sends commands to Redis without waiting for the replies."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)
        self._discard_replies()

    def finish(self) -> None:
        """Wait until Redis has accepted everything."""
        self._socket.sendall(b"*2\r\n$4\r\nECHO\r\n$4\r\ndone\r\n")
        tail = b""
        while not tail.endswith(b"done\r\n"):
            tail = (tail + self._socket.recv(1 << 16))[-16:]

    def _discard_replies(self) -> None:
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        finally:
            self._socket.setblocking(True)


def planned(traffic: Traffic, rate: float, seconds: float) -> list[bytes]:
    """What to publish in each tick, heartbeats included. It is generated beforehand, so that generation uses no
    processor time during the measurement. Each event's timestamp is the time at which it is due, counted from now."""
    start, ticks = time.time(), []
    for number in range(int(seconds / TICK)):
        at = number * TICK
        commands = [traffic.heartbeats(start + at)] if number % HEARTBEAT_TICKS == 0 else []
        while traffic.events < at * rate:
            commands += [command for command, _ in traffic.task(start + at)]
        ticks.append(b"".join(commands))
    return ticks


def steady(publisher: Publisher, ticks: list[bytes]) -> None:
    """Publish each tick's commands when it is due."""
    started = time.monotonic()
    for number, data in enumerate(ticks):
        early = started + number * TICK - time.monotonic()
        if early > 0:
            time.sleep(early)
        publisher.send(data)
    publisher.finish()


def blocks(traffic: Traffic, events: int) -> list[bytes]:
    """This number of events in large pieces."""
    pieces, piece, size = [], [], 0
    while traffic.events < events:
        for command, _ in traffic.task(time.time()):
            piece.append(command)
            size += len(command)
        if size > BURST_BYTES:
            pieces.append(b"".join(piece))
            piece, size = [], 0
    return [*pieces, b"".join(piece)]


def burst(publisher: Publisher, pieces: list[bytes]) -> None:
    """Publish as fast as Redis accepts it."""
    for data in pieces:
        publisher.send(data)
    publisher.finish()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--rate", type=float, default=0.0, help="Events a second; 0: one burst, after a line on stdin.")
@click.option("--seconds", type=float, default=10.0)
@click.option("--events", type=int, default=100_000, help="Size of the burst.")
@click.option("--tail", type=float, default=0.0, help="Seconds of heartbeats alone after the load.")
@click.option("--names", type=int, default=20)
@click.option("--workers", type=int, default=4)
@click.option("--queues", type=int, default=5)
@click.option("--orphans", type=int, default=0)
def load(
    port: int,
    rate: float,
    seconds: float,
    events: int,
    tail: float,
    names: int,
    workers: int,
    queues: int,
    orphans: int,
) -> None:
    """Publish task events to the Redis on this port; prints “ready” and waits for a line before it starts."""
    traffic = Traffic(Shape(names, workers, queues, orphans))
    made_at = time.time()
    ticks = planned(traffic, rate, seconds) if rate else blocks(traffic, events)
    click.echo("ready")
    sys.stdin.readline()
    publisher = Publisher(port)
    started = time.monotonic()
    if rate:
        steady(publisher, ticks)
    else:
        burst(publisher, ticks)
    took = time.monotonic() - started
    for beat in range(int(tail / HEARTBEAT)):
        publisher.send(traffic.heartbeats(made_at + seconds + (beat + 1) * HEARTBEAT))
        time.sleep(HEARTBEAT)
    click.echo(json.dumps({"events": traffic.events, "starts": sum(traffic.starts), "seconds": took}))


if __name__ == "__main__":
    load()
