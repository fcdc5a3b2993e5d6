"""Downloads: one file or package a family of URI schemes."""

BUILT_IN = {
    "http": "ingestlab.sources.http.source:HttpSource",
    "filesystems": "ingestlab.sources.filesystems:FileSource",
    "frames": "ingestlab.sources.frames:FrameSource",
    "records": "ingestlab.sources.records:RecordUris",
}
