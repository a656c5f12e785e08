"""Copy, mirror and compare databases, and export tables, views and queries to files.

In: a database, and what to read of it. Out: another database, or CSV, JSON, Parquet and SQLite.
"""

from receiver.transfer.comparing import Comparison, compare
from receiver.transfer.copying import Copied, Step, copy, mirror
from receiver.transfer.exporting import FORMATS, Export, export
from receiver.transfer.partitions import Partitioned, export_partitions, has_private_columns

__all__ = [
    "FORMATS",
    "Comparison",
    "Copied",
    "Export",
    "Partitioned",
    "Step",
    "compare",
    "copy",
    "export",
    "export_partitions",
    "has_private_columns",
    "mirror",
]
