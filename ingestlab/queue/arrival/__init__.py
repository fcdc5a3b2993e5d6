"""How files announce themselves: by events, and by a listing."""

BUILT_IN = {  # by the scheme of the address
    "file": "ingestlab.queue.arrival.folder:FolderFeed",
    "sqs": "ingestlab.queue.arrival.sqs:SqsFeed",
}
