"""Models as MLflow serves them, asked over HTTP: right answers, and bad requests that are told why."""

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from PIL import Image

from kdops.config.architectures import parse_architecture
from kdops.config.datasets import parse_dataset
from kdops.data.images import read_image
from kdops.data.tabular.fit_encoding import fit_encoding
from kdops.models.classifier import build, digest_of
from kdops.packaging.ensemble import write_ensemble
from kdops.packaging.folder import Packager
from kdops.packaging.vote import Vote
from kdops.sweeps.model import Model
from kdops.utils.random import named_generator
from tests.packaging.test_program import planted

SHAPE, CLASSES = (2, 4, 3), ["stop", "yield", "no entry"]
"""No two sides alike, so that none can be taken for another."""

IDENTITY = {"model_id": "m-0123", "run_id": "a run", "location": "mlflow-artifacts:/models/m-0123/artifacts"}
WANTED = "inputs: must be images [N, 2, 4, 3] of whole numbers from 0 to 255; "


ROWS = [{"age": "1", "color": "red"}, {"age": "2.5", "color": "blue"}, {"age": "", "color": "red"}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
ENCODING = fit_encoding(COLUMNS, parse_dataset({"dataset": "csv:rows.csv"}))
WIDE = (ENCODING.width, 1, 1)


def table_net():
    mean, std = (torch.full((WIDE[0],), level) for level in (100.0, 50.0))
    return build(parse_architecture("mlp(hidden=4)"), WIDE, 3, mean, std, named_generator("init", 5)).eval()


def nets():
    statistics = (torch.tensor([90.0, 80.0]), torch.tensor([70.0, 60.0]))
    architecture = parse_architecture("mlp(hidden=4)")
    return [build(architecture, SHAPE, 3, *statistics, named_generator("init", place)).eval() for place in range(3)]


def load_rows(count):
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def scores_of(module, images):
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folders of a network and of an ensemble."""
    folder = tmp_path_factory.mktemp("models")
    members = nets()
    metadata = {"class_names": CLASSES, "architecture": "any"}
    Packager(members[0], SHAPE, metadata).write(folder / "network", members[0].state_dict(), **IDENTITY)
    told = [
        Model("student", 0, 1.0, "student", "labels", f"models:/m/{n}", "r", "m", digest_of(m.state_dict()))
        for n, m in enumerate(nets())
    ]
    write_ensemble(folder / "ensemble", members, SHAPE, metadata, told, **IDENTITY)
    of_table = {**metadata, "table": ENCODING.to_json()}
    Packager(table_net(), WIDE, of_table).write(folder / "table", table_net().state_dict(), **IDENTITY)
    write_ensemble(folder / "table-ensemble", [table_net()], WIDE, of_table, told[:1], **IDENTITY)
    return folder


@pytest.fixture(scope="module")
def network(written):
    return mlflow.pyfunc.load_model(str(written / "network"))


class Server:
    """``mlflow models serve`` of one model, where neither pickle nor kdops is to be had."""

    def __init__(self, model: Path):
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.log = (model.parent / f"{model.name}.log").open("w+")
        self.process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=model.parent,
            env={**kept, "PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
            stdout=self.log,
            stderr=self.log,
        )

    def wait(self, seconds: float = 250.0) -> "Server":
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if urlopen(f"{self.address}/ping", timeout=5).status == 200:
                    return self
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        self.log.seek(0)
        raise AssertionError(f"the server did not start: {self.log.read()[-2000:]}")

    def ask(self, request: object, kind: str = "application/json") -> tuple[int, dict]:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        asked = Request(f"{self.address}/invocations", body, {"Content-Type": kind})
        try:
            with urlopen(asked, timeout=200) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.loads(error.read())

    def predictions(self, images: np.ndarray, **params: str) -> list:
        status, answer = self.ask({"inputs": images.tolist(), "params": params})
        assert status == 200, answer
        return answer["predictions"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()


@pytest.fixture(scope="module")
def servers(written):
    """Models behind real servers; they start side by side, since that takes seconds."""
    started = {name: Server(written / name) for name in ("network", "ensemble", "table")}
    try:
        yield {name: server.wait() for name, server in started.items()}
    finally:
        for server in started.values():
            server.stop()


def test_a_served_network_gives_logits_probabilities_or_classes(servers):
    images = load_rows(5)
    logits = scores_of(nets()[0], images)
    np.testing.assert_allclose(servers["network"].predictions(images), logits, rtol=1e-5)
    np.testing.assert_allclose(servers["network"].predictions(images, output="logits"), logits, rtol=1e-5)
    table = servers["network"].predictions(images, output="probabilities")
    assert [list(row) for row in table] == [CLASSES] * 5
    np.testing.assert_allclose([list(row.values()) for row in table], softmax(logits), rtol=1e-5)
    told = servers["network"].predictions(images, output="classes")
    assert [row["class"] for row in told] == [CLASSES[place] for place in logits.argmax(axis=1)]
    np.testing.assert_allclose([row["probability"] for row in told], softmax(logits).max(axis=1), rtol=1e-5)


def test_a_served_ensemble_gives_scores_probabilities_or_classes(servers):
    images, vote = load_rows(5), Vote(nets())
    scores, mean = scores_of(vote, images), scores_of(vote.probabilities, images).mean(axis=0)
    np.testing.assert_allclose(servers["ensemble"].predictions(images), scores, rtol=1e-5)
    table = servers["ensemble"].predictions(images, output="probabilities", vote="probability")
    assert [list(row) for row in table] == [CLASSES] * 5
    np.testing.assert_allclose([list(row.values()) for row in table], mean, rtol=1e-5)
    told = servers["ensemble"].predictions(images, output="classes")
    assert [row["class"] for row in told] == [CLASSES[place] for place in scores.argmax(axis=1)]


def with_pixel(value):
    images = np.zeros((2, *SHAPE), dtype=int).tolist()
    images[1][0][2][1] = value
    return {"inputs": images}


BAD = {
    "another shape": ({"inputs": np.zeros((2, 2, 3, 4), int).tolist()}, f"{WANTED}the shape of these is [2, 2, 3, 4]"),
    "one image, no batch": ({"inputs": np.zeros(SHAPE, int).tolist()}, f"{WANTED}the shape of these is [2, 4, 3]"),
    "a number": ({"inputs": 7}, f"{WANTED}the shape of these is []"),
    "ragged": ({"inputs": [[[[1, 2], [3]]]]}, f"{WANTED}these are not all of one shape, or no numbers"),
    "text": (with_pixel("dark"), f"{WANTED}some are no numbers, or far too large"),
    "nothing": (with_pixel(None), f"{WANTED}some are no numbers, or far too large"),
    "above 255": (with_pixel(300), f"{WANTED}one of them is 300"),
    "a little above 255": (with_pixel(256), f"{WANTED}one of them is 256"),
    "negative": (with_pixel(-1), f"{WANTED}one of them is -1"),
    "a fraction": (with_pixel(1.5), f"{WANTED}one of them is 1.5"),
    "not a number": (with_pixel(float("nan")), f"{WANTED}one of them is nan"),
    "infinite": (with_pixel(float("inf")), f"{WANTED}one of them is inf"),
    "beyond any integer": (with_pixel(10**40), f"{WANTED}some are no numbers, or far too large"),
    "an unknown output": (
        {**with_pixel(0), "params": {"output": "labels"}},
        "output=labels: must be one of {outputs}, probabilities, classes",
    ),
    "too many": (
        {"inputs": [0] * 5000},
        "inputs: at most 4096 images in one request, not 5000; send the others in another one",
    ),
}


@pytest.mark.parametrize("kind", ["network", "ensemble"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_told_why_in_one_sentence(servers, kind, name):
    request, reason = BAD[name]
    status, answer = servers[kind].ask(request)
    expected = reason.format(outputs={"network": "logits", "ensemble": "scores"}[kind])
    assert (status, answer["message"]) == (400, expected)
    assert "stack_trace" not in answer
    assert len(servers[kind].predictions(load_rows(1))) == 1


LONG, DEEP = b'{"inputs": [' + b"1" * 5000 + b"]}", b'{"inputs": ' + b"[" * 100_000


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[1]", b"{}", b'{"instances": [1]}', b'{"inputs": [], "params": 3}', LONG, DEEP]
)
def test_what_is_no_request_at_all_is_refused(servers, body):
    status, answer = servers["network"].ask(body)
    assert status == 400
    assert answer["message"]


def test_a_model_of_a_table_takes_its_rows(servers):
    logits = scores_of(table_net(), ENCODING.encode(ROWS))
    as_numbers = [
        {"color": "red", "age": 1, "more": 0},
        {"age": 2.5, "color": " blue"},
        {"age": None, "color": "red"},
    ]
    for rows in (ROWS, as_numbers):
        status, answer = servers["table"].ask({"inputs": rows})
        assert status == 200, answer
        np.testing.assert_allclose(answer["predictions"], logits, rtol=1e-5)
    told = servers["table"].ask({"inputs": ROWS, "params": {"output": "classes"}})[1]["predictions"]
    assert [row["class"] for row in told] == [CLASSES[place] for place in logits.argmax(axis=1)]
    status, answer = servers["table"].ask(b"age,color\n1,red\n2.5,blue\n,red\n", "text/csv")
    assert status == 200, answer
    np.testing.assert_allclose(answer["predictions"], logits, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "reason"),
    {
        "no column": ([{"age": 1}], "inputs: row 0 has no column color"),
        "no number": (
            [ROWS[0], {"age": "old", "color": "red"}],
            "inputs: row 1 has 'old' in the column age, which is no number",
        ),
        "a number in a list": (
            [{"age": [1], "color": "red"}],
            "inputs: row 0 has '[1]' in the column age, which is no number",
        ),
        "no rows": (
            {"age": 1},
            "inputs: must be rows, each with a value by the name of each of 2 columns (age, color)",
        ),
        "values alone": ([[1, 0, 255, 255]], "inputs: row 0 must give a value by the name of each column"),
        "too many": (
            [ROWS[0]] * 5000,
            "inputs: at most 4096 rows in one request, not 5000; send the others in another one",
        ),
    }.values(),
)
def test_rows_that_do_not_fit_are_told_in_one_sentence(servers, rows, reason):
    status, answer = servers["table"].ask({"inputs": rows})
    assert (status, answer["message"]) == (400, reason)
    assert "stack_trace" not in answer


@pytest.mark.parametrize("color", ["green", "green" * 50])
def test_a_category_that_was_not_seen_is_answered_with_a_remark(servers, color):
    rows = [ROWS[0], {"age": 1, "color": color}]
    status, answer = servers["table"].ask({"inputs": rows, "params": {"output": "classes"}})
    shown = f"'{color}'" if len(color) < 60 else f"'{color[:60]}...'"
    assert status == 200
    assert [row["remark"] for row in answer["predictions"]] == [
        "",
        f"row 1 has {shown} in the column color, which no training row has",
    ]
    assert len(servers["table"].ask({"inputs": rows})[1]["predictions"]) == 2


@pytest.mark.parametrize("kind", ["table", "table-ensemble"])
def test_python_may_give_a_data_frame_or_encoded_rows(written, kind):
    model = mlflow.pyfunc.load_model(str(written / kind))
    encoded = model.predict(ENCODING.encode(ROWS))
    np.testing.assert_array_equal(model.predict(pd.DataFrame(ROWS)), encoded)
    np.testing.assert_array_equal(model.predict(ROWS), encoded)
    assert [column.name for column in model.metadata.get_input_schema()] == ["age", "color"]
    np.testing.assert_array_equal(model.predict(model.input_example).shape, (1, 3))


def test_whole_numbers_may_be_written_with_a_point(servers):
    images = load_rows(2)
    status, answer = servers["network"].ask({"inputs": images.astype(float).tolist()})
    assert status == 200
    assert answer["predictions"] == servers["network"].predictions(images)


def test_an_empty_batch_has_an_empty_answer(servers, network):
    for server in servers.values():
        for params in ({}, {"output": "probabilities"}, {"output": "classes"}):
            assert server.ask({"inputs": [], "params": params}) == (200, {"predictions": []})
    assert network.predict(load_rows(0)).shape == (0, 3)


def test_a_large_request_is_answered_in_parts(servers):
    images = load_rows(1200)
    given = servers["network"].predictions(images)
    np.testing.assert_allclose(given, scores_of(nets()[0], images), rtol=1e-4, atol=1e-5)


def test_a_table_has_one_image_a_row(network):
    images = load_rows(3)
    logits = network.predict(images)
    pixels = images.reshape(3, -1)
    for table in (pd.DataFrame(pixels), pd.DataFrame({"image": pixels.tolist()}), pd.DataFrame({"i": images.tolist()})):
        np.testing.assert_array_equal(network.predict(table), logits)
    with pytest.raises(MlflowException, match="not all of one shape"):
        network.predict(pd.DataFrame(pixels[:, 1:]))


def test_python_may_give_any_whole_numbers(network):
    images = load_rows(3)
    for given in (images.astype(np.int64), images.astype(np.float32), torch.from_numpy(images), images.tolist()):
        np.testing.assert_array_equal(network.predict(given), network.predict(images))
    assert network.predict(images).dtype == np.float32
    for wrong in (
        images.astype(np.int64) + 256,
        images / 255,
        images.astype(str),
        images > 9,
        [images[:1], images[:2]],
    ):
        with pytest.raises(MlflowException, match=r"^inputs: must be images \[N, 2, 4, 3\] of whole numbers"):
            network.predict(wrong)


def test_the_network_loads_as_a_pytorch_model_too(written, network):
    program = mlflow.pytorch.load_model(str(written / "network"))
    np.testing.assert_array_equal(scores_of(program, load_rows(4)), network.predict(load_rows(4)))


@pytest.mark.parametrize("kind", ["network", "ensemble"])
def test_a_planted_program_is_refused_where_it_is_served(written, tmp_path, kind):
    """Also where whoever planted it brought its digest up to date."""
    shutil.copytree(written / kind, tmp_path / kind)
    (program,) = (tmp_path / kind).rglob("*.pt2")
    marker = tmp_path / "marker"

    def change(text):
        evil = f"__import__('pathlib').Path({str(marker)!r}).touch() or Symbol"
        return text.replace('"expr_str": "Symbol', f'"expr_str": {json.dumps(evil)[:-1]}')

    os.replace(planted(program, tmp_path, change), program)
    described = (tmp_path / kind / "MLmodel").read_text()
    digests = [
        hashlib.sha256(one.read_bytes()).hexdigest()
        for one in (written / kind / program.relative_to(tmp_path / kind), program)
    ]
    assert digests[0] in described
    (tmp_path / kind / "MLmodel").write_text(described.replace(*digests))
    with pytest.raises(ValueError, match="might run code"):
        mlflow.pyfunc.load_model(str(tmp_path / kind))
    assert not marker.exists()


@pytest.fixture(scope="module")
def of_color(tmp_path_factory):
    """A model of color images, whose sides are not alike."""
    shape, folder = (3, 8, 6), tmp_path_factory.mktemp("color") / "network"
    statistics = (torch.full((3,), 90.0), torch.full((3,), 70.0))
    net = build(parse_architecture("mlp(hidden=4)"), shape, 3, *statistics, named_generator("init", 1)).eval()
    metadata = {"class_names": CLASSES, "architecture": "any"}
    Packager(net, shape, metadata).write(folder, net.state_dict(), **IDENTITY)
    return mlflow.pyfunc.load_model(str(folder)), shape


def image_file(kind, size, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "size", "mode"), [("PNG", (8, 6), "RGB"), ("PNG", (5, 9), "L"), ("JPEG", (90, 70), "RGB")]
)
def test_image_files_are_answered_like_the_pixels_that_training_would_read(of_color, tmp_path, kind, size, mode):
    model, shape = of_color
    content = image_file(kind, size, mode)
    (tmp_path / "image").write_bytes(content)
    pixels, text = read_image(tmp_path / "image", shape).pixels, base64.b64encode(content).decode()
    wanted = model.predict(pixels[None])
    # In the last bits the size of the batch shows.
    for answer in (*model.predict([text, text]), *answer_of(model, text)):
        np.testing.assert_allclose(answer, wanted[0], rtol=1e-5, atol=1e-6)


def test_a_served_model_turns_photos_where_it_was_trained_so(tmp_path):
    shape, exif = (3, 8, 6), Image.Exif()
    exif[274] = 6
    net = build(
        parse_architecture("mlp(hidden=4)"), shape, 3, torch.zeros(3), torch.ones(3), named_generator("init", 1)
    )
    photo = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png", exif=exif)
    text, answers = base64.b64encode((tmp_path / "photo.png").read_bytes()).decode(), []
    for upright in (True, False):
        metadata = {"class_names": CLASSES, "architecture": "any", **({"upright": True} if upright else {})}
        Packager(net.eval(), shape, metadata).write(tmp_path / str(upright), net.state_dict(), **IDENTITY)
        model = mlflow.pyfunc.load_model(str(tmp_path / str(upright)))
        wanted = model.predict(read_image(tmp_path / "photo.png", shape, upright).pixels[None])
        answers.append(model.predict([text]))
        np.testing.assert_allclose(answers[-1], wanted, rtol=1e-5)
    turned = np.rot90(photo, -1).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(answers[0], model.predict(np.ascontiguousarray(turned)), rtol=1e-5)
    assert not np.allclose(*answers)


def answer_of(model, inputs):
    body = json.dumps({"inputs": inputs})
    answer = scoring_server.invocations(body, "application/json", model, model.metadata.get_input_schema())
    return np.array(json.loads(answer.response)["predictions"], np.float32)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("stop!", "inputs: image 0 is no base64 of an image file"),
        ("bm8gaW1hZ2U=", "inputs: image 0 is no image of a known kind"),
        (base64.b64encode(image_file("PNG", (9, 9))[:60]).decode(), "inputs: image 0 cannot be read as an image"),
    ],
)
def test_a_text_that_is_no_image_file_is_told_why(of_color, given, told):
    with pytest.raises(MlflowException, match=told):
        answer_of(of_color[0], [given])


def test_no_image_file_has_two_channels(network):
    with pytest.raises(MlflowException, match="no image file has 2 channels"):
        network.predict([base64.b64encode(image_file("PNG", (4, 3))).decode()])
