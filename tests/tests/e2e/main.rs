//! End to end: real processes, real clients, real kills. One binary, because linking is the cost.

mod clients;
mod hostile;
mod services;
mod tool;
