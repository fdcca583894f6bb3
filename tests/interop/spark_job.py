"""Run by the Python of an environment with Spark: statements in, Parquet files out.

Standard input holds JSON: ``catalogs``, addresses of REST catalogs by their names in SQL, and
``statements``, each written into the folder of its name below ``folder``. Why one is refused is
written into ``refused.json``, by its name.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # in its own environment

_JARS = "snowpark_connect_deps_iceberg"
_RUNTIME = "iceberg-spark-runtime-3.5_2.12-*.jar"  # of the Scala that PySpark brings


def main() -> int:
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    spark = _session(request["catalogs"])
    refused = {}
    for name, statement in request["statements"].items():
        try:
            spark.sql(statement).write.parquet(str(folder / name))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            refused[name] = str(error)
    spark.stop()
    (folder / "refused.json").write_text(json.dumps(refused))
    return 0


def _session(catalogs: dict[str, str]) -> SparkSession:
    found = find_spec(_JARS)
    assert found is not None
    assert found.submodule_search_locations is not None
    (jar,) = Path(found.submodule_search_locations[0]).rglob(_RUNTIME)
    settings = {
        "spark.jars": str(jar),
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        # How the answer is written, so that it says what was read:
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    }
    for name, address in catalogs.items():
        settings |= {
            f"spark.sql.catalog.{name}": "org.apache.iceberg.spark.SparkCatalog",
            f"spark.sql.catalog.{name}.type": "rest",
            f"spark.sql.catalog.{name}.uri": address,
        }
    builder = SparkSession.builder.master("local[2]").appName("readers")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


if __name__ == "__main__":
    sys.exit(main())
