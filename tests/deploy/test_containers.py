"""The image and the compose files: what they name exists. Docker itself is not needed."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from receiver import config
from receiver.cli import main
from tests.support import ROOT
from tests.support.webhooks import KEY

DOCKER = ROOT / "deploy/docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
POSTGRES = yaml.safe_load((DOCKER / "compose.postgres.yaml").read_text(encoding="utf-8"))


def merged(name):
    """A service as compose merges both files."""
    first, second = COMPOSE["services"].get(name, {}), POSTGRES["services"].get(name, {})
    environment = first.get("environment", {}) | second.get("environment", {})
    depends_on = first.get("depends_on", {}) | second.get("depends_on", {})
    return first | second | {"environment": environment, "depends_on": depends_on}


def image_environment():
    [lines] = re.findall(r"^ENV ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in lines.replace("\\\n", " ").split())


def settings_of(service):
    """Parse what a container's environment is: the image's, the file's, the service's."""
    [file] = DOCKER.glob("callhouse.env.example")
    values = image_environment() | dotenv_values(file) | service["environment"]
    values |= {"RETELL_API_KEY": KEY}
    return config.load(values, dotenv=Path("/nonexistent"))


SQLITE = {n: s | {"environment": s.get("environment", {})} for n, s in COMPOSE["services"].items()}
BOTH = {name: merged(name) for name in {*COMPOSE["services"], *POSTGRES["services"]}}
OURS = [
    pytest.param(service, id=f"{kind}-{name}")
    for kind, services in (("sqlite", SQLITE), ("postgres", BOTH))
    for name, service in sorted(services.items())
    if service["image"] == "callhouse"
]


@pytest.mark.parametrize("service", OURS)
def test_commands_and_settings_of_services_exist(service):
    program, name, *arguments = service["command"]
    assert program == "callhouse"
    command = main.commands[name]
    command.make_context(name, list(arguments), resilient_parsing=False)
    settings = settings_of(service)
    assert (str(settings.bind), str(settings.browse_bind)) == ("0.0.0.0:8000", "0.0.0.0:8001")
    assert service["volumes"] == ["data:/data"]


def test_every_process_is_a_service():
    procfile = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    commands = {line.split()[-1] for line in procfile}
    assert {s["command"][1] for s in SQLITE.values() if s["image"] == "callhouse"} == commands


def test_browse_reads_the_mirror():
    mirror = settings_of(BOTH["browse"])
    assert BOTH["mirror"]["command"][-1] == str(mirror.database)
    receiver = settings_of(BOTH["receiver"])
    assert receiver.database == settings_of(BOTH["worker"]).database
    assert BOTH["receiver"]["environment"].keys() == BOTH["mirror"]["environment"].keys()


def test_paths_of_compose_exist():
    build = COMPOSE["services"]["receiver"]["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    for service in BOTH.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            declared = {**COMPOSE["volumes"], **POSTGRES["volumes"]}
            assert source in declared or (DOCKER / source).is_file(), volume
        for needed in service["depends_on"]:
            assert needed in BOTH
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "deploy/docker/callhouse.env" in ignored


def test_variables_of_the_proxy_exist():
    caddyfile = (ROOT / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
    proxy = COMPOSE["services"]["proxy"]
    assert set(re.findall(r"\{\$(\w+):", caddyfile)) == proxy["environment"].keys()
    for name in ("SITE_RECEIVER", "SITE_BROWSE"):
        host, port = proxy["environment"][name].split(":")
        assert host in COMPOSE["services"]
        assert port in DOCKERFILE


def test_image_is_built_from_what_is_there():
    # A file that the wheel needs and the context leaves out would fail the build.
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert {path for path in kept if not (ROOT / path).exists()} == set()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    targets = wheel["build"]["targets"]["wheel"]
    needed = {*targets["packages"], *targets["force-include"], "pyproject.toml", "README.md"}
    assert needed | set(PROJECT["license-files"]) == kept


def test_image_has_a_tested_python_and_known_extras():
    versions = set(re.findall(r"^FROM python:(3\.\d+)-slim", DOCKERFILE, re.MULTILINE))
    [version] = versions
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    [extras] = re.findall(r"'/src\[([\w,]+)\]'", DOCKERFILE)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    [command] = re.findall(r"^CMD (\[.*\])", DOCKERFILE, re.MULTILINE)
    assert json.loads(command)[1] in main.commands
