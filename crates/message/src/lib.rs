//! The neutral message, destination names, and the one stored encoding.
