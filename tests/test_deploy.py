"""What is deployed elsewhere is what is here: the server's settings, and the entry points in containers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdops.config.parameters import ENTRY_POINTS

ROOT = Path(__file__).resolve().parent.parent
SERVER, CLUSTER = ROOT / "deploy" / "server", ROOT / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((SERVER / "compose.yaml").read_text())["services"]


def test_nothing_has_a_password_of_its_own_and_nothing_listens_beyond_this_machine(services):
    secret = re.compile("PASSWORD|SECRET|USERNAME")
    for service in services.values():
        for name, value in service["environment"].items():
            if secret.search(name) and name != "POSTGRES_USER":
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        # An image without a version is another one tomorrow.
        assert re.search(r":\d+(\.\d+)+", service["image"])
    assert not re.search(r"(?m)^\s*admin_password", (SERVER / "basic_auth.ini").read_text())


def test_versions_are_the_tested_ones():
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert f"mlflow[auth]=={constraints['mlflow']}" in (SERVER / "Dockerfile").read_text()
    assert f"kdops-mlflow-server:{constraints['mlflow']}" in (SERVER / "compose.yaml").read_text()
    for folder in (SERVER, CLUSTER):
        assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", (folder / "Dockerfile").read_text(), re.MULTILINE)


def test_the_hosts_that_may_ask_are_listed(services):
    command = services["mlflow"]["command"]
    for option in ("--allowed-hosts", "--cors-allowed-origins"):
        (value,) = (word.partition("=")[2] for word in command if word.startswith(option))
        assert "*" not in value.replace(":*", "")


def test_the_entry_points_in_containers_are_those_of_the_project():
    own, other = (yaml.safe_load((folder / "MLproject").read_text()) for folder in (ROOT, CLUSTER))
    assert set(other) == {"name", "docker_env", "entry_points"}
    assert other["name"] == own["name"]
    for name, point in own["entry_points"].items():
        there = other["entry_points"][name]
        assert there["parameters"] == point["parameters"]
        assert there["command"] == point["command"].replace("python -m pipelines.", "python entry.py pipelines.")
    assert list(own["entry_points"]) == list(other["entry_points"])


@pytest.mark.parametrize("entry_point", [pytest.param("teacher", marks=pytest.mark.slow), "chain"])
def test_a_command_arrives_in_a_container_as_it_was_meant(entry_point, tmp_path):
    """MLflow itself makes the command; it is quoted as its kubernetes backend does, and run without a shell."""
    from mlflow.projects.utils import load_project

    project = load_project(str(CLUSTER))
    assert project.docker_env == {"image": "kdops:0.1.0"}
    point = project.get_entry_point(entry_point)
    given = {"seeds": "0", "teacher": "cnn(filters=8,layers=2)"}
    plain = shlex.split(point.compute_command(given, str(tmp_path)))
    for words in (plain, [shlex.quote(word) for word in plain]):
        assert words[0] == "python"
        done = subprocess.run(
            [sys.executable, str(CLUSTER / words[1]), *words[2:]],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        # Everything was read, and the one mistake in it is told.
        assert done.stderr == f"{entry_point}: seeds=0: must be a whole number from 1 to 1000\n"
        assert done.returncode == 2


def test_the_job_is_one_that_mlflow_fills_in():
    job = yaml.safe_load((CLUSTER / "job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name", "image", "command"} <= set(container)
    assert job["spec"]["backoffLimit"] == 0, "a study that failed is started again by hand, and goes on from there"
    assert [variable["name"] for variable in container["env"]] == ["XDG_CACHE_HOME"], "credentials come from a secret"
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == container["env"][0]["value"], "what must last lies in the volume"


def test_both_ways_to_start_ray_have_the_tested_version_and_the_settings_of_the_engine():
    batch = (ROOT / "deploy" / "slurm" / "ray.sbatch").read_text()
    spec = yaml.safe_load((ROOT / "deploy" / "ray" / "rayjob.yaml").read_text())["spec"]
    cluster = spec["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()
    settings = set(re.findall(r"(RAY_[a-z_]+)=(\d+)", batch))
    for machine in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        variables = machine["template"]["spec"]["containers"][0]["env"]
        assert settings == {
            (one["name"], one["value"]) for one in variables if re.fullmatch("RAY_[a-z_]+", one["name"])
        }
    # Its text: importing it needs Ray.
    engine = (ROOT / "kdops" / "training" / "ray.py").read_text()
    own = re.findall(r'(?m)^    "([a-z_]+)": ([\d_]+),$', engine)
    assert settings == {(f"RAY_{name}", value.replace("_", "")) for name, value in own}
    # The study resolves the device, and it runs on the head.
    head, *workers = (
        one["template"]["spec"]["containers"][0]["resources"]
        for one in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    )
    assert [*workers] == [head]
    assert cluster["authOptions"] == {"mode": "token"}
    assert "--engine ray:auto" in batch
    assert "--engine ray:auto" in spec["entrypoint"]
    assert spec["entrypoint"].split()[1] in ENTRY_POINTS


STUBS = {
    "scontrol": "echo here",
    # What is left of srun: its options are written down, and one task is run.
    "srun": """while [ "${1#--}" != "$1" ]; do echo "srun $1" >> calls; shift; done
SLURM_PROCID=0 SLURM_STEP_ID=0 "$@" || echo "srun: error" """,
    "scancel": 'echo "scancel $*" >> calls',
    "ray": """echo "ray $*" >> calls
case "$*" in health-check) exit "$HEAD";; "start --head"*) exit "$HEAD";; esac""",
    "kdops": 'echo "kdops $* at $RAY_ADDRESS with $OMP_NUM_THREADS" >> calls; exit 7',
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
}


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize(("head", "status"), [("0", 7), ("1", 1)])
def test_the_batch_script_ends_as_the_study_ends_or_says_that_ray_did_not_start(head, status, tmp_path):
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ray.py").write_text(
        "def init(**given): ...\ndef nodes(): return [{'Alive': True}, {'Alive': False}]\n"
    )
    job = {"JOB_ID": "30012", "JOB_NUM_NODES": "1", "JOB_NODELIST": "here", "CPUS_PER_TASK": "3"}
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "slurm" / "ray.sbatch"), "paper", "--seeds", "2"],
        cwd=tmp_path,
        env={
            **{f"SLURM_{name}": value for name, value in job.items()},
            **{"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HEAD": head},
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == status
    assert "srun --cpus-per-task=3" in calls
    (start,) = [call for call in calls if call.startswith("ray start")]
    assert start.startswith("ray start --head --port 20012 ")
    assert "--num-cpus 3 " in start
    if head == "0":
        assert calls[-1] == "kdops paper --seeds 2 --engine ray:auto at here:20012 with 1"
        assert done.stderr == ""
    else:
        assert "scancel 30012.0" in calls
        assert done.stderr == "Ray has not started on all machines, see ray-30012.log\n"
