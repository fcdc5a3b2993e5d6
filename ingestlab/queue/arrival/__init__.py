"""How files announce themselves: by events, and by a listing."""

BUILT_IN = {  # by the scheme of the address
    "file": "ingestlab.queue.arrival.folder:FolderFeed",
    "pubsub": "ingestlab.queue.arrival.pubsub:PubSubFeed",
    "sqs": "ingestlab.queue.arrival.sqs:SqsFeed",
}
