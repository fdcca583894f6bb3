"""Capture from MySQL and MariaDB: tables read in parts, beside their binary log in rows."""

from upwell.sources.mysql.source import MySQLSource

__all__ = ["MySQLSource"]
