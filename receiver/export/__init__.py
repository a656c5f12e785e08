"""Writing what is stored to files that other programs read."""

from receiver.export.exporting import FORMATS, Export, export

__all__ = ["FORMATS", "Export", "export"]
