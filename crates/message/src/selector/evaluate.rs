//! What a selector says of one message.
//!
//! The values of all names are found in one pass over the message's properties; they stay where they are stored.
//! Values of unlike types are never equal and never unequal: comparing them is false, as JMS says. An absent value makes
//! what needs it unknown. Arithmetic that has no result (division by zero, beyond 64 bits, on what is no number) is
//! an absent value.

use std::cmp::Ordering;

use super::expression::{Comparison, Expression, NameIndex, Operator};
use super::truth::Truth;
use crate::limits::{SELECTOR_NAMES_MAX, SELECTOR_STEPS_MAX};
use crate::{MessagePosition, MessageView, ValueRef};

/// A value, where it is stored.
#[derive(Clone, Copy, Debug)]
enum Scalar<'a> {
    Absent,
    Boolean(bool),
    Text(&'a str),
    Long(i64),
    Double(f64),
    /// Something that no literal is like.
    Binary,
}

/// Steps that an evaluation may take, so that no selector and no message holds a shard up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u64,
    is_spent: bool,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            left: SELECTOR_STEPS_MAX,
            is_spent: false,
        }
    }

    /// Takes steps; none when there are not so many left.
    pub(super) fn spend(&mut self, steps: u64) -> Option<()> {
        let left = self.left.checked_sub(steps);
        self.is_spent |= left.is_none();
        self.left = left.unwrap_or(0);
        left.map(|_| ())
    }
}

/// Evaluates an expression over the names that it asks for. What takes too many steps is unknown.
pub(super) fn evaluate(
    names: &[Box<str>],
    expression: &Expression,
    position: MessagePosition,
    view: &MessageView<'_>,
) -> Truth {
    let mut values = [Scalar::Absent; SELECTOR_NAMES_MAX];
    find_values(names, position, view, &mut values);
    let mut evaluation = Evaluation {
        values: &values,
        budget: Budget::new(),
    };
    let truth = evaluation.truth(expression);
    if evaluation.budget.is_spent {
        return Truth::Unknown;
    }
    truth
}

/// Names of header fields that a selector can ask for. JMSType is a property.
fn header<'a>(name: &str, position: MessagePosition, view: &MessageView<'a>) -> Option<Scalar<'a>> {
    let text = |text: &'a str| {
        if text.is_empty() {
            Scalar::Absent
        } else {
            Scalar::Text(text)
        }
    };
    let time = |time: u64| match i64::try_from(time) {
        Ok(0) | Err(_) => Scalar::Absent,
        Ok(time) => Scalar::Long(time),
    };
    Some(match name {
        "JMSMessageID" => text(view.id),
        "JMSCorrelationID" => text(view.correlation_id),
        "JMSReplyTo" => text(view.reply_to),
        "JMSPriority" => Scalar::Long(i64::from(view.priority)),
        "JMSTimestamp" => time(view.timestamp_ms),
        "JMSExpiration" => time(view.expires_at_ms),
        "JMSDeliveryMode" if position.is_transient() => Scalar::Text("NON_PERSISTENT"),
        "JMSDeliveryMode" => Scalar::Text("PERSISTENT"),
        _ => return None,
    })
}

fn find_values<'a>(
    names: &[Box<str>],
    position: MessagePosition,
    view: &MessageView<'a>,
    values: &mut [Scalar<'a>; SELECTOR_NAMES_MAX],
) {
    let mut wanted = 0_u64;
    for (place, name) in names.iter().enumerate() {
        match header(name, position, view) {
            Some(value) => values[place] = value,
            None => wanted |= 1 << place,
        }
    }
    if wanted == 0 {
        return;
    }
    for (name, value) in view.properties() {
        let place = names.iter().position(|other| **other == *name);
        // The first of a name counts.
        let Some(place) = place.filter(|place| wanted >> place & 1 == 1) else {
            continue;
        };
        values[place] = match value {
            ValueRef::Null => Scalar::Absent,
            ValueRef::Boolean(value) => Scalar::Boolean(value),
            ValueRef::Int(value) => Scalar::Long(i64::from(value)),
            ValueRef::Long(value) => Scalar::Long(value),
            ValueRef::Double(value) => Scalar::Double(value),
            ValueRef::Text(text) => Scalar::Text(text),
            ValueRef::Binary(_) => Scalar::Binary,
        };
        wanted &= !(1 << place);
        if wanted == 0 {
            return;
        }
    }
}

struct Evaluation<'v, 'a> {
    values: &'v [Scalar<'a>; SELECTOR_NAMES_MAX],
    budget: Budget,
}

impl<'v, 'a: 'v> Evaluation<'v, 'a> {
    fn name(&self, name: NameIndex) -> Scalar<'a> {
        self.values[usize::from(name)]
    }

    /// The truth of a condition. A property that is no boolean is neither true nor false.
    fn truth(&mut self, expression: &'v Expression) -> Truth {
        match expression {
            Expression::Boolean(value) => Truth::known(*value),
            Expression::Name(name) => match self.name(*name) {
                Scalar::Boolean(value) => Truth::known(value),
                Scalar::Absent
                | Scalar::Text(_)
                | Scalar::Long(_)
                | Scalar::Double(_)
                | Scalar::Binary => Truth::Unknown,
            },
            Expression::Compare(left, comparison, right) => {
                let left = self.value(left);
                let right = self.value(right);
                self.compare(left, *comparison, right)
            }
            Expression::Between {
                value,
                low,
                high,
                negated,
            } => self.between(value, low, high, *negated),
            Expression::In {
                name,
                list,
                negated,
            } => self.is_in(*name, list).not_if(*negated),
            Expression::Like {
                name,
                pattern,
                negated,
            } => {
                let truth = match self.name(*name) {
                    Scalar::Absent => Truth::Unknown,
                    Scalar::Text(text) => pattern
                        .fits(text, &mut self.budget)
                        .map_or(Truth::Unknown, Truth::known),
                    Scalar::Boolean(_) | Scalar::Long(_) | Scalar::Double(_) | Scalar::Binary => {
                        Truth::False
                    }
                };
                truth.not_if(*negated)
            }
            Expression::IsNull { name, negated } => {
                let is_absent = matches!(self.name(*name), Scalar::Absent);
                Truth::known(is_absent != *negated)
            }
            Expression::Not(inner) => self.truth(inner).not(),
            Expression::And(parts) => self.fold(parts, Truth::True, Truth::False, Truth::and),
            Expression::Or(parts) => self.fold(parts, Truth::False, Truth::True, Truth::or),
            Expression::Text(_)
            | Expression::Long(_)
            | Expression::Double(_)
            | Expression::Negate(_)
            | Expression::Arithmetic(..) => {
                unreachable!("the parser refuses a text or a number as a condition")
            }
        }
    }

    /// Joins parts until one settles it.
    fn fold(
        &mut self,
        parts: &'v [Expression],
        first: Truth,
        settled: Truth,
        join: fn(Truth, Truth) -> Truth,
    ) -> Truth {
        let mut truth = first;
        for part in parts {
            truth = join(truth, self.truth(part));
            if truth == settled {
                break;
            }
        }
        truth
    }

    fn value(&mut self, expression: &'v Expression) -> Scalar<'v> {
        match expression {
            Expression::Text(text) => Scalar::Text(text),
            Expression::Long(value) => Scalar::Long(*value),
            Expression::Double(value) => Scalar::Double(*value),
            Expression::Name(name) => self.name(*name),
            Expression::Negate(inner) => match self.value(inner) {
                Scalar::Long(value) => value.checked_neg().map_or(Scalar::Absent, Scalar::Long),
                Scalar::Double(value) => Scalar::Double(-value),
                Scalar::Absent | Scalar::Boolean(_) | Scalar::Text(_) | Scalar::Binary => {
                    Scalar::Absent
                }
            },
            Expression::Arithmetic(first, rest) => {
                let first = self.value(first);
                rest.iter().fold(first, |left, (operator, operand)| {
                    let right = self.value(operand);
                    calculate(left, *operator, right)
                })
            }
            Expression::Boolean(_)
            | Expression::Compare(..)
            | Expression::Between { .. }
            | Expression::In { .. }
            | Expression::Like { .. }
            | Expression::IsNull { .. }
            | Expression::Not(_)
            | Expression::And(_)
            | Expression::Or(_) => match self.truth(expression) {
                Truth::False => Scalar::Boolean(false),
                Truth::Unknown => Scalar::Absent,
                Truth::True => Scalar::Boolean(true),
            },
        }
    }

    fn compare(&mut self, left: Scalar<'_>, comparison: Comparison, right: Scalar<'_>) -> Truth {
        match (left, right) {
            (Scalar::Absent, _) | (_, Scalar::Absent) => Truth::Unknown,
            (Scalar::Long(left), Scalar::Long(right)) => {
                ordered(Some(left.cmp(&right)), comparison)
            }
            (Scalar::Long(_) | Scalar::Double(_), Scalar::Long(_) | Scalar::Double(_)) => {
                ordered(as_double(left).partial_cmp(&as_double(right)), comparison)
            }
            (Scalar::Text(left), Scalar::Text(right)) => {
                let shorter = left.len().min(right.len()) as u64;
                match self.budget.spend(1 + shorter / COMPARED_BYTES_PER_STEP) {
                    Some(()) => equated(left == right, comparison),
                    None => Truth::Unknown,
                }
            }
            (Scalar::Boolean(left), Scalar::Boolean(right)) => equated(left == right, comparison),
            // Unlike types.
            (
                Scalar::Boolean(_)
                | Scalar::Text(_)
                | Scalar::Long(_)
                | Scalar::Double(_)
                | Scalar::Binary,
                _,
            ) => Truth::False,
        }
    }

    /// `a BETWEEN b AND c` is `a >= b AND a <= c`; `a NOT BETWEEN b AND c` is `a < b OR a > c`.
    fn between(
        &mut self,
        value: &'v Expression,
        low: &'v Expression,
        high: &'v Expression,
        negated: bool,
    ) -> Truth {
        let value = self.value(value);
        let (low, high) = (self.value(low), self.value(high));
        if negated {
            let below = self.compare(value, Comparison::Less, low);
            below.or(self.compare(value, Comparison::Greater, high))
        } else {
            let above = self.compare(value, Comparison::GreaterOrEqual, low);
            above.and(self.compare(value, Comparison::LessOrEqual, high))
        }
    }

    fn is_in(&self, name: NameIndex, list: &[Box<str>]) -> Truth {
        match self.name(name) {
            Scalar::Absent => Truth::Unknown,
            Scalar::Text(text) => {
                let found = list.binary_search_by(|other| (**other).cmp(text));
                Truth::known(found.is_ok())
            }
            Scalar::Boolean(_) | Scalar::Long(_) | Scalar::Double(_) | Scalar::Binary => {
                Truth::False
            }
        }
    }
}

/// Bytes of equal texts that are compared in the time of a step.
const COMPARED_BYTES_PER_STEP: u64 = 64;

/// Numbers compare as Java promotes them: an exact one beside an approximate one becomes approximate.
fn ordered(order: Option<Ordering>, comparison: Comparison) -> Truth {
    let holds = match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    };
    Truth::known(holds)
}

/// Texts and booleans have no order.
fn equated(are_equal: bool, comparison: Comparison) -> Truth {
    match comparison {
        Comparison::Equal => Truth::known(are_equal),
        Comparison::NotEqual => Truth::known(!are_equal),
        Comparison::Less
        | Comparison::LessOrEqual
        | Comparison::Greater
        | Comparison::GreaterOrEqual => Truth::False,
    }
}

fn calculate<'a>(left: Scalar<'_>, operator: Operator, right: Scalar<'_>) -> Scalar<'a> {
    match (left, right) {
        (Scalar::Long(left), Scalar::Long(right)) => {
            let result = match operator {
                Operator::Add => left.checked_add(right),
                Operator::Subtract => left.checked_sub(right),
                Operator::Multiply => left.checked_mul(right),
                Operator::Divide => left.checked_div(right),
                Operator::Remainder => left.checked_rem(right),
            };
            result.map_or(Scalar::Absent, Scalar::Long)
        }
        (Scalar::Long(_) | Scalar::Double(_), Scalar::Long(_) | Scalar::Double(_)) => {
            let (left, right) = (as_double(left), as_double(right));
            match operator {
                Operator::Add => Scalar::Double(left + right),
                Operator::Subtract => Scalar::Double(left - right),
                Operator::Multiply => Scalar::Double(left * right),
                Operator::Divide | Operator::Remainder if right == 0.0 => Scalar::Absent,
                Operator::Divide => Scalar::Double(left / right),
                Operator::Remainder => Scalar::Double(left % right),
            }
        }
        (
            Scalar::Absent
            | Scalar::Boolean(_)
            | Scalar::Text(_)
            | Scalar::Long(_)
            | Scalar::Double(_)
            | Scalar::Binary,
            _,
        ) => Scalar::Absent,
    }
}

fn as_double(value: Scalar<'_>) -> f64 {
    match value {
        Scalar::Long(value) => value as f64,
        Scalar::Double(value) => value,
        Scalar::Absent | Scalar::Boolean(_) | Scalar::Text(_) | Scalar::Binary => f64::NAN,
    }
}
