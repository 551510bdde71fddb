//! Catching up by checkpoint: a follower that is behind the start of the leader's log gets the leader's newest
//! checkpoint and every live entry that it stands for, and takes appends after it from then on.
//!
//! The leader's side is `Sender`, one `Transfer` for each follower: chunks in a window, sent again from the first one
//! that is not answered. The follower's side is `Receiver`: chunks in order, staged beside its log, and switched to
//! at the end in one step. A transfer names the claim under which it is sent; a higher promise ends it. Nothing is
//! counted for a commit until the follower answers appends after the checkpoint.

mod receiver;
mod sender;
mod stream;

pub(crate) use receiver::{Answer, Received, Receiver};
pub(crate) use sender::{Sender, Wanted};
