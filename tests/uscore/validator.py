"""HAPI's validator as a process of its own, for one version of US Core."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JAR = ROOT / "hapi" / "target" / "hilum-hapi.jar"
FLAGS = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
Issue = dict[str, str]


class Validator:
    """Answers line by line; closed at the end.

    Args:
        version: of US Core, such as 7.0.0.
    """

    def __init__(self, version: str) -> None:
        self._known: dict[str, list[Issue]] = {}
        package = f"us_core_{version.replace('.', '')}.tgz"
        program = ("-cp", str(JAR), "org.hilum.hapi.Validator")
        self._process = subprocess.Popen(
            ["java", *FLAGS, *program, str(ROOT / "profiles"), package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def issues(self, resource: dict[str, Any], codes: str = "any-code") -> list[Issue]:
        """Severity, location and message of everything that it has to say.

        Args:
            codes: `any-code`, or `written-codes` for what Hilum writes itself.
        """
        asked = f"{codes} {json.dumps(resource)}"
        if asked in self._known:
            return self._known[asked]
        self._process.stdin.write(f"{asked}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the validator ended"
        self._known[asked] = json.loads(line)
        return self._known[asked]

    def errors(self, resource: dict[str, Any], codes: str = "any-code") -> list[str]:
        """Where and what, of errors only."""
        return [
            f"{resource['resourceType']} {resource.get('id')}: {one['location']}: {one['message']}"
            for one in self.issues(resource, codes)
            if one["severity"] in ("error", "fatal")
        ]

    def close(self) -> None:
        """Let it end: there are no more resources."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
