//! What a record of a command may say, by itself.

use super::{is_relocated, is_scheduled, settlement};
use crate::layout::{
    CHECKPOINT, CONFIGURE, DELETE, PAUSE, PUBLISH, PUBLISH_FLAGS, PURGE, REGISTER, RELOCATE,
    Record, SETTLE, SKIP, SUBSCRIBE, TICK, TRANSFER, TRANSFERRED, UNSUBSCRIBE,
};
use crate::limits::PRIORITY_MAX;
use crate::{MessagePosition, MoveReason, gateway, relocation};

/// Checks what a publish says by itself.
fn check_publish(record: &Record, is_transient: bool) -> Result<(), &'static str> {
    if record.first == 0 {
        return Err("number");
    }
    if record.detail > PRIORITY_MAX {
        return Err("priority");
    }
    if record.flags & !PUBLISH_FLAGS != 0 {
        return Err("flags");
    }
    if is_transient && is_scheduled(record) {
        return Err("schedule");
    }
    if is_relocated(record) && (is_transient || is_scheduled(record)) {
        return Err("relocation");
    }
    Ok(())
}

/// Checks a record of what comes or goes, and clears what it uses.
fn check_coming(record: &Record, rest: &mut Record) -> Result<(), &'static str> {
    match record.kind {
        SUBSCRIBE => {
            (rest.destination, rest.first) = (0, 0);
            (rest.offset, rest.length) = (0, 0);
        }
        UNSUBSCRIBE if record.detail == 1 => {
            (rest.detail, rest.destination, rest.producer, rest.first) = (0, 0, 0, 0);
        }
        UNSUBSCRIBE | REGISTER => (rest.destination, rest.first) = (0, 0),
        DELETE if record.detail > 1 => return Err("detail"),
        DELETE => (rest.detail, rest.destination) = (0, 0),
        _ => {
            if MessagePosition::from_value(record.second).is_transient() {
                return Err("position");
            }
            (rest.destination, rest.first, rest.second) = (0, 0, 0);
            (rest.offset, rest.length) = (0, 0);
        }
    }
    Ok(())
}

/// Checks what a record says by itself, and that what its kind does not use is zero.
pub(super) fn check_fields(record: &Record, is_transient: bool) -> Result<(), &'static str> {
    let mut rest = *record;
    match record.kind {
        PUBLISH => return check_publish(record, is_transient),
        SETTLE => {
            settlement(record.detail).ok_or("settlement")?;
            if MessagePosition::from_value(record.first).is_transient() != is_transient {
                return Err("position");
            }
            (rest.detail, rest.destination, rest.first) = (0, 0, 0);
        }
        PURGE if is_transient => return Err("kind"),
        PURGE => rest.destination = 0,
        CONFIGURE | PAUSE if is_transient => return Err("kind"),
        CONFIGURE => (rest.first, rest.offset, rest.length) = (0, 0, 0),
        PAUSE => {
            if !matches!(record.detail, 1 | 2) {
                return Err("detail");
            }
            (rest.detail, rest.destination) = (0, 0);
        }
        TRANSFER | TRANSFERRED if is_transient => return Err("kind"),
        TRANSFER => {
            MoveReason::from_code(record.detail).ok_or("reason")?;
            if MessagePosition::from_value(record.first).is_transient() {
                return Err("position");
            }
            (rest.detail, rest.destination, rest.producer, rest.first) = (0, 0, 0, 0);
            if record.detail == MoveReason::Relocated.code() {
                rest.second = 0;
            }
        }
        TRANSFERRED => {
            if record.first == 0 || record.first > record.second {
                return Err("numbers");
            }
            (rest.destination, rest.first, rest.second) = (0, 0, 0);
        }
        SUBSCRIBE | UNSUBSCRIBE | REGISTER | SKIP | DELETE if is_transient => return Err("kind"),
        SUBSCRIBE | UNSUBSCRIBE | REGISTER | SKIP | DELETE => check_coming(record, &mut rest)?,
        CHECKPOINT if is_transient => return Err("kind"),
        CHECKPOINT => match record.detail {
            0 => {}
            1 => (rest.detail, rest.first, rest.second) = (0, 0, 0),
            _ => return Err("detail"),
        },
        TICK if is_transient => return Err("kind"),
        TICK => rest.first = 0,
        RELOCATE => relocation::check(&mut rest, is_transient)?,
        kind if gateway::is_about(kind) => gateway::check(&mut rest, is_transient)?,
        _ => return Err("kind"),
    }
    rest.kind = 0;
    if rest == Record::default() {
        Ok(())
    } else {
        Err("unused field")
    }
}
