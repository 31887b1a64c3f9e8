"""The numbers in the files of `deploy/` and in the compose file fit the limits of the server."""

import re
from pathlib import Path

from reactor.limits import MIB, Limits
from tests.servers import ROOT

LIMITS = Limits()


def found(file: str, pattern: str) -> list[int]:
    """Return the whole numbers that a pattern captures in a file; there is at least one."""
    numbers = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert numbers, f"{pattern} is not in {file}"
    return [int(number) for number in numbers]


def test_a_proxy_lets_in_what_http_actions_take() -> None:
    assert found("deploy/nginx.conf", r"client_max_body_size (\d+)m;") == [LIMITS.http_action_bytes // MIB]
    assert found("deploy/Caddyfile", r"max_size (\d+)MiB") == [LIMITS.http_action_bytes // MIB]
    assert found("deploy/nginx.conf", r"client_max_body_size (0);") == [0]  # uploads


def test_a_proxy_waits_for_the_slowest_action_and_hears_a_ping_in_time() -> None:
    socket, action = found("deploy/nginx.conf", r"proxy_read_timeout (\d+)s;")
    assert action >= LIMITS.action_seconds
    assert socket > 2 * max(LIMITS.ping_seconds, LIMITS.socket_ping_seconds)


def test_a_supervisor_waits_for_the_answers_under_way() -> None:
    assert found("deploy/reactor.service", r"^TimeoutStopSec=(\d+)$")[0] > LIMITS.shutdown_seconds
    assert found("docker-compose.yml", r"stop_grace_period: (\d+)s")[0] > LIMITS.shutdown_seconds


def test_what_the_files_name_exists() -> None:
    """Ports, scripts and limits are spelled as the code spells them."""
    for file in ("deploy/nginx.conf", "deploy/Caddyfile", "deploy/reactor.service", "docs/howto/deploy.md"):
        text = (ROOT / file).read_text(encoding="utf-8")
        known = (ROOT / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
        for name in re.findall(r"\bREACTOR_[A-Z_]+", text):
            assert f"## {name}\n" in known, f"{file} names {name}"
    for script in ("run.sh", "generate_admin_key.sh"):
        path: Path = ROOT / "deploy" / script
        assert path.stat().st_mode & 0o111, f"{script} can't be executed"
