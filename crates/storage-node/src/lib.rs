//! Storage node: replicates shards by quorum and runs their queues.
