//! Data in, data out.
