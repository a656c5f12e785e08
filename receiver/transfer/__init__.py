"""Writing what is stored to files that other programs read."""

from receiver.transfer.exporting import FORMATS, Export, export
from receiver.transfer.partitions import Partitioned, export_partitions

__all__ = ["FORMATS", "Export", "Partitioned", "export", "export_partitions"]
