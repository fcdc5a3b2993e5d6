"""Amazon SQS as the queue of jobs. It carries messages; what a job is stays with us in Redis."""
