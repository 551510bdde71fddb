//! Coordinator: membership, election and topology.
