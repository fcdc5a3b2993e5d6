"""What stays with us in Redis where a broker only carries messages: jobs, their states and delays, and workers."""
