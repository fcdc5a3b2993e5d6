"""Readers: one file or package a format."""

BUILT_IN = {
    "csv": "ingestlab.formats.csv.reader:Csv",
    "json": "ingestlab.formats.json.reader:JsonLines",
    "parquet": "ingestlab.formats.parquet.reader:Parquet",
    "lines": "ingestlab.formats.lines:Lines",
    "text": "ingestlab.formats.text:Text",
    "html": "ingestlab.formats.html:Html",
    "images": "ingestlab.formats.images:Images",
    "objects": "ingestlab.formats.objects:Objects",
    "archive": "ingestlab.formats.archive:Archive",
}
