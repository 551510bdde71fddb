//! Selectors: which messages a consumer wants, in the SQL-92 subset of JMS 2.0, section 3.8.1.
//!
//! A text is parsed once, into a tree that is bounded in size and depth; an error names the column and what was
//! expected there. A message is looked at where it is stored: one pass over its properties, no allocation, a bounded
//! number of steps. Logic has three values: what is compared with an absent property is *unknown*, and only a
//! selector that is *true* selects. What the language means is in `docs/selectors.md`.

mod evaluate;
mod expression;
mod lexer;
mod like;
mod parser;
#[cfg(test)]
mod tests;
mod truth;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use expression::Expression;
pub use truth::Truth;

use crate::limits::SELECTOR_BYTES_MAX;
use crate::{MessagePosition, MessageView};

/// A selector, ready to be asked. Cloning shares it.
#[derive(Clone, PartialEq)]
pub struct Selector(Arc<Parsed>);

#[derive(Debug, PartialEq)]
struct Parsed {
    text: Box<str>,
    /// The names that the expression asks for, by the index under which it does.
    names: Vec<Box<str>>,
    expression: Expression,
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// More bytes than a selector may have.
    #[error("selector has {bytes} bytes; at most {SELECTOR_BYTES_MAX} are allowed")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// Something else was expected.
    #[error("selector is invalid at column {column}: expected {expected}, found {found}")]
    Syntax {
        /// Where, in characters from 1.
        column: usize,
        /// What could be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// It asks for something that selectors cannot have.
    #[error("selector is invalid at column {column}: {reason}")]
    Refused {
        /// Where, in characters from 1.
        column: usize,
        /// What and why.
        reason: &'static str,
    },
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// When the text is none; the error names the column.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (names, expression) = parser::parse(text)?;
        Ok(Self(Arc::new(Parsed {
            text: text.into(),
            names,
            expression,
        })))
    }

    /// Reads a selector that may be absent: an empty text, or one of spaces, selects everything, as in JMS.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_optional(text: &str) -> Result<Option<Self>, SelectorError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::parse(text).map(Some)
    }

    /// The text that was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether the message at `position`, in its stored encoding, is selected. Bytes that are no message are not.
    #[must_use]
    pub fn selects(&self, position: MessagePosition, message: &[u8]) -> bool {
        MessageView::new(message).is_some_and(|view| self.evaluate(position, &view) == Truth::True)
    }

    /// What the selector says of a message.
    #[must_use]
    pub fn evaluate(&self, position: MessagePosition, view: &MessageView<'_>) -> Truth {
        evaluate::evaluate(&self.0.names, &self.0.expression, position, view)
    }

    /// Of a page of messages, those that are selected; what moves, copies, retries and browses works on those.
    pub fn select_page<'a>(
        &'a self,
        page: &'a [(MessagePosition, Bytes)],
    ) -> impl Iterator<Item = MessagePosition> + 'a {
        page.iter()
            .filter(|(position, message)| self.selects(*position, message))
            .map(|(position, _)| *position)
    }
}

/// The expression in its normal form: the same for texts that differ in spaces, in the case of keywords and in needless
/// parentheses.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expression.write(&self.0.names, f)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({:?})", self.text())
    }
}

/// Two selectors are the same when they were written the same.
impl Eq for Selector {}
