"""Real servers for tests: PostgreSQL, MLflow's tracking server, and a gateway that loses answers."""

from __future__ import annotations

import http.client
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("initdb", "pg_ctl", "postgres")
LOCAL = "127.0.0.1"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return probe.getsockname()[1]


def skip_without_postgres() -> None:
    """Skip the test where PostgreSQL, its driver, or an ordinary user to run it is missing."""
    if lacking := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"PostgreSQL is not on PATH: no {lacking[0]}")
    if lacking := [name for name in ("psycopg2", "flask_wtf") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"the Python package {lacking[0]} is not installed")
    if os.getuid() == 0 and (shutil.which("setpriv") is None or _ordinary() is None):
        pytest.skip("PostgreSQL refuses to run as root, and there is no setpriv or no ordinary user")


def _ordinary() -> pwd.struct_passwd | None:
    """Return an ordinary user of this machine; None where there is none."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


@contextmanager
def postgres(databases: tuple[str, ...]) -> Iterator[Mapping[str, str]]:
    """Run PostgreSQL with a password and some databases; give what its client library reads from the environment."""
    # Below a folder that any user may enter: pytest's own are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="kdops-pg-", dir="/tmp"))
    before: list[str] = []
    password, port = secrets.token_urlsafe(16), free_port()
    (folder / "password").write_text(password)
    if os.getuid() == 0:
        user = _ordinary()
        before = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)

    def do(*command: str) -> None:
        done = subprocess.run([*before, *command], cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    do("initdb", "-D", data, "-U", "mlflow", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync")
    options = f"-c listen_addresses={LOCAL} -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    # Its output goes to a file: a pipe would stay open with the server.
    do("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        environment = {"PGHOST": LOCAL, "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": password}
        import psycopg2

        connection = psycopg2.connect(dbname="postgres", host=LOCAL, port=port, user="mlflow", password=password)
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name in databases:
                cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        yield environment
    finally:
        do("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Server:
    """MLflow's tracking server, which can be stopped and started again."""

    folder: Path
    environment: Mapping[str, str]
    arguments: tuple[str, ...]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://{LOCAL}:{self.port}"

    def start(self) -> Server:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            LOCAL,
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 600
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urlopen(f"{self.uri}/health", timeout=5):
                    return self
            except OSError:
                time.sleep(0.3)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def stop(self) -> None:
        """End it at once, workers and all, as a machine that loses its power would."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def mlflow_server(folder: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[Server]:
    """Run MLflow's server in a folder."""
    server = Server(folder, environment, arguments)
    try:
        yield server.start()
    finally:
        server.stop()


class Gateway(ThreadingHTTPServer):
    """Passes requests on to a server, and loses the answers to some: the sender is told 504, and sends again.

    Args:
        target: the port of the server.
        lost: says by method and path whether the answer to a request is lost, the first time it is sent.
    """

    daemon_threads = True

    def __init__(self, target: int, lost):
        super().__init__((LOCAL, 0), _Passing)
        self.target, self.lost = target, lost
        self.losses: list[str] = []

    @property
    def uri(self) -> str:
        return f"http://{LOCAL}:{self.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[Gateway]:
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(LOCAL, self.server.target, timeout=600)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
        connection.request(self.command, self.path, body, {**headers, "Host": f"{LOCAL}:{self.server.target}"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        status = answer.status
        if status == 200 and self.server.lost(self.command, self.path):
            self.server.losses.append(self.path)
            status, content = 504, b"the answer was lost"
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass

    def log_message(self, *_: object) -> None:
        """Report nothing."""
