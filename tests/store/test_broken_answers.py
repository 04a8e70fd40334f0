"""Answers that break off are asked for again, and a server that answers with errors alone is told of as one."""

import json
import logging
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient
from mlflow.utils import rest_utils

from kdops.store import broken_answers
from kdops.store.broken_answers import REQUEST, ask_again
from kdops.store.faults import explained

RUN = {"run": {"info": {"run_id": "1" * 32, "status": "RUNNING"}, "data": {}}}


class Answers(BaseHTTPRequestHandler):
    """Answers every request; the first ones with too few bytes, or all of them with an error."""

    def do_GET(self):
        body, server = json.dumps(RUN).encode(), self.server
        server.asked += 1
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:5] if server.asked <= server.broken else body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(broken=0, status=200):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.broken, server.status = 0, broken, status
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(rest_utils, REQUEST, getattr(rest_utils, REQUEST))
    monkeypatch.setattr(broken_answers, "LONGEST_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    ask_again()
    ask_again()


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_answer_that_breaks_off_is_asked_for_again(broken):
    with serving(broken) as (server, uri):
        assert MlflowClient(uri).get_run("1" * 32).info.run_id == "1" * 32
        assert server.asked == broken + 1


def failure(uri):
    """Return in words why a run cannot be read."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever MLflow makes of it
        MlflowClient(uri).get_run("1" * 32)
    return str(explained(raised.value, uri))


def test_an_answer_that_always_breaks_off_is_one_line():
    with serving(100) as (server, uri):
        assert "the answers of its server break off" in failure(uri)
        assert server.asked == 3


def test_a_server_that_answers_with_errors_is_not_said_to_be_away(monkeypatch, caplog):
    monkeypatch.setattr(broken_answers, "REMARK_SECONDS", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    with serving(status=500) as (_, uri), caplog.at_level(logging.WARNING):
        assert "its server answers with errors" in failure(uri)
    assert "127.0.0.1 has not answered" in caplog.text
