//! Elections, step by step.
