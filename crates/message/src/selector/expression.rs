//! The tree of a selector, and how it is written back.
//!
//! Chains (`a AND b AND c`, `1 + 2 + 3`) are lists, so that the depth of the tree follows the nesting in the text, which
//! the parser bounds, and not its length.

use std::fmt::{self, Write};

use super::lexer::is_plain_name;
use super::like::Pattern;

/// Names that an expression asks for, by their index in the selector's table.
pub(super) type NameIndex = u8;

/// An expression or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Text(Box<str>),
    Long(i64),
    Double(f64),
    Boolean(bool),
    Name(NameIndex),
    Negate(Box<Self>),
    /// Operators of one rank, from left to right.
    Arithmetic(Box<Self>, Vec<(Operator, Self)>),
    Compare(Box<Self>, Comparison, Box<Self>),
    Between {
        value: Box<Self>,
        low: Box<Self>,
        high: Box<Self>,
        negated: bool,
    },
    In {
        name: NameIndex,
        /// Ascending, without repeats.
        list: Vec<Box<str>>,
        negated: bool,
    },
    Like {
        name: NameIndex,
        pattern: Pattern,
        negated: bool,
    },
    IsNull {
        name: NameIndex,
        negated: bool,
    },
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// Arithmetic on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What is known of an expression's value from its text alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A property: what it holds is seen in the message.
    Any,
    Text,
    Number,
    Boolean,
}

/// How tightly an expression holds together, loosest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Or,
    And,
    Not,
    Predicate,
    Sum,
    Product,
    Sign,
}

impl Operator {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    fn rank(self) -> Rank {
        match self {
            Self::Add | Self::Subtract => Rank::Sum,
            Self::Multiply | Self::Divide | Self::Remainder => Rank::Product,
        }
    }
}

impl Comparison {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Expression {
    /// What its value is, as far as the text tells.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Name(_) => Kind::Any,
            Self::Text(_) => Kind::Text,
            Self::Long(_) | Self::Double(_) | Self::Negate(_) | Self::Arithmetic(..) => {
                Kind::Number
            }
            Self::Boolean(_)
            | Self::Compare(..)
            | Self::Between { .. }
            | Self::In { .. }
            | Self::Like { .. }
            | Self::IsNull { .. }
            | Self::Not(_)
            | Self::And(_)
            | Self::Or(_) => Kind::Boolean,
        }
    }

    fn rank(&self) -> Rank {
        match self {
            Self::Or(_) => Rank::Or,
            Self::And(_) => Rank::And,
            Self::Not(_) => Rank::Not,
            Self::Compare(..)
            | Self::Between { .. }
            | Self::In { .. }
            | Self::Like { .. }
            | Self::IsNull { .. } => Rank::Predicate,
            Self::Arithmetic(_, rest) => rest.first().map_or(Rank::Sum, |(first, _)| first.rank()),
            Self::Negate(_)
            | Self::Text(_)
            | Self::Long(_)
            | Self::Double(_)
            | Self::Boolean(_)
            | Self::Name(_) => Rank::Sign,
        }
    }

    /// Writes the expression so that it is read as the same again, with no parenthesis that is not needed.
    pub(super) fn write(&self, names: &[Box<str>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write_text(text, f),
            Self::Long(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Boolean(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Self::Name(name) => write_name(&names[usize::from(*name)], f),
            Self::Negate(inner) => {
                f.write_str("- ")?;
                inner.write_within(Rank::Sign, names, f)
            }
            Self::Arithmetic(first, rest) => {
                first.write_within(self.rank(), names, f)?;
                rest.iter().try_for_each(|(operator, operand)| {
                    write!(f, " {} ", operator.symbol())?;
                    operand.write_within(above(operator.rank()), names, f)
                })
            }
            Self::Compare(left, comparison, right) => {
                left.write_within(Rank::Sum, names, f)?;
                write!(f, " {} ", comparison.symbol())?;
                right.write_within(Rank::Sum, names, f)
            }
            Self::Between { .. } | Self::In { .. } | Self::Like { .. } | Self::IsNull { .. } => {
                self.write_predicate(names, f)
            }
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                inner.write_within(Rank::Not, names, f)
            }
            Self::And(parts) => write_joined(parts.iter(), " AND ", f, |part, f| {
                part.write_within(Rank::Not, names, f)
            }),
            Self::Or(parts) => write_joined(parts.iter(), " OR ", f, |part, f| {
                part.write_within(Rank::And, names, f)
            }),
        }
    }

    fn write_predicate(&self, names: &[Box<str>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between {
                value,
                low,
                high,
                negated,
            } => {
                value.write_within(Rank::Sum, names, f)?;
                f.write_str(if *negated {
                    " NOT BETWEEN "
                } else {
                    " BETWEEN "
                })?;
                low.write_within(Rank::Sum, names, f)?;
                f.write_str(" AND ")?;
                high.write_within(Rank::Sum, names, f)
            }
            Self::In {
                name,
                list,
                negated,
            } => {
                write_name(&names[usize::from(*name)], f)?;
                f.write_str(if *negated { " NOT IN (" } else { " IN (" })?;
                write_joined(list.iter(), ", ", f, |text, f| write_text(text, f))?;
                f.write_char(')')
            }
            Self::Like {
                name,
                pattern,
                negated,
            } => {
                write_name(&names[usize::from(*name)], f)?;
                f.write_str(if *negated { " NOT LIKE " } else { " LIKE " })?;
                write_text(pattern.text(), f)?;
                pattern.escape().map_or(Ok(()), |escape| {
                    f.write_str(" ESCAPE ")?;
                    write_text(escape.encode_utf8(&mut [0; 4]), f)
                })
            }
            Self::IsNull { name, negated } => {
                write_name(&names[usize::from(*name)], f)?;
                f.write_str(if *negated { " IS NOT NULL" } else { " IS NULL" })
            }
            Self::Text(_)
            | Self::Long(_)
            | Self::Double(_)
            | Self::Boolean(_)
            | Self::Name(_)
            | Self::Negate(_)
            | Self::Arithmetic(..)
            | Self::Compare(..)
            | Self::Not(_)
            | Self::And(_)
            | Self::Or(_) => unreachable!("only predicates are written here"),
        }
    }

    fn write_within(
        &self,
        least: Rank,
        names: &[Box<str>],
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        if self.rank() >= least {
            return self.write(names, f);
        }
        f.write_char('(')?;
        self.write(names, f)?;
        f.write_char(')')
    }
}

/// The rank that an operand right of an operator needs: of equal ones the left binds first.
fn above(rank: Rank) -> Rank {
    match rank {
        Rank::Or => Rank::And,
        Rank::And => Rank::Not,
        Rank::Not => Rank::Predicate,
        Rank::Predicate => Rank::Sum,
        Rank::Sum => Rank::Product,
        Rank::Product | Rank::Sign => Rank::Sign,
    }
}

fn write_joined<T>(
    mut parts: impl Iterator<Item = T>,
    between: &str,
    f: &mut fmt::Formatter<'_>,
    write: impl Fn(T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if let Some(first) = parts.next() {
        write(first, f)?;
    }
    parts.try_for_each(|part| {
        f.write_str(between)?;
        write(part, f)
    })
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "'{}'", text.replace('\'', "''"))
}

fn write_name(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if is_plain_name(name) {
        f.write_str(name)
    } else {
        write!(f, "\"{}\"", name.replace('"', "\"\""))
    }
}
