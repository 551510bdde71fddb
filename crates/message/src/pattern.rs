//! Patterns of destination names, as ActiveMQ writes them: elements split by `.`, of which `*` is any one element and
//! `>`, at the end, any number of them, none included. Matching is linear in the name.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::DestinationName;
use crate::destination::DestinationError;
use crate::destination::check_text;

/// Any one element.
const ONE: &str = "*";

/// Any elements to the end of the name.
const REST: &str = ">";

/// A checked pattern. It has the bounds of a name; a pattern without wildcard is a name and matches that one alone.
/// Cloning shares the text. Patterns sort by their text; [`Pattern::by_specificity`] is the order of precedence.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It breaks a rule that names have as well.
    #[error("pattern is no name with wildcards: {0}")]
    Name(#[from] DestinationError),
    /// `>` stands before another element.
    #[error("pattern has elements behind `>`; it stands for all that follow and comes last")]
    RestNotLast,
}

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// When it breaks one of the rules of the type.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        check_text(text)?;
        let mut elements = text.split('.');
        if elements.any(|element| element == REST) && elements.next().is_some() {
            return Err(PatternError::RestNotLast);
        }
        Ok(Self(Arc::from(text)))
    }

    /// The pattern that matches this name alone.
    #[must_use]
    pub fn exact(name: &DestinationName) -> Self {
        Self(Arc::from(name.as_str()))
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds no wildcard.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.elements()
            .all(|element| element != ONE && element != REST)
    }

    /// The one name that it matches, if it holds no wildcard.
    #[must_use]
    pub fn as_name(&self) -> Option<DestinationName> {
        DestinationName::new(self.as_str()).ok()
    }

    /// Whether it matches the name. `orders.>` matches `orders` as well, as in ActiveMQ.
    #[must_use]
    pub fn matches(&self, name: &DestinationName) -> bool {
        let mut parts = name.as_str().split('.');
        for element in self.elements() {
            if element == REST {
                return true;
            }
            match parts.next() {
                Some(part) if element == ONE || element == part => {}
                Some(_) | None => return false,
            }
        }
        parts.next().is_none()
    }

    /// Whether it matches every name that the other one matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.elements().peekable();
        for element in self.elements() {
            if element == REST {
                return true;
            }
            match theirs.next() {
                Some(REST) | None => return false,
                Some(other) if element == ONE || element == other => {}
                Some(_) => return false,
            }
        }
        theirs.next().is_none()
    }

    /// The order of precedence, most specific first: at the first element that differs in kind a name comes before
    /// `*`, and `*` before `>`; a pattern that goes on comes before one that has ended. Equals are sorted by text.
    #[must_use]
    pub fn by_specificity(&self, other: &Self) -> Ordering {
        let (mut ours, mut theirs) = (self.elements(), other.elements());
        loop {
            let (left, right) = (ours.next(), theirs.next());
            if left.is_none() && right.is_none() {
                return self.0.cmp(&other.0);
            }
            match rank(left).cmp(&rank(right)) {
                Ordering::Equal => {}
                different @ (Ordering::Less | Ordering::Greater) => return different,
            }
        }
    }

    fn elements(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

/// Lower is more specific. `orders` is more specific than `orders.>`, which it cannot be told from by its elements.
fn rank(element: Option<&str>) -> u8 {
    match element {
        Some(ONE) => 2,
        Some(REST) => 3,
        Some(_) => 0,
        None => 1,
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let name = DestinationName::new(name).expect("a name");
        Pattern::new(pattern).expect("a pattern").matches(&name)
    }

    #[test]
    fn a_pattern_covers_what_it_matches_whole() {
        let covers = |wide: &str, narrow: &str| {
            let pattern = |text| Pattern::new(text).expect("a pattern");
            pattern(wide).covers(&pattern(narrow))
        };
        for (wide, narrow) in [
            (">", "a.*"),
            ("a.>", "a.>"),
            ("a.>", "a"),
            ("a.>", "a.b.*.>"),
            ("a.*", "a.b"),
            ("*.b", "a.b"),
            ("a.b", "a.b"),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
        }
        for (wide, narrow) in [
            ("a.*", "a.>"),
            ("a.b", "a.*"),
            ("a.b.>", "a.>"),
            ("a", "a.>"),
            ("a.b", "a"),
            ("*", "a.b"),
        ] {
            assert!(!covers(wide, narrow), "{wide} does not cover {narrow}");
        }
    }

    #[test]
    fn wildcards_match_as_in_activemq() {
        for (pattern, name) in [
            ("orders", "orders"),
            ("orders.>", "orders"),
            ("orders.>", "orders.eu"),
            ("orders.>", "orders.eu.berlin"),
            ("orders.*", "orders.eu"),
            ("*.eu", "orders.eu"),
            ("*.*.>", "orders.eu"),
            (">", "anything.at.all"),
            ("a*", "a*"),
        ] {
            assert!(matches(pattern, name), "{pattern} matches {name}");
        }
        for (pattern, name) in [
            ("orders", "orders.eu"),
            ("orders.eu", "orders"),
            ("orders.*", "orders"),
            ("orders.*", "orders.eu.berlin"),
            ("orders.>", "orderly"),
            ("*", "orders.eu"),
            ("*.*.>", "orders"),
            ("a*", "ab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} does not match {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(Pattern::new(">.a"), Err(PatternError::RestNotLast));
        assert_eq!(Pattern::new("a.>.>"), Err(PatternError::RestNotLast));
        for text in ["", " a", "a,b", "a\n", &"x".repeat(256)] {
            assert!(
                matches!(Pattern::new(text), Err(PatternError::Name(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_most_specific_comes_first() {
        let sorted = [
            "orders.eu.berlin",
            "orders.eu",
            "orders.eu.>",
            "orders",
            "orders.*.berlin",
            "orders.*",
            "orders.*.>",
            "orders.>",
            "*.eu",
            "*",
            ">",
        ];
        let mut patterns: Vec<Pattern> = sorted
            .iter()
            .rev()
            .map(|text| Pattern::new(text).expect("a pattern"))
            .collect();
        patterns.sort_by(Pattern::by_specificity);
        let texts: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
        assert_eq!(texts, sorted);
    }
}
