"""Certificates that tests make with openssl, of authorities that live as long as a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Authority:
    """Issues certificates; everything it makes lies in ``folder``."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def issue(self, *hosts: str, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key of a server of these names; of less than no days it has expired."""
        certificate, key, request = (self.folder / f"server.{end}" for end in ("crt", "key", "csr"))
        names = [f"IP:{host}" if host[0].isdigit() else f"DNS:{host}" for host in hosts]
        extensions = self.folder / "extensions"
        extensions.write_text(f"subjectAltName={','.join(names)}\n")
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={hosts[0]}")
        signed_by: tuple[str | Path, ...] = (
            "-CA",
            self.certificate,
            "-CAkey",
            self.folder / "ca.key",
            "-CAcreateserial",
        )
        _openssl(
            *("x509", "-req", "-in", request, *signed_by, "-days", str(days)),
            *("-extfile", extensions, "-out", certificate),
        )
        return certificate, key


def new_authority(folder: Path) -> Authority:
    """Skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        reason = "openssl is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder.mkdir()
    authority = Authority(folder)
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", folder / "ca.key"),
        *("-out", authority.certificate, "-subj", f"/CN={folder.name}", "-days", "2"),
    )
    return authority


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str | Path) -> None:
    command: Sequence[str] = ["openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
