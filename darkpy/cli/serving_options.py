"""Options of the commands that open a port, and the note with its address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import OptionalNumber, collect, compose
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.serving.http_server import HttpServer

PORT_RANGE = click.IntRange(0, 65535)
DASHBOARD_PORT = 8090
"""Port of a training's page in AlexeyAB's examples."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """Streams of `detector demo`: the values of `stream_options`."""

    mjpeg_port: int | None
    json_port: int | None
    http_post_host: str | None
    host: str

    @property
    def are_used(self) -> bool:
        return self.mjpeg_port is not None or self.json_port is not None or self.http_post_host is not None


host_option = click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines in, without a password.",
)
stream_options = collect(
    StreamOptions,
    "streams",
    click.option(
        "-mjpeg_port", type=PORT_RANGE, metavar="N", help="Show the frames on a page at this port; 0: a free one."
    ),
    click.option(
        "-json_port", type=PORT_RANGE, metavar="N", help="Send the detections of each frame as JSON at this port."
    ),
    click.option(
        "-http_post_host", metavar="HOST/PATH", help="Post the detections of each frame to a web server, as text."
    ),
    host_option,
)
dashboard_options = compose(
    click.option(
        "--dashboard",
        "-mjpeg_port",
        type=OptionalNumber(0, 65535, if_left_out=DASHBOARD_PORT),
        metavar="[PORT]",
        help=f"Show loss, mAP, rate and findings on a page that follows the run; 0 takes a free port.  [default port: "
        f"{DASHBOARD_PORT}]",
    ),
    host_option,
)


@contextmanager
def serving_dashboard(port: int, host: str, *, has_monitor: bool) -> Iterator[Sequence[object]]:
    """Serve the page of a training, on the main rank, for the time of a `with` block. Yields: callbacks for it."""
    from darkpy.distributed import is_main_process

    if not is_main_process():
        yield ()
        return
    from darkpy.serving.dashboard import TrainingDashboard

    if not has_monitor:
        raise DarkpyError("--dashboard shows the log of the monitor", hint="leave out --no-monitor")
    dashboard = TrainingDashboard(host=host, port=port, log=console.warn)
    tell_address(dashboard.server)
    try:
        yield (dashboard,)
    finally:
        dashboard.close()


def tell_address(server: HttpServer) -> None:
    """Print the address of a server, with a warning if other machines can reach it."""
    console.info(f"{server.option}: {server.url}")
    if not server.is_loopback:
        console.warn(f"{server.url} is open to other machines, without a password")
