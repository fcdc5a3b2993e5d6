"""Places for finished rows: one file or package a kind, behind the Protocol `Sink`."""

BUILT_IN = {  # in the order in which commits fill them
    "milvus": "ingestlab.sinks.milvus.sink:Vectors",
    "mongodb": "ingestlab.sinks.mongodb.sink:MongoDocuments",
    # catalogues take files out before `parquet` deletes them
    "delta": "ingestlab.sinks.catalogues.delta:DeltaSink",
    "iceberg": "ingestlab.sinks.catalogues.iceberg:IcebergSink",
    "glue": "ingestlab.sinks.catalogues.glue:GlueSink",
    "parquet": "ingestlab.sinks.parquet:TableFiles",
    "rejects": "ingestlab.sinks.rejects:Rejects",
    "aggregates": "ingestlab.sinks.aggregates:Aggregates",
}
