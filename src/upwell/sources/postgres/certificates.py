"""What is said against a server's certificate.

libpq refuses a certificate without saying why. Whoever was refused may ask here: the same
handshake once more, up to the point where the certificate is looked at. No name and no password is
ever sent.
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

_SSL_REQUEST = struct.pack(">II", 8, 80877103)
_TIMEOUT_SECONDS = 5.0


def objection(url: str) -> str:
    """Why the certificate of the server at ``url`` is not trusted; empty where nobody can say."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        return ""
    host, port = str(given.get("host", "")), str(given.get("port", "5432"))
    address = str(given.get("hostaddr") or host)
    authority = str(given.get("sslrootcert") or Path("~/.postgresql/root.crt").expanduser())
    if "," in address or not port.isdigit() or not address or address.startswith("/"):
        return ""
    try:
        trust = ssl.create_default_context(cafile=None if authority == "system" else authority)
        trust.check_hostname = False
        with socket.create_connection((address, int(port)), _TIMEOUT_SECONDS) as connection:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                return ""
            with trust.wrap_socket(connection, server_hostname=host or None):
                return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, ValueError):
        return ""
