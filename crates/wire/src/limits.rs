//! The bounds of this crate, each with its reason.

/// Bytes of an OpenWire frame before the negotiation, its length not counted. That of a real client has 340; the rest
/// is room for long host names and platforms. Nobody has shown any right to more at that point.
pub const NEGOTIATION_BYTES_MAX: usize = 8 * 1024;

/// Bytes of an OpenWire frame between negotiation and login. The largest such command is `ConnectionInfo`, whose three
/// texts are bounded by 65,535 bytes each by their own length fields, and have some hundred in practice.
pub const LOGIN_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an OpenWire frame that we accept after login, and what we offer in the negotiation. The same as in the
/// configuration that ActiveMQ ships with, so that a client sees no difference.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// How deep structures may be nested in a frame. The deepest that a client sends is four: a dispatch with an advisory
/// message with a command with an id.
pub const NESTING_MAX: u8 = 8;

/// Structures in one frame. A message has about ten; a list of prepared transactions is the only command without a
/// natural bound. A structure takes some 350 bytes of memory where it may have seven on the wire, so that this keeps what
/// a frame of nothing else becomes below 32 MiB.
pub const STRUCTURES_MAX: u32 = 65_536;

/// How deep maps and lists of a body or of properties may be nested. The client allows it without a bound, but its own
/// marshaller recurses, and applications nest one or two.
pub const VALUE_NESTING_MAX: u8 = 32;

/// Values in one body or one set of properties, nested ones included. A value takes up to forty times as much memory
/// as the byte that it may have on the wire; this keeps that in the low megabytes.
pub const VALUES_MAX: u32 = 65_536;

/// From so many UTF-16 units on, a text among primitive values is written with a length of four bytes instead of two, as
/// the client does, for which a unit may take three bytes.
pub const LONG_TEXT_UNITS: usize = 8191;
