"""The lake: the durable truth, in Iceberg tables of Parquet files that anyone can read.

``tables.py`` commits to one table, ``lake.py`` opens them, ``objects.py`` keeps the files (a folder
or an S3 bucket). What is written when stands in ``writer.py``; who may write, in ``holder.py``.
"""
